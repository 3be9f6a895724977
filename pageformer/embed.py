"""Keep a column of vectors up to date: batch by batch, each a transaction, by several connections.

One connection looks for rows that wait and cuts them into ranges of the primary key; workers encode
a range in one statement that locks its rows, writes their vectors and remembers the version. So
whatever stops the work loses at most the batches in flight, and running it again goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

import psycopg

from pageformer import client
from pageformer.embedded_column import QUERIES, Column, Request, partitions, prepare
from pageformer.errors import ServerUnready

Key = list[str]
Progress = Callable[[int, int], None]  # texts done, in all


@dataclass(frozen=True)
class Range:
    """Rows after one key, up to and with another, of a table or of one partition."""

    column: Column
    after: Key | None
    until: Key

    def __str__(self) -> str:
        after, until = (", ".join(map(str, key or ["nothing"])) for key in (self.after, self.until))
        return f"the rows of {self.column.name} after {after}, up to {until}"

    def parameters(self, *own: object) -> list[object]:
        """List the parameters of a statement about these rows: `own` from `$4`, then keys."""
        nowhere: list[str | None] = [None] * len(self.until)
        first: list[object] = [self.column.id, self.column.version, self.after is None]
        return [*first, *own, *(self.after or nowhere), *self.until]


def embed(
    dsn: str | None,
    request: Request,
    *,
    workers: int = 1,
    batch: int = 256,
    progress: Progress = lambda done, total: None,
    warn: Callable[[str], None] = lambda text: None,
) -> int:
    """Encode every row that has no vector of the deployed version, and count them.

    Raises InvalidInput or UnknownName for a table, column or model that cannot be embedded, and
    ServerUnready when the server goes away; what was committed stays.
    """
    told: set[str] = set()

    def tell_once(diagnostic: psycopg.errors.Diagnostic) -> None:
        message = diagnostic.message_primary or ""
        if diagnostic.severity_nonlocalized == "WARNING" and message not in told:
            told.add(message)
            warn(message)

    with ExitStack() as stack:
        finder = stack.enter_context(connected(dsn, tell_once))
        column = prepare(finder, request)
        pool = [stack.enter_context(connected(dsn, tell_once)) for _ in range(workers)]
        with client.needs_pageformer(), told_as_ours():
            return _run(finder, pool, column, batch, progress)


# -- the work -------------------------------------------------------------------------------------


def _run(
    finder: client.Connection,
    pool: Sequence[client.Connection],
    column: Column,
    batch: int,
    progress: Progress,
) -> int:
    """Hand ranges to workers, never more than they hold, and add up what they wrote."""
    done, texts = 0, waiting(finder, column)
    progress(done, texts)
    idle: SimpleQueue[client.Connection] = SimpleQueue()
    for connection in pool:
        idle.put(connection)
    running: set[Future[int]] = set()
    with ThreadPoolExecutor(len(pool)) as threads, _stopping(pool):
        for piece in ranges(finder, column, batch):
            if len(running) == len(pool):
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                done += sum(future.result() for future in finished)
                progress(done, texts)
            running.add(threads.submit(_encode, idle, piece))
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            done += sum(future.result() for future in finished)
            progress(done, texts)
    return done


def waiting(finder: client.Connection, column: Column) -> int:
    """Count the rows that wait."""
    query = column.statement("count").decode()
    texts: int = client.fetch(finder, query, [column.id, column.version])[0]["texts"]
    return texts


def ranges(finder: client.Connection, column: Column, batch: int) -> Iterator[Range]:
    """Cut the rows that wait into ranges of `batch` rows, in the order of their keys.

    A partition is cut by itself: no range has rows of two.
    """
    for part in partitions(finder, column):
        yield from _ranges(finder, part, batch)


def _ranges(finder: client.Connection, column: Column, batch: int) -> Iterator[Range]:
    statement = column.statement("next_batch")
    nowhere: list[str | None] = [None] * len(column.keys)
    after: Key | None = None
    while True:
        parameters = [column.id, column.version, after is None, batch, *(after or nowhere)]
        found = client.fetch(finder, statement.decode(), parameters)
        if not found:
            return
        until = found[-1]["key"]
        yield Range(column, after, until)
        after = until


def _encode(idle: SimpleQueue[client.Connection], piece: Range) -> int:
    """Encode a range in one transaction and count what was written."""
    connection = idle.get()
    try:
        statement = piece.column.statement("encode_batch")
        return connection.execute(statement, piece.parameters(piece.column.pin)).rowcount
    finally:
        idle.put(connection)


@contextmanager
def _stopping(pool: Sequence[client.Connection]) -> Iterator[None]:
    """Cancel what workers run when the work ends by an exception, Ctrl-C for one."""
    try:
        yield
    except BaseException:
        for connection in pool:
            if not connection.closed:
                connection.cancel_safe(timeout=5)
        raise


@contextmanager
def connected(
    dsn: str | None, tell: Callable[[psycopg.errors.Diagnostic], None] = lambda diagnostic: None
) -> Iterator[client.Connection]:
    """Connect so that keys are written as the triggers write them."""
    with client.connect(dsn, autocommit=True) as connection:
        connection.execute(QUERIES["settings"])
        connection.add_notice_handler(tell)
        yield connection


@contextmanager
def told_as_ours() -> Iterator[None]:
    """Tell a server that went away in one line."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if isinstance(error, psycopg.errors.QueryCanceled):
            raise
        raise ServerUnready(
            f"the server went away: {' '.join(str(error).split())}",
            hint="run this again: it goes on where it stopped",
        ) from error

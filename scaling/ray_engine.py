"""Embed a column on Ray: the driver cuts items, a pool of actors encodes and writes them.

Nothing but the borders of items goes through Ray: an actor reads its texts from the database and
writes its vectors there. An item that is repeated, since its actor was lost, does not find waiting
what had been written.
"""

from collections.abc import Callable
from contextlib import ExitStack

from pageformer import client
from pageformer.embed import Progress, Range, connected, ranges, told_as_ours, waiting
from pageformer.embedded_column import Column, Request
from pageformer.embedded_column import prepare as prepare_column
from pageformer.scaling import item
from pageformer.scaling.actors import Pool, cluster
from pageformer.scaling.item import Done
from pageformer.serving.database import Database


class Worker:
    """Encode items in a process of its own; what Ray starts as an actor."""

    def __init__(self, dsn: str, column: Column, compute: str) -> None:
        from pageformer.scaling.text_encoder import open_version

        self._stack = ExitStack()
        self._connection = self._stack.enter_context(connected(dsn))
        item.prepare(self._connection, column)
        self._encode = open_version(dsn, column.version, compute, alone=True)

    def ready(self) -> None:
        """Answer once the version is open."""

    def work(self, piece: Range) -> Done:
        """Encode and write the rows of a range that wait."""
        return item.work(self._connection, piece, self._encode)


def embed(
    dsn: str | None,
    request: Request,
    *,
    address: str | None = None,
    workers: int = 1,
    batch: int = 256,
    progress: Progress = lambda done, total: None,
    warn: Callable[[str], None] = lambda text: None,
    tell: Callable[[Done], None] = lambda done: None,
) -> int:
    """Encode every row that has no vector of the deployed version, on Ray.

    address: of a cluster that runs; None: one of this machine, of `workers` processes, for the time
    of this call. tell: where the time went. Raises what `pageformer.embed` raises, and MissingGrant
    where the role may not read weights.
    """
    chosen = client.choose_dsn(dsn)
    with ExitStack() as stack, told_as_ours():
        finder = stack.enter_context(connected(chosen))
        column = prepare_column(finder, request)
        [found] = client.fetch(finder, item.QUERIES["compute"], [column.id])
        texts = waiting(finder, column)
        progress(0, texts)
        if not texts:
            return 0
        Database(chosen).place()  # what a worker could not read is told before any is started
        ray = stack.enter_context(cluster(address, workers))
        pool = Pool(ray, Worker, workers, chosen, column, found["compute"])
        total = Done()
        for done in pool.worked(ranges(finder, column, batch)):
            total += done
            progress(total.rows, texts)
    if total.cut:
        warn(f"{total.cut} inputs were cut to the tokens that {request.model} takes")
    tell(total)
    return total.rows

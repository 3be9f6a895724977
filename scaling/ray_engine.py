"""Embed a column on Ray: the driver cuts items, a pool of actors encodes and writes them.

Nothing but the borders of items goes through Ray: an actor reads its texts from the database and
writes its vectors there. Ray starts a lost actor again, on another node where its own is gone, and
repeats the calls that it had; what they had written they do not find waiting any more.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

from pageformer import client
from pageformer.embed import Progress, Range, connected, ranges, told_as_ours, waiting
from pageformer.embedded_column import Column, Request
from pageformer.embedded_column import prepare as prepare_column
from pageformer.errors import NotBuilt, PageformerError, ServerUnready
from pageformer.scaling import item
from pageformer.scaling.item import Done
from pageformer.serving.database import Database

AHEAD = 2  # items that an actor has: one to work on, and the next, so that it never waits for one
STORE_BYTES = 100 << 20  # Ray's least: no texts or vectors go through its store

Items = Iterator[Any]


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
        pool = started(ray, Worker, workers, chosen, column, found["compute"])
        total = Done()
        for done in worked(ray, pool, ranges(finder, column, batch)):
            total += done
            progress(total.rows, texts)
    if total.cut:
        warn(f"{total.cut} inputs were cut to the tokens that {request.model} takes")
    tell(total)
    return total.rows


# -- Ray ------------------------------------------------------------------------------------------


@contextmanager
def cluster(address: str | None, workers: int) -> Iterator[Any]:
    """Connect to a cluster, or run one on this machine, and let go of it; raises NotBuilt."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise NotBuilt("Ray is not installed", hint="pip install 'pageformer[ray]'") from error
    here = {"num_cpus": workers, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    options: dict[str, Any] = {} if address else here
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    except ConnectionError as error:
        raise ServerUnready(
            f"no Ray cluster answers at {address}", hint="ray start --head; or leave out --address"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def started(ray: Any, kind: type, workers: int, *arguments: object) -> list[Any]:
    """Start actors, each on a core; they come back however often they are lost."""
    remote = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(kind)
    pool = [remote.remote(*arguments) for _ in range(workers)]
    fetched(ray, [actor.ready.remote() for actor in pool])
    return pool


def worked(ray: Any, pool: Sequence[Any], items: Items) -> Iterator[Any]:
    """Hand out items, a few to each actor, and yield what came of them, as it comes."""
    running: dict[Any, Any] = {}
    for actor in [actor for _ in range(AHEAD) for actor in pool]:
        hand_out(running, actor, items)
    while running:
        [done], _ = ray.wait(list(running), num_returns=1)
        hand_out(running, running.pop(done), items)
        yield fetched(ray, done)


def hand_out(running: dict[Any, Any], actor: Any, items: Items) -> None:
    """Give an actor the next item, if there is one."""
    for piece in islice(items, 1):
        running[actor.work.remote(piece)] = actor


def fetched(ray: Any, reference: Any) -> Any:
    """Return what a call returned; raise what it raised, as it was raised there."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.ActorDiedError as error:
        raise as_ours(error) from error


def as_ours(error: Exception) -> PageformerError:
    """Tell why an actor could not be started: the last line of what it raised."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, PageformerError):
        return cause
    lines = str(error).strip().splitlines()
    return ServerUnready(f"a worker did not start: {lines[-1] if lines else error}")

"""A pool of Ray's actors: what one has when it is lost goes to the next that is free.

Ray starts a lost actor again, on another node where its own is gone, once there is a core for it;
until then the others go on without it.
"""

import logging
import os
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from typing import Any

from pageformer.errors import InvalidInput, NotBuilt, PageformerError, ServerUnready

MOST_LOSSES = 10  # of workers by one item: more is not chance
AHEAD = 2  # items that an actor has: one to work on, and the next, so that it never waits for one
SECONDS_TO_CONNECT = 5
STORE_BYTES = 100 << 20  # Ray's least: no vectors of a table go through its store


@contextmanager
def cluster(address: str | None, workers: int) -> Iterator[Any]:
    """Connect to a cluster, or run one on this machine, and let go of it.

    Raises NotBuilt without Ray, ServerUnready where no cluster answers, InvalidInput for more
    workers than it has processors.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise NotBuilt("Ray is not installed", hint="pip install 'pageformer[ray]'") from error
    with folder() as own:
        reach(ray, address, workers, own)
        try:
            check_room(ray, workers)
            yield ray
        finally:
            ray.shutdown()


def reach(ray: Any, address: str | None, workers: int, own: str) -> None:
    """Connect to a cluster, or start one with its files in a folder of our own."""
    here = {"num_cpus": workers, "object_store_memory": STORE_BYTES, "_temp_dir": own}
    options = {} if address else {"include_dashboard": False, **here}
    try:
        knock(address)
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, ValueError, ray.exceptions.RayError) as error:
        raise ServerUnready(
            f"no Ray cluster lets us in at {address}",
            hint="ray start --head; where it wants a token: RAY_AUTH_MODE=token, RAY_AUTH_TOKEN=…",
        ) from error


def knock(address: str | None) -> None:
    """Raise OSError where nobody listens at HOST:PORT, which Ray would try for minutes."""
    host, separator, port = (address or "").rpartition(":")
    if separator and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()


def folder() -> "tempfile.TemporaryDirectory[str]":
    """Make a folder for what Ray would leave behind; the paths of its sockets must be short."""
    place = os.environ.get("RAY_TMPDIR", "/tmp")
    return tempfile.TemporaryDirectory(prefix="ray-", dir=place, ignore_cleanup_errors=True)


def check_room(ray: Any, workers: int) -> None:
    """Raise InvalidInput for workers that no processor is there for, which Ray would wait for."""
    processors = int(ray.cluster_resources().get("CPU", 0))
    if workers > processors:
        raise InvalidInput(
            f"the Ray cluster has {processors} CPUs, and {workers} workers want one each",
            hint=f"--workers {processors or 1}, and more nodes: ray start --address …",
        )


@dataclass(frozen=True, eq=False)
class Handed:
    """An item, and how many workers were lost that had it."""

    item: Any
    losses: int = 0


class Items:
    """Items one after another; what was given back comes before the rest."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._back: deque[Handed] = deque()

    def __iter__(self) -> "Items":
        return self

    def __next__(self) -> Handed:
        return self._back.popleft() if self._back else Handed(next(self._items))

    def give_back(self, handed: Handed, *, in_work: bool) -> None:
        """Take an item whose worker was lost, while it worked on this one or before it came to it.

        Raises ServerUnready for one that loses every worker.
        """
        losses = handed.losses + in_work
        if losses == MOST_LOSSES:
            raise ServerUnready(
                f"{losses} workers were lost, one after another, that had {handed.item}",
                hint="Ray's log tells why workers end: often for want of memory; then take fewer "
                "workers. What is done stays done; run the same command to go on",
            )
        self._back.append(Handed(handed.item, losses))


@dataclass(frozen=True)
class Worker:
    """An actor, and what it was handed and has not answered; the first is what it works on."""

    actor: Any
    handed: list[Handed] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """What a worker was asked: to work on an item, or, where there is none, whether it is there."""

    worker: Worker
    handed: Handed | None
    answer: "Future[Any]"


class Pool:
    """Actors, each on a core, that come back however often they are lost."""

    def __init__(self, ray: Any, kind: type, workers: int, *arguments: object) -> None:
        """Start actors of a kind, which has the methods `ready` and `work`."""
        self._ray = ray
        self._idle: deque[Worker] = deque()
        self._running = 0
        self._answered: SimpleQueue[Call] = SimpleQueue()
        remote = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(kind)
        started = [Worker(remote.remote(*arguments)) for _ in range(workers)]
        for worker in [worker for _ in range(AHEAD) for worker in started]:
            self._ask(worker)

    def worked(self, items: Iterator[Any]) -> Iterator[Any]:
        """Hand out items, a few to each actor, and yield what came of them, as it comes.

        Raises what an item raised, and ServerUnready for an actor that cannot be started and for an
        item that loses every worker.
        """
        waiting = Items(items)
        while self._running or not self._idle:
            done = self._heard(self._answered.get(), waiting)
            while self._idle and (handed := list(islice(waiting, 1))):
                self._work(self._idle.popleft(), *handed)
            yield from done

    def _ask(self, worker: Worker) -> None:
        self._await(worker, None, worker.actor.ready.remote())

    def _work(self, worker: Worker, handed: Handed) -> None:
        self._running += 1
        worker.handed.append(handed)
        work = worker.actor.work.options(max_task_retries=0)
        self._await(worker, handed, work.remote(handed.item))

    def _await(self, worker: Worker, handed: Handed | None, answer: Any) -> None:
        def tell(future: "Future[Any]") -> None:
            self._answered.put(Call(worker, handed, future))

        answer.future().add_done_callback(tell)

    def _heard(self, call: Call, waiting: Items) -> list[Any]:
        """Return what came of an item; none where the actor was lost, or is there again."""
        worker, handed = call.worker, call.handed
        in_work = handed is not None and handed is worker.handed[0]
        if handed:
            self._running -= 1
            worker.handed.remove(handed)
        try:
            result = call.answer.result()
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayActorError as error:
            if handed is None:
                raise as_ours(error) from error
            waiting.give_back(handed, in_work=in_work)
            self._ask(worker)
            return []
        self._idle.append(worker)
        return [result] if handed else []


class Idler:
    """An actor for whom nothing is to do."""

    def ready(self) -> None:
        """Answer once the process is there."""

    def work(self, item: Any) -> Any:
        """Give the item back."""
        return item


def driver_seconds(items: int = 1000) -> float:
    """Return the processor's seconds that a driver takes to hand out an item, measured."""
    with cluster(None, 1) as ray:
        begun = 0.0
        for number in Pool(ray, Idler, 1).worked(iter(range(AHEAD + items))):
            if number + 1 == AHEAD:
                begun = time.process_time()
        return (time.process_time() - begun) / items


def as_ours(error: Exception) -> PageformerError:
    """Tell why an actor could not be started: the last line of what it raised."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, PageformerError):
        return cause
    lines = str(error).strip().splitlines()
    return ServerUnready(f"a worker did not start: {lines[-1] if lines else error}")

"""The requests that wait, and which of them go next."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pageformer.serving.schedule import POLICIES, Size
from pageformer.serving.shelf import Held, Key
from pageformer.udfs.executors.wire import Asked

if TYPE_CHECKING:  # NumPy
    from pageformer.udfs.tasks.task_run import Task

TOKENS = 128  # of a batch: more saves no more on a processor, and lets its requests wait
LOOKED_AT = 64  # requests, the oldest, that a plan is made for


class Asker(Protocol):
    """Whoever asked, and is told the answer, in whatever thread."""

    def answered(self, request: "Request", kind: int, body: bytes) -> None:
        """Send the answer to a request."""


@dataclass(eq=False)
class Request:
    """Hold one question on its way."""

    asker: Asker
    number: int
    asked: Asked
    name: bytes | None = None  # in the response cache
    task: "Task | None" = None  # opened
    arrived: float = field(default_factory=time.monotonic)
    size: Size = field(init=False)

    @property
    def key(self) -> Key:
        """Return what the shelf calls its version."""
        return self.asked.version, self.asked.compute

    def __post_init__(self) -> None:
        self.size = Size(self.asked.tokens, self.asked.longest)


@dataclass(frozen=True)
class Batch:
    """Hold requests that are computed together, and whether they have the machine to themselves."""

    held: Held
    requests: list[Request]
    alone: bool


@dataclass(frozen=True)
class Trigger:
    """Hold when a batch sets out.

    policy: of schedule.POLICIES. tokens: the most of a batch. budget: seconds that a request may
    take; 0: whenever a worker is idle (hungry), else when a batch is full or the oldest request is
    past half of its budget (lazy).
    """

    policy: str = "cost"
    tokens: int = TOKENS
    budget: float = 0.0


class WaitingRoom:
    """Keep requests until a worker takes them, the oldest first, together with what fits them."""

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self._plan = POLICIES[trigger.policy]
        self._changed = threading.Condition()
        self._queues: dict[Asked, list[tuple[Held, Request]]] = {}
        self._working = 0
        self._closed = False

    def put(self, held: Held, request: Request) -> None:
        """Let a request wait for a version that is ready."""
        with self._changed:
            self._queues.setdefault(request.asked.alike, []).append((held, request))
            self._changed.notify()

    def forget(self, asker: Asker) -> None:
        """Let go of the requests of somebody who left."""
        with self._changed:
            for key, queue in list(self._queues.items()):
                self._keep(key, [waiting for waiting in queue if waiting[1].asker is not asker])

    def close(self) -> None:
        """Give out what is left, then nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def batches(self) -> Iterator[Batch]:
        """Yield batches for one worker, until the room is closed and empty."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queues or self._closed)
                if not self._queues:
                    return
                if (seconds := self._too_early()) > 0:
                    self._changed.wait(seconds)
                    continue
                batch = self._take()
                self._working += 1
            try:
                yield batch
            finally:
                with self._changed:
                    self._working -= 1

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._queues.values()))

    def _oldest(self) -> list[tuple[Held, Request]]:
        return min(self._queues.values(), key=lambda queue: queue[0][1].arrived)

    def _too_early(self) -> float:
        """Return the seconds that a lazy trigger still waits for more requests."""
        if not self._trigger.budget or self._closed:
            return 0.0
        queue = self._oldest()
        if sum(request.size.tokens for _, request in queue) >= self._trigger.tokens:
            return 0.0
        return queue[0][1].arrived + self._trigger.budget / 2 - time.monotonic()

    def _take(self) -> Batch:
        """Take the batch that has the oldest request in it."""
        queue = self._oldest()
        held = queue[0][0]
        sizes = [request.size for _, request in queue[:LOOKED_AT]]
        plan = self._plan(sizes, held.timings.cost, self._trigger.tokens)
        [chosen] = [set(batch) for batch in plan if 0 in batch]
        requests = [request for i, (_, request) in enumerate(queue) if i in chosen]
        self._keep(
            queue[0][1].asked.alike, [waiting for i, waiting in enumerate(queue) if i not in chosen]
        )
        return Batch(held, requests, alone=not self._queues and not self._working)

    def _keep(self, key: Asked, queue: list[tuple[Held, Request]]) -> None:
        if queue:
            self._queues[key] = queue
        else:
            del self._queues[key]

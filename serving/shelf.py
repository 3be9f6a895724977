"""The versions that the process holds, by content hash, until others need the room."""

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pageformer.errors import PageformerError
from pageformer.serving.database import (
    Database,
    NotThere,
    Place,
    one_line,
    open_task,
    open_version,
)
from pageformer.serving.timings import Timings, measure
from pageformer.udfs import threads
from pageformer.udfs.encoding import LocalEncoder
from pageformer.udfs.executors.wire import NO_TASK, Asked
from pageformer.udfs.version import Version

with threads.kept_out():
    from pageformer.udfs.tasks import opening
    from pageformer.udfs.tasks.task_run import Task

if TYPE_CHECKING:  # it holds what stands here
    from pageformer.serving.waiting import Request

LATELY = 0.05  # the weight of the last request in an average
Key = tuple[bytes, str]  # hash of the version, compute
Order = tuple[Key, bytes]  # with the hash of a task


@dataclass
class Held:
    """Hold a version that is ready, and what its batches cost."""

    version: Version
    encoder: LocalEncoder  # on all cores
    alone: LocalEncoder  # in the caller's thread only
    timings: Timings = field(default_factory=Timings)
    is_measured: bool = False
    together: float = 1.0  # requests that one of them was computed with lately, itself counted
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_sound(self) -> bool:
        """Tell whether the pages are still what they were; raises DamagedPage."""
        with self.lock:
            return self.version.is_sound()

    def computed(self, requests: int) -> None:
        """Remember that so many requests were computed together."""
        for _ in range(requests):
            self.together += LATELY * (requests - self.together)

    @property
    def pays_up_to(self) -> int:
        """Return the length up to which texts are cheaper here than in their backends."""
        return self.timings.pays_up_to(self.together)

    def task(self, hash: bytes) -> Task | None:
        """Return a task that is ready."""
        if hash == NO_TASK:
            return None
        with self.lock:
            found = opening.held(self.version, hash)
        return found and found.task

    def open_task(self, hash: bytes, database: Database) -> None:
        """Make a task ready; raise NotThere where there is none."""
        if self.task(hash) is None:
            found = open_task(database, self.version, hash)
            with self.lock:
                opening.keep(self.version, found)

    def refusal(self, asked: Asked) -> str | None:
        """Tell what stands against a question."""
        config = self.version.config
        if not asked.sequences or not all(map(len, asked.sequences)):
            return "a sequence has no tokens"
        if config.max_length and asked.longest > config.max_length:
            return f"{asked.longest} tokens are more than the {config.max_length} of this model"
        if max(map(max, asked.sequences)) >= config.vocabulary:
            return "a token is not in the vocabulary"
        return None

    @property
    def page_bytes(self) -> int:
        """Count the bytes of the pages that are mapped."""
        return self.version.page_bytes


class Shelf:
    """Open versions and tasks in a thread of its own, so that nobody else waits for it.

    ready: told a version, its task, and who asked for them. refused: told who asked, and why not.
    """

    def __init__(
        self,
        database: Database,
        place: Place,
        backend: str,
        room: int,
        ready: Callable[[Held, "Request"], None],
        refused: Callable[["Request", Exception], None],
    ) -> None:
        self._database, self._place = database, place
        self._backend, self._room = backend, room
        self._ready, self._refused = ready, refused
        self._held: OrderedDict[Key, Held] = OrderedDict()
        self._wanted: dict[Order, list[Request]] = {}
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._open_all, name="shelf", daemon=True)
        self._thread.start()

    def want(self, request: "Request") -> None:
        """Let a request have its version and its task, at once where they are held."""
        with self._lock:
            held = self._held.get(request.key)
            if held is not None:
                self._held.move_to_end(request.key)
                request.task = held.task(request.asked.task)
            if held is None or (request.task is None and request.asked.task != NO_TASK):
                self._order(request)
                return
        self._ready(held, request)

    def renew(self, held: Held, requests: Sequence["Request"]) -> None:
        """Open a version again whose pages have gone."""
        with self._lock:
            if self._held.get(requests[0].key) is held:
                self._let_go(requests[0].key)
            for request in requests:
                self._order(request)

    def versions(self) -> dict[Key, Held]:
        """Return what is held."""
        with self._lock:
            return dict(self._held)

    def close(self) -> None:
        """Open what was asked for, then end."""
        self._orders.put(None)
        self._thread.join()

    def _order(self, request: "Request") -> None:
        order = request.key, request.asked.task
        if order in self._wanted:
            self._wanted[order].append(request)
            return
        self._wanted[order] = [request]
        self._orders.put(order)

    def _open_all(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                held = self._open(*order)
            except (PageformerError, NotThere) as error:
                self._refuse(order, error)
            except Exception as error:  # whatever it is, it must not end the thread
                self._refuse(order, RuntimeError(f"{type(error).__name__}: {one_line(error)}"))
            else:
                self._give(order, held)
                self._measure(held)

    def _open(self, key: Key, task: bytes) -> Held:
        held = self.versions().get(key)
        if held is None:
            version = open_version(self._database, self._place, key[0], self._backend, key[1])
            held = Held(version, version.encoder, version.encoder.alone())
            self._keep(key, held)
        if task != NO_TASK:
            held.open_task(task, self._database)
        return held

    def _keep(self, key: Key, held: Held) -> None:
        with self._lock:
            self._held[key] = held
            while len(self._held) > self._room:
                self._let_go(next(iter(self._held)))

    def _give(self, order: Order, held: Held) -> None:
        with self._lock:
            requests = self._wanted.pop(order)
        for request in requests:
            request.task = held.task(order[1])
            self._ready(held, request)

    def _refuse(self, order: Order, error: Exception) -> None:
        with self._lock:
            requests = self._wanted.pop(order)
        for request in requests:
            self._refused(request, error)

    def _let_go(self, key: Key) -> None:
        """Forget a version; who computes with it still holds its pages."""
        version = self._held.pop(key).version
        version.close()
        version.cache.folder.close()

    def _measure(self, held: Held) -> None:
        if held.is_measured:
            return
        held.is_measured = True
        config = held.version.config

        def run(sequences: Sequence[Sequence[int]]) -> object:
            return held.alone.vectors(sequences, None, None, lambda: None)

        clock = time.perf_counter if self._backend == "gpu" else time.thread_time
        held.timings = measure(run, config.max_length, config.vocabulary, clock)

"""What computes: threads that take batches, and hand each asker the texts of its own vectors."""

import threading
import time
from collections.abc import Callable, Sequence

from pageformer.errors import DamagedPage
from pageformer.serving.database import one_line
from pageformer.serving.response_cache import ResponseCache
from pageformer.serving.shelf import Held
from pageformer.serving.statistics import Statistics
from pageformer.serving.waiting import Batch, Request, WaitingRoom
from pageformer.udfs import threads
from pageformer.udfs.encoding import Encoder
from pageformer.udfs.executors import wire
from pageformer.udfs.executors.wire import Answered, Asked

with threads.kept_out():
    from pageformer.udfs.composed import ComposedEncoder

Renew = Callable[[Held, list[Request]], None]


class Workers:
    """Compute batches until the waiting room is closed and empty."""

    def __init__(
        self,
        count: int,
        room: WaitingRoom,
        statistics: Statistics,
        cache: ResponseCache,
        renew: Renew,
    ) -> None:
        self._room, self._renew = room, renew
        self._statistics, self._cache = statistics, cache
        self._threads = [
            threading.Thread(target=self._work, name=f"worker {i}", daemon=True)
            for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until all is computed."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        for batch in self._room.batches():
            self._answer(batch)

    def _answer(self, batch: Batch) -> None:
        begun = time.monotonic()
        try:
            if not batch.held.is_sound():
                self._renew(batch.held, batch.requests)
                return
            found = compute(batch)
        except DamagedPage as error:
            self._fail(batch, error.message)
        except Exception as error:  # of one request, perhaps: the others are not to suffer
            if len(batch.requests) == 1:
                self._fail(batch, f"{type(error).__name__}: {one_line(error)}")
                return
            for request in batch.requests:
                self._answer(Batch(batch.held, [request], batch.alone))
        else:
            self._statistics.computed(batch, begun, time.monotonic())
            self._deliver(batch, found)

    def _deliver(self, batch: Batch, found: Sequence[list[str]]) -> None:
        batch.held.computed(len(batch.requests))
        pays_up_to = wire.ALWAYS if self._cache.on else batch.held.pays_up_to
        for request, texts in zip(batch.requests, found, strict=True):
            self._cache.put(request.name, texts)
            body = wire.write_answered(Answered(texts, pays_up_to))
            request.asker.answered(request, wire.VECTORS, body)

    def _fail(self, batch: Batch, reason: str) -> None:
        for request in batch.requests:
            self._statistics.failed(request)
            request.asker.answered(request, wire.FAILED, reason.encode())


def compute(batch: Batch) -> list[list[str]]:
    """Return the texts of each request's vectors."""
    asked = batch.requests[0].asked
    if asked.what == "states":
        return [states(encoder(batch, [r]), r.asked) for r in batch.requests]
    sequences = [ids for request in batch.requests for ids in request.asked.sequences]
    texts = iter(
        encoder(batch, batch.requests).vectors(
            sequences, asked.dimensions, asked.normalized, undisturbed, asked.skip
        )
    )
    return [[next(texts) for _ in request.asked.sequences] for request in batch.requests]


def encoder(batch: Batch, requests: Sequence[Request]) -> Encoder:
    """Return what computes requests of a batch; those with tasks by plans of mixed tasks."""
    if requests[0].task is None:
        return batch.held.encoder if batch.alone else batch.held.alone
    tasks = [request.task for request in requests for _ in request.asked.sequences]
    return ComposedEncoder(batch.held.version.model, tasks)


def states(encoder: Encoder, asked: Asked) -> list[str]:
    """Return the texts of the states of all tokens."""
    return [
        text
        for ids in asked.sequences
        for text in encoder.states(ids, asked.dimensions, asked.normalized, undisturbed)
    ]


def undisturbed() -> None:
    """Compute on: a question that was taken is answered."""

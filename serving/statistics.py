"""What the process has done, counted by version: for the SQL view and for Prometheus."""

import resource
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pageformer.serving.shelf import Key
    from pageformer.serving.waiting import Batch, Request

# Upper bounds of the queue times that are told apart, in seconds.
BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, float("inf"))


@dataclass
class Count:
    """Count what was done for one version."""

    requests: int = 0
    texts: int = 0
    tokens: int = 0
    padded_tokens: int = 0  # that padding each batch to its longest would have computed
    batches: int = 0
    failed: int = 0
    cache_hits: int = 0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    queue_times: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))

    def queue_quantile(self, share: float) -> float:
        """Return a queue time, in seconds, that this share of the requests did not exceed."""
        wanted, seen = share * sum(self.queue_times), 0
        for bound, count in zip(BOUNDS, self.queue_times, strict=True):
            seen += count
            if seen >= wanted:
                return min(bound, 2 * BOUNDS[-2])
        return 0.0


class Statistics:
    """Count what threads do, and tell it."""

    def __init__(self) -> None:
        self.since = time.time()
        self._lock = threading.Lock()
        self._counts: dict[Key, Count] = {}

    def computed(self, batch: "Batch", begun: float, ended: float) -> None:
        """Count a batch that was computed."""
        sequences = [ids for request in batch.requests for ids in request.asked.sequences]
        with self._lock:
            count = self._of(batch.requests[0])
            count.batches += 1
            count.requests += len(batch.requests)
            count.texts += len(sequences)
            count.tokens += sum(map(len, sequences))
            count.padded_tokens += len(sequences) * max(map(len, sequences))
            count.compute_seconds += ended - begun
            for request in batch.requests:
                waited = begun - request.arrived
                count.queue_seconds += waited
                count.queue_times[bisect_left(BOUNDS, waited)] += 1

    def found(self, request: "Request") -> None:
        """Count an answer from the response cache."""
        with self._lock:
            self._of(request).cache_hits += 1

    def failed(self, request: "Request") -> None:
        """Count a request that was refused or failed."""
        with self._lock:
            self._of(request).failed += 1

    def counts(self) -> "dict[Key, Count]":
        """Return the counts by version and compute."""
        with self._lock:
            return dict(self._counts)

    def _of(self, request: "Request") -> Count:
        key = request.asked.version, request.asked.compute
        return self._counts.setdefault(key, Count())


def row(key: "Key", count: Count, page_bytes: int) -> dict[str, Any]:
    """Write one version's counts as the view `serving` shows them."""
    padded = count.padded_tokens or 1
    return {
        "version": key[0].hex(),
        "compute": key[1],
        "requests": count.requests,
        "texts": count.texts,
        "tokens": count.tokens,
        "batches": count.batches,
        "failed": count.failed,
        "cache_hits": count.cache_hits,
        "queue_ms": 1e3 * count.queue_seconds / max(1, count.requests),
        "queue_p99_ms": 1e3 * count.queue_quantile(0.99),
        "compute_seconds": count.compute_seconds,
        "padded_tokens": count.padded_tokens,
        "queue_times": list(count.queue_times),
        "padding_avoided": 1 - count.tokens / padded if count.tokens else 0.0,
        "page_bytes": page_bytes,
    }


def private_bytes() -> int:
    """Return the memory that belongs to this process, pages of the shared cache not counted."""
    resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * resource.getpagesize()

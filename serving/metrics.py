"""What the process has done, for Prometheus, on a port that this machine alone reaches."""

from collections.abc import Iterator
from typing import Any, Protocol

from pageformer.errors import ServerUnready
from pageformer.serving.statistics import BOUNDS

LOOPBACK = "127.0.0.1"
LABELS = ("version", "compute")
COUNTERS = {
    "requests": "Requests that were computed",
    "texts": "Texts that were computed",
    "tokens": "Tokens that were computed",
    "padded_tokens": "Tokens that padding would have computed",
    "batches": "Batches that were computed",
    "failed": "Requests that were refused or failed",
    "cache_hits": "Requests that were answered from the response cache",
    "compute_seconds": "Seconds spent computing",
}
GAUGES = {
    "memory": "Bytes of memory that belong to the process alone",
    "cache_bytes": "Bytes of the response cache",
    "waiting": "Requests that wait",
    "clients": "Connections",
}


class Process(Protocol):
    """What metrics need of the process."""

    def statistics(self) -> dict[str, Any]:
        """Tell what was done so far."""


def publish(process: Process, port: int) -> str:
    """Answer Prometheus on a loopback port, from a thread of its own; 0: any port. Tell where.

    Raises ServerUnready when prometheus_client is not installed, or the port is taken.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        raise ServerUnready(
            f"metrics need prometheus_client: {error}",
            hint="pip install 'pageformer[metrics]', or leave out --metrics-port",
        ) from error
    registry = CollectorRegistry()
    registry.register(Collector(process))
    try:
        server, _ = start_http_server(port, addr=LOOPBACK, registry=registry)
    except OSError as error:
        raise ServerUnready(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}") from error
    return f"http://{LOOPBACK}:{server.server_port}/metrics"


class Collector:
    """Read the statistics whenever Prometheus asks."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def collect(self) -> Iterator[Any]:
        """Yield all metrics; those of a version carry its hash."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        told = self._process.statistics()
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(f"pageformer_{name}", meaning, value=told[name])
        for name, meaning in COUNTERS.items():
            family = CounterMetricFamily(f"pageformer_{name}", meaning, labels=LABELS)
            yield filled(family, name, told["versions"])
        pages = GaugeMetricFamily("pageformer_page_bytes", "Bytes of mapped pages", labels=LABELS)
        yield filled(pages, "page_bytes", told["versions"])
        yield queue_times(told["versions"])


def filled(family: Any, name: str, rows: list[dict[str, Any]]) -> Any:
    """Return a family of metrics with a figure for each version."""
    for row in rows:
        family.add_metric([row[label] for label in LABELS], row[name])
    return family


def queue_times(rows: list[dict[str, Any]]) -> Any:
    """Return the histogram of how long requests waited."""
    from prometheus_client.core import HistogramMetricFamily

    meaning = "Seconds that requests waited"
    family = HistogramMetricFamily("pageformer_queue_seconds", meaning, labels=LABELS)
    for row in rows:
        buckets, seen = [], 0
        for bound, count in zip(BOUNDS, row["queue_times"], strict=True):
            seen += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), seen))
        seconds = row["queue_ms"] * row["requests"] / 1e3
        family.add_metric([row["version"], row["compute"]], buckets, sum_value=seconds)
    return family

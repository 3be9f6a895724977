"""Run a model that is larger than the page cache: time, and the server process's own memory.

`python -m bench.larger` makes a BERT of 24 layers and random weights (1.3 GB) in a folder that
vanishes, loads it, and encodes with the cache limited to 64 MB and without a limit.
"""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psycopg
from safetensors import safe_open
from safetensors.numpy import save_file

from bench.server import model_directory, remove_cache, server
from pageformer.cluster import Cluster
from pageformer.loader.load import load

RESULTS = Path(__file__).parent / "results" / "larger.md"
SIZES = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096}
HEADS = {"num_attention_heads": 16}
LAYER = 4 * (4 * 1024 * 1024 + 2 * 1024 * 4096)  # bytes of a layer's weights
LIMIT = "64MB"
TEXTS = 64
MEGABYTE = 1 << 20


def write_model(folder: Path) -> int:
    """Write a larger model of MiniLM's family with random weights; return their bytes."""
    small = model_directory()
    shutil.copytree(small, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((small / "config.json").read_text())
    widths = {config[name]: size for name, size in SIZES.items() if name != "num_hidden_layers"}
    dice = np.random.default_rng(1)
    tensors = {}
    with safe_open(small / "model.safetensors", "numpy") as file:
        for name in file.keys():  # noqa: SIM118
            shape = [widths.get(n, n) for n in file.get_slice(name).get_shape()]
            for copy in copies(name):
                tensors[copy] = random_tensor(dice, copy, shape)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**config, **SIZES, **HEADS}))
    pooling = folder / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text())
    settings["word_embedding_dimension"] = SIZES["hidden_size"]
    pooling.write_text(json.dumps(settings))
    return sum(tensor.nbytes for tensor in tensors.values())


def copies(name: str) -> list[str]:
    """Name the tensor in every layer, when it is the first layer's."""
    if not name.startswith("encoder.layer."):
        return [name]
    if not name.startswith("encoder.layer.0."):
        return []
    layers = range(SIZES["num_hidden_layers"])
    return [name.replace(".0.", f".{i}.", 1) for i in layers]


def random_tensor(
    dice: np.random.Generator, name: str, shape: list[int]
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Make weights of a size that keeps states in bounds; norms near 1."""
    values = dice.standard_normal(shape, np.float32) * np.float32(0.02)
    return values + 1 if name.endswith("LayerNorm.weight") else values


class Watch(threading.Thread):
    """Note the most memory of its own that a process has had, beside files that it maps."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{process}/status")
        self.most = 0

    def run(self) -> None:
        """Look every few milliseconds, until the process is gone."""
        while self._status.exists():
            try:
                lines = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
            except (FileNotFoundError, ProcessLookupError):
                return
            self.most = max(self.most, 1024 * int(lines.get("RssAnon", "0 kB").split()[0]))
            time.sleep(0.002)


@contextmanager
def watched(cluster: Cluster) -> Iterator[tuple[psycopg.Connection, Watch]]:
    """Connect, and watch the server process."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        watch = Watch(connection.info.backend_pid)
        watch.start()
        yield connection, watch


def measured(cluster: Cluster, limit: str) -> tuple[list[str], str]:
    """Encode one text and many under a limit; return a row of the table, and a vector."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute(
            "update pageformer.setting set value = %s where name = 'cache_limit'", [limit]
        )
    remove_cache(cluster)
    one = "select pageformer.encode('which function rounds a number down?', 'large')::text"
    many = (
        "select pageformer.encode_batch(array_agg(description), 'large') from (select description"
        f" from pg_description where length(description) > 60 order by 1 limit {TEXTS}) d"
    )
    with watched(cluster) as (connection, watch):
        times = [seconds(connection, query) for query in (one, one, many)]
        before = watch.most
        row = connection.execute(one).fetchone()
    cells = [limit, *(f"{t:.2f} s" for t in times), f"{before / MEGABYTE:.0f} MB"]
    return cells, str(row[0]) if row else ""


def seconds(connection: psycopg.Connection, query: str) -> float:
    """Time a query."""
    begin = time.perf_counter()
    connection.execute(query.encode()).fetchone()
    return time.perf_counter() - begin


def difference(one: str, other: str) -> float:
    """Return how far two vectors are apart, at most in one element."""
    a, b = (np.array(json.loads(text)) for text in (one, other))
    return float(np.abs(a - b).max())


def main() -> None:
    """Measure, and write the table."""
    with server() as running:
        with TemporaryDirectory(dir="/tmp") as folder:
            size = write_model(Path(folder) / "large")
            with running.connect() as connection:
                load(connection, str(Path(folder) / "large"), name="large")
        rows, vectors = zip(*(measured(running.cluster, n) for n in (LIMIT, "none")), strict=True)
    head = ["`cache_limit`", "first text", "again", f"{TEXTS} texts", "own memory, peak"]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    told = (
        f"A BERT of 24 layers, {size / MEGABYTE:.0f} MB of random weights, one layer "
        f"{LAYER / MEGABYTE:.0f} MB. Largest difference of an element: {difference(*vectors):.1e}."
    )
    print(*lines, told, sep="\n")
    RESULTS.write_text("\n".join([*lines, "", told, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()

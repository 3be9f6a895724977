"""The netsDB encoder paper's Table 2, measured in one run, and a model larger than its memory.

`python -m bench.relations` writes bench/results/relations.md and puts it into docs/relations.md.
Each framework that is installed in build/bench runs as a process of its own, by turns with ours.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg.pq import ExecStatus
from safetensors.numpy import save_file

from bench import tensor_peer
from bench.__main__ import BEGIN, END, conditions_of
from bench.paired import percentiles, seconds
from bench.peer import PYTHON, Peer
from bench.server import server
from pageformer.loader.load import load

RESULTS = Path(__file__).parent / "results" / "relations.md"
PAGE = Path(__file__).parents[1] / "docs" / "relations.md"
SHAPE = (2, 10, 64)
ROUNDS, CALLS = 5, 100
MODULES = {"pytorch": "torch", "flax": "flax", "tensorflow": "tensorflow"}
PUBLISHED = {
    "netsDB": "9,763 ms, 52 MB",
    "pytorch": "127 ms, 135 KB",
    "tensorflow": "832 ms, 154 KB",
    "MXNet": "60 ms, 138 KB",
    "flax": "26 ms, 518 KB",
}
BLOCKS = """(
    select array_agg(block order by sequence) from pageformer_op.from_tensor(%s::real[])
)"""
CALLS_OF = {  # and what makes their parameter
    "encode_blocks": BLOCKS,
    "encode_tensor": "%s::real[]",
    "encode_tensor_relational": "%s::real[]",
}
BINARY = 1
LARGE = {"layers": 24, "hidden": 1024, "wide": 4096}  # 1.2 GB
MEGABYTE = 1e6

Times = Callable[[int], list[float]]
Cores = tuple[set[int], set[int]]  # of the client, and of its backend
Connection = psycopg.Connection[Any]


def main() -> None:
    """Measure everything once."""
    with server() as running, running.connect() as connection, tempfile.TemporaryDirectory() as at:
        load(connection, str(encoder(Path(at) / "small", 2, 64, 0)), name="encoder")
        rows = [*two_blocks(connection)]
        load(connection, str(encoder(Path(at) / "large", *LARGE.values())), name="large")
        with running.connect() as fresh:
            text = table(rows) + "\n" + larger_than_memory(fresh)
        text += "\n\n" + conditions_of(running) + "\n"
    RESULTS.write_text(text, encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(before + BEGIN + text + END + after, encoding="utf-8")


def encoder(directory: Path, layers: int, hidden: int, wide: int) -> Path:
    """Write a model of the family `encoder`, with random weights."""
    directory.mkdir()
    config = {"model_type": "encoder", "hidden_size": hidden, "num_hidden_layers": layers}
    config |= {"num_attention_heads": hidden // 16, "intermediate_size": wide}
    (directory / "config.json").write_text(json.dumps(config))
    save_file(dict(tensors(layers, hidden, wide)), directory / "model.safetensors")
    return directory


def tensors(layers: int, hidden: int, wide: int) -> Iterator[tuple[str, Any]]:
    """Draw the tensors of docs/encoder-family.md."""
    draw = np.random.default_rng(0)
    parts = [(f"attention.{part}", hidden, hidden) for part in ("query", "key", "value", "output")]
    parts += [("feed_forward.up", hidden, wide), ("feed_forward.down", wide, hidden)] * bool(wide)
    for layer in range(layers):
        for part, inputs, outputs in parts:
            weight = draw.standard_normal((outputs, inputs), np.float32) / np.float32(inputs**0.5)
            yield f"layers.{layer}.{part}.weight", weight
            yield f"layers.{layer}.{part}.bias", np.zeros(outputs, np.float32)
        for norm in ("norm1", "norm2"):
            yield f"layers.{layer}.{norm}.weight", np.ones(hidden, np.float32)
            yield f"layers.{layer}.{norm}.bias", np.zeros(hidden, np.float32)


def two_blocks(connection: Connection) -> Iterator[list[str]]:
    """Time single calls of everybody by turns."""
    tensor = np.random.default_rng(1).standard_normal(SHAPE).tolist()
    [[size]] = connection.execute(files("bench").joinpath("version_bytes.sql").read_text())
    peers = {name: Peer(Path(name), tensor_peer.__file__) for name in MODULES if installed(name)}
    ways = {
        f"{call}{where}": prepared(connection, call, given, tensor, cores)
        for call, given in CALLS_OF.items()
        for where, cores in places()
    }
    ways |= {name: peer.times for name, peer in peers.items()}
    for times in ways.values():
        times(10)
    found = {name: [t for _ in range(ROUNDS) for t in ways[name](CALLS)] for name in ways}
    sizes = {name: peer.versions[1] for name, peer in peers.items()}
    names = {name: peer.versions[0] for name, peer in peers.items()}
    for name, times in found.items():
        told = names.get(name, f"`{name}")
        yield [told, timed(times), f"{sizes.get(name, size):,}", PUBLISHED.get(name, "")]
    for name in sorted(PUBLISHED.keys() - found.keys()):
        yield [name, "", "", PUBLISHED[name]]
    for peer in peers.values():
        peer.close()


def installed(framework: str) -> bool:
    """Tell whether the peers' interpreter has a framework."""
    command = [str(PYTHON), "-c", f"import {MODULES[framework]}"]
    return not subprocess.run(command, capture_output=True, check=False).returncode


def places() -> list[tuple[str, Cores]]:
    """Name where a client and its backend may run: a core that sleeps takes a while to wake."""
    cores = sorted(os.sched_getaffinity(0))
    apart = ({cores[0]}, {cores[1]}) if len(cores) > 1 else ({cores[0]}, {cores[0]})
    return [("` on the client's core", ({cores[0]}, {cores[0]})), ("` on another core", apart)]


@contextmanager
def placed(connection: Connection, cores: Cores) -> Iterator[None]:
    """Keep this process and its backend to their cores until the end of a with block."""
    processes = 0, connection.info.backend_pid
    before = [os.sched_getaffinity(process) for process in processes]
    try:
        for process, chosen in zip(processes, cores, strict=True):
            os.sched_setaffinity(process, chosen)
        yield
    finally:
        for process, chosen in zip(processes, before, strict=True):
            os.sched_setaffinity(process, chosen)


def prepared(connection: Connection, call: str, given: str, tensor: object, cores: Cores) -> Times:
    """Return what times single calls of a prepared statement, until the answer is here.

    The client is libpq itself: a parameter in binary, already there, and a result in binary.
    given: makes the parameter of a tensor. cores: of the client, and of the backend.
    """
    with connection.cursor(binary=True) as cursor:
        cursor.execute(f"select {given}", [tensor])
        parameter = cursor.pgresult.get_value(0, 0) if cursor.pgresult else None
        kind = cursor.description[0].type_code if cursor.description else 0
    libpq, name = connection.pgconn, f"{call} {cores}".encode()
    libpq.prepare(name, f"select pageformer.{call}($1, 'encoder')".encode(), [kind])

    def run() -> None:
        result = libpq.exec_prepared(name, [parameter], [BINARY], BINARY)
        if result.status != ExecStatus.TUPLES_OK:
            raise RuntimeError(result.error_message.decode())

    def times(count: int) -> list[float]:
        with placed(connection, cores):
            return [seconds(run) for _ in range(count)]

    return times


def timed(times: list[float]) -> str:
    """Tell the median and the 99th percentile in milliseconds."""
    return ", ".join(f"{1e3 * time:.2f}" for time in percentiles(times))


def table(rows: list[list[str]]) -> str:
    """Write rows as a Markdown table."""
    head = (
        "| two blocks, batch 2, sequence 10, width 64, 4 heads | ms, median and p99 | bytes stored "
    )
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head + "| published |", "|---|---|---|---|", *lines, ""])


def larger_than_memory(connection: Connection) -> str:
    """Run a model of over a gigabyte by blocks, and watch the private memory of the backend."""
    tensor = np.random.default_rng(2).standard_normal((1, 20, LARGE["hidden"])).tolist()
    connection.execute("create temporary table large as select %s::real[] as x", [tensor])
    query = "select pageformer.encode_tensor_relational(x, 'large') is null from large"
    [[parameters]] = connection.execute(
        "select parameter_bytes from pageformer.model_versions where model = 'large'"
    )
    with watched(connection.info.backend_pid) as samples:
        took = statistics.median(seconds(lambda: connection.execute(query)) for _ in range(3))
    return (
        f"A model of {parameters / MEGABYTE:,.0f} MB by `encode_tensor_relational`, 20 rows: "
        f"{took:.1f} s, at most {max(samples) / MEGABYTE:.0f} MB of private memory of the backend."
    )


@contextmanager
def watched(process: int) -> Iterator[list[int]]:
    """Sample a process's private memory, in bytes, until the end of a with block."""
    samples, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
            told = dict(line.split(":", 1) for line in lines)
            samples.append(int(told["RssAnon"].split()[0]) * 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    begin = time.perf_counter()
    main()
    print(f"{RESULTS}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)

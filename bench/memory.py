"""What memory connections and versions take: private, and of the page cache that all share."""

import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from safetensors.numpy import load_file, save_file

from bench.encode import QUESTION, Row
from bench.server import Server, model_directory
from bench.texts import fortunes
from pageformer.loader.load import load

BATCH = 256
CHANGED = ".layer.5."  # one layer of six: 8 per cent of the model


def memory(server: Server, count: int = 10) -> Iterator[Row]:
    """Measure the memory of connections that all use the model: shared once, private each."""
    connections = [server.connect() for _ in range(count)]
    try:
        single = used(connections, "select pageformer.encode(%s, 'minilm')", QUESTION)
        batched = used(connections, "select pageformer.encode_batch(%s, 'minilm')", fortunes(BATCH))
    finally:
        for connection in connections:
            connection.close()
    yield f"pages in memory for {count} connections, MB", f"{single[0] / 1e6:.0f}", ""
    yield "private memory of each after one text, MB", f"{single[1] / 1e6:.1f}", ""
    yield f"private memory of each after a batch of {BATCH}, MB", f"{batched[1] / 1e6:.1f}", ""


def used(
    connections: list[psycopg.Connection], query: str, input: str | list[str]
) -> tuple[int, float]:
    """Run a query in each connection; the bytes of pages of all, and the private bytes of one."""
    for connection in connections:
        connection.execute(query, [input])
    sizes = [smaps(connection.info.backend_pid) for connection in connections]
    return sum(size["pages"] for size in sizes), statistics.median(size["own"] for size in sizes)


def second_version(server: Server) -> Iterator[Row]:
    """Measure the pages in memory that a version adds whose last layer is another one."""
    with tempfile.TemporaryDirectory() as folder, server.connect() as connection:
        changed = change(Path(folder) / "model")
        load(connection, folder + "/model", name="minilm", version="changed")
        found = []
        for model in ("minilm", "minilm@changed"):
            connection.execute("select pageformer.encode(%s, %s)", [QUESTION, model])
            found.append(smaps(connection.info.backend_pid)["mapped"])
        connection.execute("select pageformer.drop_version('minilm', 'changed')")
    what = f"pages in memory that a version adds which changes {changed:.0%} of the weights"
    yield what, f"{found[1] / found[0] - 1:.1%}", ""


def change(folder: Path) -> float:
    """Write the model with one layer changed; return the share of the bytes that changed."""
    shutil.copytree(model_directory(), folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name in (layer := [name for name in tensors if CHANGED in name]):
        tensors[name] = tensors[name] * 1.01
    save_file(tensors, file)
    return sum(tensors[name].nbytes for name in layer) / sum(t.nbytes for t in tensors.values())


def smaps(pid: int) -> dict[str, int]:
    """Sum up a process's memory in bytes: its own, its share of cached pages, and all it mapped."""
    sums = {"own": 0, "pages": 0, "mapped": 0}
    cached = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if " " in name:  # the head of a mapping: addresses, file
            cached = "/pageformer-" in line
        elif name == "Private_Dirty":
            sums["own"] += int(rest.split()[0]) * 1024
        elif cached and name in ("Pss", "Size"):
            sums["pages" if name == "Pss" else "mapped"] += int(rest.split()[0]) * 1024
    return sums

"""What fine-tunes of one model cost in the database, by rung, and what they lose.

`python -m bench.variants [FOLDER]` makes the variants (see train_variants.py) in FOLDER, by default
build/variants, loads each into a database of its own beside the base, and writes the table.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import psycopg
from safetensors import safe_open

from bench.server import model_directory
from pageformer.cluster import Cluster
from pageformer.dedup.packing import METHODS, pack_pages
from pageformer.embedded import bring_up
from pageformer.loader import checkpoint
from pageformer.loader import manifest as manifests
from pageformer.loader.draft import Draft
from pageformer.loader.load import load
from pageformer.loader.sharing import Sharing, evaluations
from pageformer.migrations import install

HERE = Path(__file__).parent
PYTHON = HERE.parent / "build" / "bench" / "bin" / "python"
RESULTS = HERE / "results" / "variants.md"
BOUNDS = (0.005, 0.01)
STORED = files("bench").joinpath("stored_bytes.sql").read_text()
NETSDB = (
    "netsDB (Zhou et al. 2022) tells 3.75 times fewer blocks on five text classifiers, at up to "
    "3.5 points."
)
HEADS = ("classifier.weight", "classifier.bias")


@dataclass(frozen=True)
class Measured:
    """One load: its bytes, head included, its seconds, and the score it lost and had."""

    bytes: int
    seconds: float
    dropped: float = 0.0
    before: float = 0.0


def main(folder: Path) -> None:
    """Make variants, measure them, write the table."""
    base = model_directory()
    subprocess.run([PYTHON, HERE / "train_variants.py", base, folder], check=True)
    variants = sorted(path for path in folder.iterdir() if (path / "test.tsv").exists())
    lines = []
    with cluster() as running:
        for variant in variants:
            lines.append(row(running, base, variant))
            print(lines[-1], flush=True)
        pages = packing(variants)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(table(lines, pages), encoding="utf-8")


def row(running: Cluster, base: Path, variant: Path) -> str:
    """Measure one variant in every way and write its line."""
    whole = checkpoint.read(variant).parameter_bytes + head_bytes(variant)
    exact = measure(running, base, variant, None)
    cells = [variant.name, f"{whole / 1e6:.1f}", f"{exact.bytes / 1e6:.2f}, {exact.seconds:.1f} s"]
    untouched = exact.bytes < whole / 100
    sharings = [Sharing("approximate", BOUNDS[0], variant / "test.tsv")]
    sharings += [Sharing("delta", bound, variant / "test.tsv") for bound in BOUNDS]
    for sharing in sharings:
        found = None if untouched else measure(running, base, variant, sharing)
        cells.append(told(found, whole) if found else "as exact")
    for strategy in ("int4", "quantized"):
        cells.append("" if untouched else told(deltatensors(base, variant, strategy), whole))
    return "| " + " | ".join(cells) + " |"


def told(found: Measured, whole: int) -> str:
    """Write bytes, the part of the whole, what was lost, and the time."""
    return (
        f"{found.bytes / 1e6:.2f} = 1/{whole / found.bytes:.1f}, {100 * found.dropped:+.2f} of "
        f"{100 * found.before:.1f}, {found.seconds:.0f} s"
    )


def measure(running: Cluster, base: Path, variant: Path, sharing: Sharing | None) -> Measured:
    """Load the base and then the variant into a fresh database; count what the second added."""
    with database(running) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        load(connection, base, name="base")
        before = stored(connection)
        begin = time.perf_counter()
        loaded = load(connection, variant, name="variant", sharing=sharing)
        seconds = time.perf_counter() - begin
        added = stored(connection) - before + head_bytes(variant)
    if loaded.outcome is None:
        return Measured(added, seconds)
    loss = loaded.outcome.loss
    return Measured(added, seconds, loss.dropped, loss.before)


def deltatensors(base: Path, variant: Path, strategy: str) -> Measured:
    """Let the peer compress the variant, and measure what comes back on the same half of texts."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(shutil.copytree(variant, Path(made) / "model"))
        command = [PYTHON, HERE / "deltatensors_peer.py", base, variant, folder, strategy]
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - begin
        original, restored = checkpoint.read(variant), checkpoint.read(folder)
        _, reporting, _ = evaluations(original, variant, Sharing("delta", 1, variant / "test.tsv"))
        reporting.begin(tensors(original))
        loss = reporting.loss(tensors(restored))
    size = int(done.stdout.split()[-1]) + head_bytes(variant)
    return Measured(size, seconds, loss.dropped, loss.before)


def tensors(read: checkpoint.Checkpoint) -> dict:
    """Return whole tensors in float32."""
    return Draft(read, manifests.build(read.config, read.tokenizer, read.weights)).tensors({})


def packing(variants: list[Path]) -> str:
    """Count the pages that all variants, loaded exactly, take by each method."""
    names: dict[str, set[bytes]] = {}
    for path in (model_directory(), *variants):
        read = checkpoint.read(path)
        manifest = manifests.build(read.config, read.tokenizer, read.weights)
        names[path.name] = set(manifest.block_names())
    counts = [f"{method} {len(pack_pages(names, 16, method))}" for method in METHODS]
    return f"Pages of 16 blocks for the base and all variants, exact: {', '.join(counts)}."


def head_bytes(variant: Path) -> int:
    """Count the bytes of a classification head."""
    with safe_open(variant / "model.safetensors", "np") as file:
        names = [name for name in HEADS if name in file.keys()]  # noqa: SIM118
        return sum(file.get_tensor(name).nbytes for name in names)


def stored(connection: psycopg.Connection) -> int:
    """Count what stands in the tables: pages, placements, names, maps, records."""
    found = connection.execute(STORED).fetchone()
    return int(found[0]) if found else 0


def table(lines: list[str], pages: str) -> str:
    """Write the page."""
    head = (
        "| variant | MB, files | exact | approximate, 0.5 points | delta, 0.5 points "
        "| delta, 1 point | deltatensors int4 | deltatensors quantized |\n" + "|---" * 8 + "|"
    )
    return "\n".join(
        [
            head,
            *lines,
            "",
            pages,
            "",
            "Each cell: MB that the variant adds beside the base (pages, maps, names, head), "
            "points lost of the score on the half of the texts that only checked the choice, and "
            f"the time to load. {NETSDB}",
            f"{datetime.now(UTC):%Y-%m-%d}.",
            "",
        ]
    )


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a private cluster that vanishes."""
    home = Path(tempfile.mkdtemp(prefix="pageformer-bench-", dir="/tmp"))
    home.chmod(0o755)
    running = Cluster(home)
    try:
        bring_up(running, lambda text: None)
        yield running
    finally:
        running.stop("immediate")
        running.remove_page_cache()
        shutil.rmtree(home)


@contextmanager
def database(running: Cluster) -> Iterator[str]:
    """Make a database with Pageformer in it, and drop it again."""
    with psycopg.connect(running.dsn, autocommit=True) as connection:
        connection.execute("create database variant")
        try:
            install.upgrade(running.dsn_of("variant"))
            yield running.dsn_of("variant")
        finally:
            connection.execute("drop database variant with (force)")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else HERE.parent / "build" / "variants")

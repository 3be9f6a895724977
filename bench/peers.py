"""Every precision of ours beside every fast runtime, same texts, same machine, in rounds.

`python -m bench.peers` measures the sections that bench/results/peers.json does not have yet, all
of them with `--again`, or those that are named; then it writes bench/results/peers.md and, by
bench/plot.py, peers.svg. Ratios are to ONNX Runtime in float32 in the same round.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import plot, random_bert, runtime_peer
from bench.conditions import conditions
from bench.ours import Ours
from bench.paired import percentiles, seconds
from bench.peer import PYTHON, Peer
from bench.rounds import Contestant, Row, compare, race
from bench.server import Server, model_directory, server
from bench.texts import descriptions, fortunes
from pageformer.loader.load import load

RESULTS = Path(__file__).parent / "results" / "peers.json"
MODELS = Path(__file__).parents[1] / "build" / "bench-models"
COMPUTE = ("float32", "bfloat16", "int8")
KINDS = (
    "onnx-int8",
    "torch-float32",
    "torch-bfloat16",
    "ctranslate2-float32",
    "ctranslate2-int8",
    "sentence-float32",
    "sentence-bfloat16",
)
TEXTS, BASE_TEXTS, SINGLES, IN_A_ROW = 300, 30, 100, 20
SETTLED = 0.1  # seconds after which no thread of the other side computes any more
Section = dict[str, Any]


def peer(model: Path, kind: str, name: str) -> Peer:
    """Start a peer."""
    return Peer(model, runtime_peer.__file__, kind, str(MODELS / name))


def contestant(kind: str, running: Peer, texts: list[str]) -> Contestant:
    """Let a peer encode texts."""
    return Contestant(
        f"{kind} ({running.versions})",
        lambda: running.encode(texts),
        vectors=lambda: running.vectors(texts),
    )


def throughput(ours: Ours, model: Path, name: str, texts: list[str], ways: int = 5) -> Section:
    """Race our ways against the peers, over one list of texts."""
    ours.fill(texts)
    running = {kind: peer(model, kind, name) for kind in ("onnx-float32", *KINDS)}
    field = [contestant(kind, one, texts) for kind, one in running.items()]
    for compute in COMPUTE:
        field += ours.contestants(compute, ways)
    if name == "minilm":
        field.append(ours.by_numpy())
    ours.set_compute("float32")
    wide = ours.vectors()
    rows = compare(race(field, len(texts)), field, wide)
    for one in running.values():
        one.close()
    return {"texts": len(texts), "rows": [row._asdict() for row in rows]}


def latency(ours: Ours, model: Path) -> Section:
    """Time single texts, ours over the socket, from text to vector on both sides."""
    ours.fill([])
    base, found = peer(model, "onnx-float32", "minilm"), []
    for compute in COMPUTE:
        ours.set_compute(compute)
        for words in (2, 10, 40):
            text = " ".join(["round"] * words)
            name = f"ours {compute}, {words + 3} tokens"
            found += [
                singles(f"{name}, after a rest", ours, base, text, 1, 0),
                singles(f"{name}, in a row", ours, base, text, IN_A_ROW, IN_A_ROW // 4),
            ]
    base.close()
    return {"rows": found}


def singles(name: str, ours: Ours, base: Peer, text: str, length: int, dropped: int) -> Section:
    """Time a text in runs by turns, without the first ones of each run.

    Each side rests before it begins, since the other's threads go on to spin for its core.
    """
    mine: list[float] = []
    theirs: list[float] = []
    for i in range(1 + SINGLES // (length - dropped)):
        one = f"{text} {i}"
        time.sleep(SETTLED)
        mine += [seconds(partial(ours.one, one)) for _ in range(length)][dropped:]
        time.sleep(SETTLED)
        theirs += [base.encode([one]) for _ in range(length)][dropped:]
    share = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    return {"name": name, "ours": percentiles(mine), "peer": percentiles(theirs), "share": share}


def measure(
    running: Server, wanted: Callable[[str], bool], keep: Callable[[str, Section], None]
) -> None:
    """Measure the sections that are wanted, and keep each as soon as it is done."""
    with running.connect() as connection:
        ours = Ours(running, connection, "minilm", 384)
        kinds = {"fortunes": fortunes(TEXTS), "descriptions": descriptions(connection, TEXTS)}
        if wanted("latency"):
            keep("latency", latency(ours, model_directory()))
        for kind, texts in kinds.items():
            if texts and wanted(kind):
                keep(kind, throughput(ours, model_directory(), "minilm", texts))
        ours.close()
        if wanted("bert-base"):
            folder = random_bert.folder(MODELS / "bert-base", model_directory())
            load(connection, str(folder), name="base")
            base = Ours(running, connection, "base", 768)
            texts = (kinds["fortunes"] or kinds["descriptions"])[:BASE_TEXTS]
            keep("bert-base", throughput(base, folder, "bert-base", texts, 1))


def table(found: dict[str, Section]) -> str:
    """Write what was found as Markdown."""
    lines = []
    for name, section in found.items():
        lines += latency_table(section) if name == "latency" else rate_table(name, section)
    return "\n".join(lines)


def rate_table(name: str, section: Section) -> list[str]:
    """Write a section of texts per second."""
    columns = "texts/s | times ONNX Runtime float32 | cosine: lowest, mean"
    lines = ["", f"| {name}, {section['texts']} texts | {columns} |", "|---|---|---|---|"]
    for row in (Row(**row) for row in section["rows"]):
        ratio = statistics.median(row.ratios)
        spread = f"{ratio:.2f} ({min(row.ratios):.2f} to {max(row.ratios):.2f})"
        near = f"{row.cosine[0]:.5f}, {row.cosine[1]:.5f}" if row.cosine else ""
        lines.append(f"| {row.name} | {row.rate:.0f} | {spread} | {near} |")
    return [*lines, "", section["conditions"]]


def latency_table(section: Section) -> list[str]:
    """Write a section of latencies."""
    head = "| one text | ours, ms, median and p99 | ONNX Runtime float32 | ours takes |"
    lines = ["", head, "|---|---|---|---|"]
    for row in section["rows"]:
        times = (f"{a * 1e3:.2f}, {b * 1e3:.2f}" for a, b in (row["ours"], row["peer"]))
        lines.append(f"| {row['name']} | {' | '.join(times)} | {row['share']:.2f} of its time |")
    return [*lines, "", section["conditions"]]


def main(arguments: Sequence[str]) -> None:
    """Measure what is missing or asked for, and write the tables and the plot."""
    named = [argument for argument in arguments if argument != "--again"]
    fresh = "--again" in arguments or not RESULTS.exists()
    found: dict[str, Section] = {} if fresh else json.loads(RESULTS.read_text())

    def wanted(name: str) -> bool:
        return name in named if named else name not in found

    def keep(name: str, section: Section) -> None:
        found[name] = {**section, "conditions": conditions()}
        RESULTS.write_text(json.dumps(found, indent=1))
        RESULTS.with_suffix(".md").write_text(table(found).strip() + "\n")
        print(f"{name}: done", file=sys.stderr)

    with server() as running:
        measure(running, wanted, keep)
    print(RESULTS.with_suffix(".md").read_text())
    drawn = RESULTS.with_suffix(".svg")
    subprocess.run([PYTHON, plot.__file__, str(RESULTS), str(drawn)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])

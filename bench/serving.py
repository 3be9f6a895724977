"""The serving process beside backends, and its scheduler beside simpler ones.

`python -m bench.serving [SECONDS]` measures cell by cell and remembers each in build/bench, so that
it goes on where it was interrupted, or where `--minutes` ended; `--fresh` forgets them. All of it
takes twelve minutes. Writes bench/results/serving.md.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from bench.conditions import processor
from bench.load import QUERY, Crowd, crowd
from bench.server import Server, server
from bench.texts import descriptions, fortunes
from pageformer.installed_server import server_account

KEPT = Path(__file__).parents[1] / "build" / "bench" / "serving.json"
RESULTS = Path(__file__).parent / "results" / "serving.md"
CONNECTIONS = (1, 4, 16, 64)
ROUNDS = 2  # of each executor, by turns
EXECUTORS = ("backend", "serve", "auto")
POLICIES = ("none", "fixed", "tokens", "cost")
LATENCIES = ("fortunes", "5 to 500 tokens")  # lengths that schedulers are compared by
LOADS = (0.25, 0.5, 0.75, 0.9)  # of what 16 connections reach
LONGER = 3  # times the seconds of a cell, for a cell of latencies
RESTARTS = 5
SETTLED = 2.0  # seconds after which a process has measured what batches cost
BOUND = 5  # times the median of a lone connection: the p99 that a rate must keep

Cell = dict[str, Any]
Measure = Callable[[], Cell]


class Cells:
    """Remember what was measured, by name."""

    def __init__(self, fresh: bool, minutes: float) -> None:
        self._found = json.loads(KEPT.read_text()) if KEPT.exists() and not fresh else {}
        self._until = time.monotonic() + 60 * minutes

    def lack(self, names: Iterable[str]) -> bool:
        """Tell whether a cell of these is still to be measured."""
        return any(name not in self._found for name in names)

    def get(self, name: str, measure: Measure) -> Cell:
        """Return a cell, measured now unless it was before."""
        if name not in self._found:
            if time.monotonic() > self._until:
                raise SystemExit("the time is over: the same command goes on")
            print(name, end=" ", flush=True)
            self._found[name] = measure()
            print(self._found[name], flush=True)
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            KEPT.write_text(json.dumps(self._found, indent=1))
        cell: Cell = self._found[name]
        return cell


def lengths(server: Server) -> dict[str, list[str]]:
    """Return texts as long as fortunes, as queries, and of 5 to 500 tokens alike."""
    with server.connect() as connection:
        natural = fortunes(1000) or descriptions(connection, 1000)
    words = " ".join(natural).split()
    source = random.Random(0)

    def cut(least: int, most: int) -> str:
        begin = source.randrange(len(words) - most)
        return " ".join(words[begin : begin + source.randint(least, most)])

    return {
        "fortunes": source.sample(natural, len(natural)),
        "queries of 3 to 10 words": [cut(3, 10) for _ in range(1000)],
        "5 to 500 tokens": [cut(4, 350) for _ in range(1000)],
    }


@contextmanager
def process(server: Server, *options: str) -> Iterator[None]:
    """Run a serving process."""
    command = [str(Path(sys.executable).resolve()), "-m", "pageformer.serving"]
    running = subprocess.Popen(
        [*command, f"--dsn={server.cluster.dsn}", *options],
        env={"PATH": os.defpath, "PYTHONPATH": str(server.cluster.site)},
        cwd="/", stdout=subprocess.PIPE, text=True, **server_account(),
    )  # fmt: skip
    assert running.stdout is not None
    running.stdout.readline()
    try:
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate()


def settle(server: Server) -> None:
    """Let the process open the version, and measure it."""
    with server.connect() as connection:
        connection.execute(QUERY, ["a text"])
    time.sleep(SETTLED)


def set_executor(server: Server, value: str) -> None:
    """Choose who computes."""
    with server.connect() as connection:
        query = "update pageformer.setting set value = %s where name = 'executor'"
        connection.execute(query, [value])


def executors(server: Server, cells: Cells, texts: dict[str, list[str]], seconds: float) -> None:
    """Measure what each executor reaches, row by row, by turns."""
    turns = [(turn, executor) for turn in range(ROUNDS) for executor in EXECUTORS]
    for kind, chosen in texts.items():
        for count in CONNECTIONS:
            names = {f"closed/{kind}/{count}/{e}/{turn}": e for turn, e in turns}
            if not cells.lack(names):
                continue
            set_executor(server, "serve")
            with process(server), crowd(server.cluster.dsn, count) as asking:
                settle(server)
                for name, executor in names.items():

                    def measure(e: str = executor, a: Crowd = asking, t: Any = chosen) -> Cell:
                        set_executor(server, e)
                        return a.closed(t, seconds).figures()

                    cells.get(name, measure)


def policies(server: Server, cells: Cells, texts: dict[str, list[str]], seconds: float) -> None:
    """Measure latencies under each scheduler, at parts of what 16 connections reach."""
    every = list(product(LATENCIES, LOADS, POLICIES))
    if not cells.lack("/".join(map(str, ("open", *cell))) for cell in every):
        return
    set_executor(server, "backend")
    with crowd(server.cluster.dsn, 64) as asking:
        set_executor(server, "serve")
        for kind, load, policy in every:
            rates = [closed_cell(cells, kind, 16, "serve", turn)["rate"] for turn in range(ROUNDS)]
            rate = load * statistics.median(rates)

            def measure(k: str = kind, r: float = rate, p: str = policy) -> Cell:
                with process(server, f"--policy={p}"):
                    settle(server)
                    return asking.poisson(texts[k], LONGER * seconds, r).figures()

            cells.get(f"open/{kind}/{load}/{policy}", measure)


def restarts(server: Server, cells: Cells) -> float:
    """Measure the seconds from starting a process to its first answer, pages being cached."""
    set_executor(server, "serve")
    with server.connect() as connection:

        def once() -> Cell:
            begin = time.perf_counter()
            with process(server):
                connection.execute(QUERY, ["a text"])
                return {"seconds": time.perf_counter() - begin}

        found = [cells.get(f"restart/{turn}", once)["seconds"] for turn in range(RESTARTS)]
    return max(found)


def closed_cell(cells: Cells, kind: str, count: int, executor: str, turn: int) -> Cell:
    """Return a cell of `executors`."""
    return cells.get(f"closed/{kind}/{count}/{executor}/{turn}", dict)


def closed_rows(cells: Cells, kinds: Sequence[str]) -> Iterator[str]:
    """Write the table of executors: ratios within a turn, their median and extremes."""
    head = ("lengths", "connections", "backend, texts/s", "`serve`, ratio", "`auto`, ratio")
    yield "| " + " | ".join([*head, "a text's processor time, ms: backend, `serve`, `auto`"]) + " |"
    yield "|---|---|---|---|---|---|"
    for kind in kinds:
        for count in CONNECTIONS:
            found = {
                executor: [closed_cell(cells, kind, count, executor, t) for t in range(ROUNDS)]
                for executor in EXECUTORS
            }
            rates = {e: [cell["rate"] for cell in turns] for e, turns in found.items()}
            spent = [statistics.median(c["spent"] for c in found[e]) * 1e3 for e in EXECUTORS]
            base = rates["backend"]
            yield (
                f"| {kind} | {count} | {statistics.median(base):.0f} | "
                f"{ratio(rates['serve'], base)} | {ratio(rates['auto'], base)} | "
                + ", ".join(f"{ms:.1f}" for ms in spent)
                + " |"
            )


def ratio(ours: Sequence[float], base: Sequence[float]) -> str:
    """Write the median of ratios, and the extremes."""
    found = [a / b for a, b in zip(ours, base, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def open_rows(cells: Cells, kinds: Sequence[str]) -> Iterator[str]:
    """Write the table of schedulers: median and 99th percentile at each load."""
    yield "| lengths | load | " + " | ".join(f"`{p}`, ms: median, p99" for p in POLICIES) + " |"
    yield "|---|---|" + "---|" * len(POLICIES)
    for kind in kinds:
        for load in LOADS:
            found = [cells.get(f"open/{kind}/{load}/{p}", dict) for p in POLICIES]
            figures = [f"{c['p50'] * 1e3:.0f}, {c['p99'] * 1e3:.0f}" for c in found]
            yield f"| {kind} | {load:.0%} | " + " | ".join(figures) + " |"


def bound_rows(cells: Cells, kinds: Sequence[str]) -> Iterator[str]:
    """Write the highest measured rate at which each scheduler keeps the bound of p99."""
    yield "| lengths | p99 bound, ms | " + " | ".join(f"`{p}`, texts/s" for p in POLICIES) + " |"
    yield "|---|---|" + "---|" * len(POLICIES)
    for kind in kinds:
        bound = BOUND * closed_cell(cells, kind, 1, "serve", 0)["p50"]
        best = []
        for policy in POLICIES:
            found = [cells.get(f"open/{kind}/{load}/{policy}", dict) for load in LOADS]
            kept = [cell["rate"] for cell in found if cell["p99"] <= bound]
            best.append(f"{max(kept):.0f}" if kept else "none")
        yield f"| {kind} | {bound * 1e3:.0f} | " + " | ".join(best) + " |"


def page(cells: Cells, kinds: Sequence[str], conditions: str) -> str:
    """Write the results."""
    parts = [
        "# The serving process\n",
        "Row by row, each connection asks again as soon as it has its answer:\n",
        *closed_rows(cells, kinds),
        "\nPoisson arrivals over 64 connections, counted from the arrival; load is a part of what "
        "16 connections reach row by row:\n",
        *open_rows(cells, LATENCIES),
        f"\nThe highest of these rates with a p99 of at most {BOUND} times the median of a lone "
        "connection:\n",
        *bound_rows(cells, LATENCIES),
        f"\n{conditions}\n",
    ]
    return "\n".join(parts)


def main() -> None:
    """Measure what is missing, and write the page."""
    options = argparse.ArgumentParser()
    options.add_argument("seconds", type=float, nargs="?", default=3.0, help="of each cell")
    options.add_argument("--fresh", action="store_true")
    options.add_argument("--minutes", type=float, default=1e3, help="before it stops")
    chosen = options.parse_args()
    cells = Cells(chosen.fresh, chosen.minutes)
    with server() as running:
        texts = lengths(running)
        executors(running, cells, texts, chosen.seconds)
        policies(running, cells, texts, chosen.seconds)
        restarted = restarts(running, cells)
    conditions = (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {os.cpu_count()} cores, which the clients "
        f"use as well; a process answers at most {restarted:.1f} s after it is started, {RESTARTS} "
        f"times; all-MiniLM-L6-v2 in float32, cut at 256 tokens; {chosen.seconds:g} s a cell, "
        f"{LONGER * chosen.seconds:g} s for latencies."
    )
    RESULTS.write_text(page(cells, list(texts), conditions), encoding="utf-8")
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from bench.conditions import processor
from bench.load import QUERY, Crowd, crowd
from bench.server import Server, model_directory, server
from bench.serving_page import CONNECTIONS, EXECUTORS, LATENCIES, LOADS, RACED, ROUNDS, page
from bench.texts import descriptions, fortunes
from pageformer.installed_server import server_account
from pageformer.udfs.tokenizer import Tokenizer

KEPT = Path(__file__).parents[1] / "build" / "bench" / "serving.json"
RESULTS = Path(__file__).parent / "results" / "serving.md"
LIMIT = 256  # tokens, of the model
LONGER = 2  # times the seconds of a cell, for a cell of latencies
RESTARTS = 5
SETTLED = 1.5  # seconds after which a process has measured what batches cost

Cell = dict[str, Any]
Measure = Callable[[], Cell]


class Cells:
    """Remember what was measured, by name."""

    def __init__(self, fresh: bool, minutes: float) -> None:
        self.found = json.loads(KEPT.read_text()) if KEPT.exists() and not fresh else {}
        self._until = time.monotonic() + 60 * minutes

    def lack(self, names: Iterable[str]) -> bool:
        """Tell whether a cell of these is still to be measured."""
        return any(name not in self.found for name in names)

    def get(self, name: str, measure: Measure) -> Cell:
        """Return a cell, measured now unless it was before."""
        if name not in self.found:
            if time.monotonic() > self._until:
                raise SystemExit("the time is over: the same command goes on")
            print(name, end=" ", flush=True)
            self.found[name] = measure()
            print(self.found[name], flush=True)
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            KEPT.write_text(json.dumps(self.found, indent=1))
        cell: Cell = self.found[name]
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


def count_tokens(texts: dict[str, list[str]]) -> dict[str, list[int]]:
    """Return the lengths of texts in tokens."""
    tokenizer = Tokenizer((model_directory() / "tokenizer.json").read_bytes, LIMIT)
    return {kind: [len(tokenizer.encode(text).ids) for text in texts[kind]] for kind in LATENCIES}


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
    every = list(product(LATENCIES, LOADS, RACED))
    if not cells.lack("/".join(map(str, ("open", *cell))) for cell in every):
        return
    set_executor(server, "backend")
    with crowd(server.cluster.dsn, 64) as asking:
        set_executor(server, "serve")
        for kind, load, policy in every:
            rates = [
                cells.found[f"closed/{kind}/16/serve/{turn}"]["rate"] for turn in range(ROUNDS)
            ]
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
        f"times; all-MiniLM-L6-v2 in float32, cut at {LIMIT} tokens; {chosen.seconds:g} s a cell, "
        f"{LONGER * chosen.seconds:g} s for latencies."
    )
    tokens = count_tokens(texts)
    RESULTS.write_text(page(cells.found, tokens, list(texts), conditions), encoding="utf-8")
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()

"""Run the benchmarks, print the table and write it where the README takes it from."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import added, encode, memory
from bench.conditions import processor
from bench.encode import Row
from bench.peer import Peer
from bench.server import Server, model_directory, server
from pageformer.udfs.backends import named

RESULTS = Path(__file__).parent / "results" / "encode.md"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"
TEXTS = 1000


def main() -> None:
    """Measure everything once."""
    with server() as running:
        peer = Peer(model_directory())
        rows = []
        for measured in (
            encode.storage(running),
            encode.first_call(running),
            memory.memory(running),
            memory.second_version(running),
            encode.cancelling(running),
            encode.latency(running, peer),
            added.added(running),
            encode.throughput(running, peer, TEXTS),
        ):
            for row in measured:
                print(" | ".join(row), flush=True)
                rows.append(row)
        table = page(rows, conditions(running, peer))
        peer.close()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(table, encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(before + BEGIN + table + END + after, encoding="utf-8")


def page(rows: list[Row], conditions: str) -> str:
    """Write rows as a Markdown table, with what was run below it."""
    head = ["| all-MiniLM-L6-v2, float32 | Pageformer | sentence-transformers |", "|---|---|---|"]
    lines = [f"| {what} | {ours} | {theirs} |" for what, ours, theirs in rows]
    return "\n".join([*head, *lines, "", conditions, ""])


def conditions(running: Server, peer: Peer) -> str:
    """Say what was run, where and when."""
    return (
        f"{conditions_of(running)[:-1]}; {peer.versions}. "
        "Ratios: median (lowest to highest) of five runs by turns; texts and vectors cross the "
        "socket on our side, not on the peer's."
    )


def conditions_of(running: Server) -> str:
    """Say where and when our side was run."""
    with running.connect() as connection:
        postgres = connection.info.server_version // 10000
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {os.cpu_count()} cores. "
        f"Pageformer {version('pageformer')}: PostgreSQL {postgres}, "
        f"Python {platform.python_version()}, backend {named('auto')}."
    )


if __name__ == "__main__":
    sys.exit(main())

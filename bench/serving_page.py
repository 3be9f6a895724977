"""The page of bench/serving.py: its cells as tables, and what the scheduler does by itself."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from bench import waiting_line
from bench.paired import percentiles

CONNECTIONS = (1, 4, 16, 64)
ROUNDS = 2  # of each executor, by turns
EXECUTORS = ("backend", "serve", "auto")
POLICIES = ("none", "fixed", "tokens", "cost")
RACED = ("fixed", "cost")  # measured as well; the others are simulated
LATENCIES = ("fortunes", "5 to 500 tokens")  # lengths that schedulers are compared by
LOADS = (0.25, 0.5, 0.75, 0.9)  # of what 16 connections reach
HEAD = 2  # lines of a table before its rows
BOUND = 5  # times the median of a lone connection: the p99 that a rate must keep

Cell = dict[str, Any]
Cells = Mapping[str, Cell]


def closed_rows(cells: Cells, kinds: Sequence[str]) -> Iterator[str]:
    """Write the table of executors: ratios within a turn, their median and extremes."""
    head = ("lengths", "connections", "backend, texts/s", "`serve`, ratio", "`auto`, ratio")
    yield "| " + " | ".join([*head, "a text's processor time, ms: backend, `serve`, `auto`"]) + " |"
    yield "|---|---|---|---|---|---|"
    for kind in kinds:
        for count in CONNECTIONS:
            names = {
                executor: [f"closed/{kind}/{count}/{executor}/{turn}" for turn in range(ROUNDS)]
                for executor in EXECUTORS
            }
            if not cells.keys() >= set(chain.from_iterable(names.values())):
                continue  # it was not measured yet
            found = {executor: [cells[name] for name in own] for executor, own in names.items()}
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


def simulated_rows(tokens: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Write the table of all schedulers for texts of so many tokens, without a machine's noise."""
    yield "| lengths | load | " + " | ".join(f"`{p}`, ms: median, p99" for p in POLICIES) + " |"
    yield "|---|---|" + "---|" * len(POLICIES)
    for kind, lengths in tokens.items():
        for load in LOADS:
            rate = load * waiting_line.saturation(lengths)
            found = [percentiles(waiting_line.latencies(p, lengths, rate)) for p in POLICIES]
            figures = [f"{middle * 1e3:.0f}, {late * 1e3:.0f}" for middle, late in found]
            yield f"| {kind} | {load:.0%} | " + " | ".join(figures) + " |"


def open_rows(cells: Cells, kinds: Sequence[str]) -> Iterator[str]:
    """Write the table of schedulers: median and 99th percentile at each load."""
    yield "| lengths | load | " + " | ".join(f"`{p}`, ms: median, p99" for p in RACED) + " |"
    yield "|---|---|" + "---|" * len(RACED)
    for kind in kinds:
        for load in LOADS:
            names = [f"open/{kind}/{load}/{policy}" for policy in RACED]
            if not cells.keys() >= set(names):
                continue  # it was not measured yet
            found = [cells[name] for name in names]
            figures = [f"{c['p50'] * 1e3:.0f}, {c['p99'] * 1e3:.0f}" for c in found]
            yield f"| {kind} | {load:.0%} | " + " | ".join(figures) + " |"


def bound_rows(cells: Cells, kinds: Sequence[str]) -> Iterator[str]:
    """Write the highest measured rate at which each scheduler keeps the bound of p99."""
    yield "| lengths | p99 bound, ms | " + " | ".join(f"`{p}`, texts/s" for p in RACED) + " |"
    yield "|---|---|" + "---|" * len(RACED)
    for kind in kinds:
        names = {policy: [f"open/{kind}/{load}/{policy}" for load in LOADS] for policy in RACED}
        lone = f"closed/{kind}/1/serve/0"
        if not cells.keys() >= {lone, *chain.from_iterable(names.values())}:
            continue  # it was not measured yet
        bound, best = BOUND * cells[lone]["p50"], []
        for policy in RACED:
            found = [cells[name] for name in names[policy]]
            kept = [cell["rate"] for cell in found if cell["p99"] <= bound]
            best.append(f"{max(kept):.0f}" if kept else "none")
        yield f"| {kind} | {bound * 1e3:.0f} | " + " | ".join(best) + " |"


def page(
    cells: Cells, tokens: Mapping[str, Sequence[int]], kinds: Sequence[str], conditions: str
) -> str:
    """Write the results."""
    parts = [
        "# The serving process",
        *section(
            "Row by row, each connection asks again as soon as it has its answer:",
            closed_rows(cells, kinds),
        ),
        *section(
            "Poisson arrivals over 64 connections, counted from the arrival; load is a part of "
            "what 16 connections reach row by row:",
            open_rows(cells, LATENCIES),
        ),
        *section(
            f"The highest of these rates with a p99 of at most {BOUND} times the median of a lone "
            "connection:",
            bound_rows(cells, LATENCIES),
        ),
        *section(
            "Poisson arrivals simulated, a worker on each of two cores, with costs of batches as "
            "measured here; load is a part of what the cores do one by one:",
            simulated_rows(tokens),
        ),
        f"\n{conditions}\n",
    ]
    return "\n".join(parts)


def section(title: str, rows: Iterator[str]) -> list[str]:
    """Put a title above a table, unless nothing of it was measured yet."""
    table = list(rows)
    return [f"\n{title}\n", *table] if len(table) > HEAD else []

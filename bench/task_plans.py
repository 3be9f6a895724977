"""How near the measured time of our plans comes to the best of PetS's, by costs fitted here."""

import time
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from bench import task_models, task_speed
from bench.task_models import by_turns, nothing, progress, queries
from pageformer.serving import cost as costs
from pageformer.serving import plan as plans
from pageformer.udfs import composed
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.task_run import Task

QUERIES, ROUNDS = 128, 5
TASKS, SIGMAS = (2, 8, 32, 128), (1, 2, 4, 8)
WAYS = (plans.plan, plans.alpha_only, plans.beta_only, plans.coordinated)
Cell = task_speed.Cell


def planned() -> list[str]:
    """Compare the measured time of our plans with that of the paper's over a grid."""
    cells = [
        task_speed.kept(f"plans, {number} tasks, sigma {sigma}", partial(cell, number, sigma))
        for number in TASKS
        for sigma in SIGMAS
    ]
    names = " | ".join(f"{way.__name__}, ms" for way in WAYS[1:])
    lines = [
        f"| tasks | sigma | ours, ms | {names} | to the best | by the model |",
        "|---" * 8 + "|",
    ]
    for c in cells:
        taken = " | ".join(
            f"{seconds * 1e3:.0f} ({n})"
            for seconds, n in zip(c["seconds"], c["batches"], strict=True)
        )
        shares = f"{to_best(c['seconds']):.3f} | {to_best(c['costs']):.3f}"
        lines.append(f"| {c['planned']} | {c['sigma']} | {taken} | {shares} |")
    every = [to_best(c["seconds"]) for c in cells]
    return [
        *lines,
        f"\n{QUERIES} queries, batches of at most {composed.BATCH_TOKENS} tokens, their number in "
        f"brackets; medians of {ROUNDS} rounds by turns, in which cuts that are alike are computed "
        f"once. To the best: ours over the least of the paper's three; {min(every):.3f} to "
        f"{max(every):.3f}, {np.mean(every):.3f} on average.",
    ]


def to_best(of_ways: Sequence[float]) -> float:
    """Divide ours by the least of the others."""
    return of_ways[0] / min(of_ways[1:])


def cell(number: int, sigma: int) -> Cell:
    """Cut one list of queries by each plan, and time what comes of it."""
    model, tasks = task_speed.base()
    cost = fitted()
    own = [tasks[i % number] for i in range(QUERIES)]
    ids = queries(np.random.default_rng(sigma), sigma, QUERIES, task_speed.WORDS)
    pairs = zip(ids, own, strict=True)
    requests = [plans.Request(len(text), id(task), task.config.kind) for text, task in pairs]
    cuts = [way(requests, cost, composed.BATCH_TOKENS) for way in WAYS]
    return {
        "planned": number,
        "sigma": sigma,
        "seconds": timed_cuts(cuts, partial(run_cut, model, ids, own)),
        "costs": [cost.of_plan(requests, cut) for cut in cuts],
        "batches": [len(cut) for cut in cuts],
    }


def timed_cuts(cuts: Sequence[plans.Batches], run: Callable[[plans.Batches], None]) -> list[float]:
    """Time cuts by turns, those that are alike as one; their median seconds."""
    different = {str(sorted(cut)): cut for cut in cuts}
    taken = by_turns(*(partial(run, cut) for cut in different.values()), rounds=ROUNDS)
    seconds = dict(zip(different, taken, strict=True))
    return [seconds[str(sorted(cut))] for cut in cuts]


@cache
def fitted() -> plans.Cost:
    """Fit what batches cost on this machine."""
    progress("fitting costs")
    model, tasks = task_speed.base()
    kinds = {kind: kind_cost(model, tasks[i::4]) for i, kind in enumerate(task_models.KINDS)}
    return costs.fit(lambda lengths: timed(model, lengths, None), kinds)


def kind_cost(model: Model, tasks: Sequence[Task]) -> costs.Seconds:
    """Time batches whose sequences are shared out among tasks of one kind."""

    def run(lengths: Sequence[int], number: int) -> float:
        chosen = [tasks[i * number // len(lengths) % len(tasks)] for i in range(len(lengths))]
        return timed(model, lengths, chosen)

    return run


def timed(model: Model, lengths: Sequence[int], tasks: Sequence[Task] | None) -> float:
    """Compute one batch, and return its seconds."""
    begin = time.perf_counter()
    run_cut(model, [[5] * n for n in lengths], tasks, [list(range(len(lengths)))])
    return time.perf_counter() - begin


def run_cut(
    model: Model, ids: Sequence[list[int]], tasks: Sequence[Task] | None, cut: plans.Batches
) -> None:
    """Compute batches as they were cut."""
    for members in cut:
        own = None if tasks is None else [tasks[i] for i in members]
        composed.encode(model, [ids[i] for i in members], nothing, 0, own)

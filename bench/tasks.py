"""Tasks by the hundred over one model: `python -m bench.tasks [SECTION ...]`.

Sections: devices (how many fit), throughput and peft (task_speed.py), plans. Each writes its own
part of results/tasks.md; cells of throughput are kept, so that a run goes on where one was stopped.
"""

import mmap
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench import task_models, task_speed
from bench.conditions import conditions
from bench.task_models import by_turns, nothing, progress, queries
from pageformer.cpu_backend import cores
from pageformer.serving import cost as costs
from pageformer.serving import plan as plans
from pageformer.udfs import backends, composed
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.plan import plan
from pageformer.udfs.tasks.task_array import TaskArray, aligned
from pageformer.udfs.tasks.task_run import Task, read

RESULTS = Path(__file__).parent / "results"
SIZES = {"DistilBERT": (768, 6), "BERT-base": (768, 12), "BERT-large": (1024, 24)}
DEVICES = {"8 GB": (504, 180, 12), "11 GB": (1336, 588, 126), "32 GB": (4344, 2164, 560)}
REGISTERED = 64
QUERIES, PLANNED = 128, ((4, 1), (4, 8), (32, 1), (32, 8))  # tasks, sigma
PAGE = 1 << 20


def main(chosen: Sequence[str]) -> None:
    """Run sections, all by default, and put their parts together."""
    cores.share(lambda name, size: mmap.mmap(-1, size))
    for name in chosen or SECTIONS:
        print(f"section {name}", file=sys.stderr)
        text = "\n".join([*SECTIONS[name](), "", conditions(), ""])
        (RESULTS / f"tasks-{name}.md").write_text(text, encoding="utf-8")
    parts = [RESULTS / f"tasks-{name}.md" for name in SECTIONS]
    there = [part.read_text(encoding="utf-8") for part in parts if part.exists()]
    (RESULTS / "tasks.md").write_text("\n".join(there), encoding="utf-8")


# -- how many fit ---------------------------------------------------------------------------------


def devices() -> list[str]:
    """Measure what a task takes, stored and mapped, and extrapolate to PetS's devices."""
    measured = {name: footprint(*size) for name, size in SIZES.items()}
    lines = ["| device | " + " | ".join(f"{name}: ours / PetS" for name in SIZES) + " |"]
    lines.append("|---" * 4 + "|")
    for device, theirs in DEVICES.items():
        ours = [count(device, *found) for found in measured.values()]
        cells = [f"{n} / {pets} = {n / pets:.1f}" for n, pets in zip(ours, theirs, strict=True)]
        lines.append(f"| {device} | " + " | ".join(cells) + " |")
    for name, (shared, stored, mapped) in measured.items():
        lines.append(
            f"\n{name}: {shared / 1e6:.0f} MB of process memory before tasks, with the model and "
            f"room to compute; per task {stored / 1e6:.2f} MB stored, {mapped / 1e6:.2f} MB mapped."
        )
    lines.append(
        "\ntasks = (device - before tasks) / max(stored, mapped), 1 GB = 10^9 bytes; means over "
        f"{REGISTERED} registered tasks, as many of each kind, float32."
    )
    return lines


def count(device: str, shared: float, stored: float, mapped: float) -> int:
    """Extrapolate how many tasks a device holds."""
    return int((float(device.split()[0]) * 1e9 - shared) / max(stored, mapped))


def footprint(hidden: int, layers: int) -> tuple[float, float, float]:
    """Measure the memory of a process before tasks, and per task what is stored and mapped."""
    config = task_models.bert(hidden, layers)
    model = backends.model("cpu", task_models.layout(config))
    ids = queries(np.random.default_rng(0), 4.0, REGISTERED)
    composed.encode(model, ids, nothing)
    shared = resident()
    tasks, stored = [], 0
    for i in range(REGISTERED):
        progress(f"{hidden} x {layers}: task {i + 1} of {REGISTERED}")
        kind = task_models.KINDS[i % 4]
        described, arrays = task_models.task(config, kind, i)
        stored += sum(len(memoryview(array.data).cast("B")) for array in arrays.values())
        tasks.append(read(model, described, mapped(arrays)))
    composed.encode(model, ids, nothing, 0, tasks)
    return shared, stored / REGISTERED, (resident() - shared) / REGISTERED


def mapped(arrays: task_models.Arrays) -> task_models.Arrays:
    """Lay arrays on shared memory as pages do."""
    places, end = {}, 0
    for name, array in arrays.items():
        places[name] = aligned(end)
        end = places[name] + memoryview(array.data).nbytes
    memory = memoryview(mmap.mmap(-1, end + PAGE))
    for name, array in arrays.items():
        memory[places[name] : places[name] + memoryview(array.data).nbytes] = array.data
    return {
        name: TaskArray(a.form, a.shape, memory[places[name] : places[name] + len(bytes(a.data))])
        for name, a in arrays.items()
    }


def resident() -> float:
    """Return the bytes of memory that this process has touched and holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * mmap.PAGESIZE)


# -- how they are cut into batches ----------------------------------------------------------------


def planned() -> list[str]:
    """Compare the measured time of our plans with that of the paper's, by a cost fitted here."""
    model, tasks = task_speed.base()
    fitted = costs.fit(
        lambda lengths: timed(model, lengths, None),
        {kind: kind_cost(model, tasks[i::4]) for i, kind in enumerate(task_models.KINDS)},
    )
    lines = [f"Fitted: {fitted}", "", "| tasks | sigma | plan | by the model | measured |"]
    lines.append("|---" * 5 + "|")
    for number, sigma in PLANNED:
        few = [tasks[i % number] for i in range(QUERIES)]
        for name, modelled, measured in plans_of(model, few, sigma, fitted):
            lines.append(f"| {number} | {sigma} | {name} | {modelled:.3f} s | {measured:.3f} s |")
    return lines


def plans_of(
    model: Model, tasks: Sequence[Task], sigma: float, fitted: plans.Cost
) -> list[tuple[str, float, float]]:
    """Cut one list of queries by each plan; its name, its cost by the model, its seconds."""
    ways = (plan, plans.alpha_only, plans.beta_only, plans.coordinated)
    ids = queries(np.random.default_rng(1), sigma, len(tasks), task_speed.WORDS)
    pairs = zip(ids, tasks, strict=True)
    requests = [plans.Request(len(own), id(task), task.config.kind) for own, task in pairs]
    cuts = [way(requests, fitted, composed.BATCH_TOKENS) for way in ways]
    seconds = by_turns(*(partial(run_cut, model, ids, tasks, cut) for cut in cuts))
    named = zip(ways, cuts, seconds, strict=True)
    return [(way.__name__, fitted.of_plan(requests, cut), taken) for way, cut, taken in named]


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


SECTIONS: dict[str, Callable[[], list[str]]] = {
    "devices": devices,
    "throughput": task_speed.throughput,
    "peft": task_speed.peft,
    "plans": planned,
}

if __name__ == "__main__":
    main(sys.argv[1:])

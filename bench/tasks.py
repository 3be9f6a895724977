"""Tasks by the hundred over one model: `python -m bench.tasks [SECTION ...]`.

Sections: devices (how many fit), throughput, plans. Each writes its own part of results/tasks.md,
so that a run can be taken up again.
"""

import mmap
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench import task_models
from bench.conditions import conditions
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
TASKS = (1, 2, 4, 8, 16, 32, 64, 128)
SIGMAS = (1, 2, 4, 8)
QUERIES = 1024
ROUNDS = 3
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


# -- how fast they run ----------------------------------------------------------------------------


def throughput() -> list[str]:
    """Compare mixed batches with one task of each kind, and with models one after another."""
    config = task_models.bert(*SIZES["DistilBERT"])
    model = backends.model("cpu", task_models.layout(config))
    tasks = made_tasks(model, max(TASKS))
    copies = [backends.encoder("cpu", task_models.layout(config, i), "float32", no_share)
              for i in range(4)]  # fmt: skip
    lines = ["| tasks | sigma | mixed, queries/s | of one task a kind | x one after another |"]
    lines.append("|---" * 5 + "|")
    for number in TASKS:
        for sigma in SIGMAS:
            progress(f"{number} tasks, sigma {sigma}")
            ids = queries(np.random.default_rng(int(sigma)), sigma, QUERIES // 8)
            mixed = [tasks[i % number] for i in range(len(ids))]
            few = [tasks[i % min(number, 4)] for i in range(len(ids))]
            seconds = by_turns(
                lambda ids=ids, mixed=mixed: composed.encode(model, ids, nothing, 0, mixed),
                lambda ids=ids, few=few: composed.encode(model, ids, nothing, 0, few),
                lambda ids=ids: [
                    copies[i % 4].vectors([own], None, None, nothing) for i, own in enumerate(ids)
                ],
            )
            rate, kept, sequential = len(ids) / seconds[0], *(s / seconds[0] for s in seconds[1:])
            lines.append(f"| {number} | {sigma} | {rate:.0f} | {kept:.0%} | {sequential:.2f} |")
    lines.append(
        "\nOne after another: one query at a time by the compiled pass, over four full copies of "
        "the model by turns."
    )
    return lines


def made_tasks(model: Model, number: int) -> list[Task]:
    """Make tasks of the four kinds by turns."""
    return [
        read(model, *task_models.task(model.config, task_models.KINDS[i % 4], i))
        for i in range(number)
    ]


def queries(draw: np.random.Generator, sigma: float, number: int) -> list[list[int]]:
    """Draw token ids, their lengths N(32, sigma) clipped to [1, 128]."""
    lengths = np.clip(np.rint(draw.normal(32, sigma, number)), 1, 128).astype(int)
    return [draw.integers(1000, 30000, n).tolist() for n in lengths]


def by_turns(*runs: Callable[[], object]) -> list[float]:
    """Run each some times, by turns, after once that is not counted; the median seconds."""
    taken: list[list[float]] = [[] for _ in runs]
    for turn in range(ROUNDS + 1):
        for run, own in zip(runs, taken, strict=True):
            begin = time.perf_counter()
            run()
            if turn:
                own.append(time.perf_counter() - begin)
    return [statistics.median(own) for own in taken]


def no_share(form: str, digest: bytes, make: Callable[[], bytes]) -> memoryview:
    """Keep what a backend makes to this process."""
    return memoryview(make())


# -- how they are cut into batches ----------------------------------------------------------------


def planned() -> list[str]:
    """Compare the measured time of our plans with that of the paper's, by a cost fitted here."""
    model = backends.model("cpu", task_models.layout(task_models.bert(*SIZES["DistilBERT"])))
    tasks = made_tasks(model, 32)
    fitted = costs.fit(
        lambda lengths: timed(model, lengths, None),
        {kind: kind_cost(model, tasks[i::4]) for i, kind in enumerate(task_models.KINDS)},
    )
    lines = [f"Fitted: {fitted}", "", "| tasks | plan | by the model | measured |"]
    lines.append("|---" * 4 + "|")
    for number in (4, 32):
        few = [tasks[i % number] for i in range(QUERIES // 8)]
        for name, modelled, measured in plans_of(model, few, fitted):
            lines.append(f"| {number} | {name} | {modelled:.3f} s | {measured:.3f} s |")
    return lines


def plans_of(
    model: Model, tasks: Sequence[Task], fitted: plans.Cost
) -> list[tuple[str, float, float]]:
    """Cut one list of queries by each plan; its name, its cost by the model, its seconds."""
    ways = (plan, plans.alpha_only, plans.beta_only, plans.coordinated)
    ids = queries(np.random.default_rng(1), 4.0, len(tasks))
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


def nothing() -> None:
    """Take no notice of the time that passes."""


def progress(text: str) -> None:
    """Tell on a terminal what is measured."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr)


SECTIONS: dict[str, Callable[[], list[str]]] = {
    "devices": devices,
    "throughput": throughput,
    "plans": planned,
}

if __name__ == "__main__":
    main(sys.argv[1:])

"""Tasks by the hundred over one model: `python -m bench.tasks [SECTION ...]`.

Sections: devices (how many fit), throughput and sizes (task_speed.py), sql (task_server.py), peft
(task_peft.py), plans (task_plans.py). Each writes its part of results/tasks.md, and all together
the picture; cells are kept, so that a run goes on where one was stopped.
"""

import mmap
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench import task_models, task_peft, task_plans, task_plot, task_server, task_speed
from bench.conditions import machine
from bench.peer import PYTHON
from bench.task_models import nothing, progress, queries
from bench.task_speed import KEPT, SIZES
from pageformer.cpu_backend import cores
from pageformer.udfs import backends, composed
from pageformer.udfs.tasks.task_array import TaskArray, aligned
from pageformer.udfs.tasks.task_run import read

RESULTS = Path(__file__).parent / "results"
STORED = {name: SIZES[name] for name in ("DistilBERT", "BERT-base")} | {"BERT-large": (1024, 24)}
DEVICES = {"8 GB": (504, 180, 12), "11 GB": (1336, 588, 126), "32 GB": (4344, 2164, 560)}
REGISTERED = 64
PAGE = 1 << 20


def main(chosen: Sequence[str]) -> None:
    """Run sections, all by default, and put their parts together."""
    cores.share(lambda name, size: mmap.mmap(-1, size))
    for name in chosen or SECTIONS:
        print(f"section {name}", file=sys.stderr)
        text = "\n".join([*SECTIONS[name](), "", machine(), ""])
        (RESULTS / f"tasks-{name}.md").write_text(text, encoding="utf-8")
    parts = [RESULTS / f"tasks-{name}.md" for name in SECTIONS]
    there = [part.read_text(encoding="utf-8") for part in parts if part.exists()]
    (RESULTS / "tasks.md").write_text("\n".join(there), encoding="utf-8")
    if KEPT.exists():
        command = [str(PYTHON), task_plot.__file__, str(KEPT), str(RESULTS / "tasks.svg")]
        subprocess.run(command, check=True)


# -- how many fit ---------------------------------------------------------------------------------


def devices() -> list[str]:
    """Measure what a task takes, stored and mapped, and extrapolate to PetS's devices."""
    measured = {name: footprint(*size) for name, size in STORED.items()}
    lines = ["| device | " + " | ".join(f"{name}: ours / PetS" for name in STORED) + " |"]
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


SECTIONS: dict[str, Callable[[], list[str]]] = {
    "devices": devices,
    "throughput": task_speed.throughput,
    "sizes": task_speed.sizes,
    "sql": task_server.statements,
    "peft": task_peft.peft,
    "plans": task_plans.planned,
}

if __name__ == "__main__":
    main(sys.argv[1:])

"""Make a task of a fine-tuned checkpoint: what it differs in from the version that it came from.

The kinds of PetS (Zhou et al. 2022): biases and norms only (BitFit, Ben Zaken et al. 2022), a
sparse difference (Diff pruning, Guo et al. 2021), weights left out (MaskBert, Zhao et al. 2020).
Each is checked to be just that, and it is told how far from the version it is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pageformer.errors import InvalidInput, InvalidTask
from pageformer.loader import checkpoint as checkpoints
from pageformer.loader.checkpoint import Checkpoint
from pageformer.loader.cut import Weight
from pageformer.loader.tasks.base import Base
from pageformer.loader.tasks.edits import Edits, Task
from pageformer.loader.tasks.head import Wishes, wished
from pageformer.loader.tasks.saved import SHOWN, Numbers
from pageformer.udfs.blocks import Array, widen
from pageformer.udfs.config import Config
from pageformer.udfs.tasks.task import TaskConfig

# What stands behind the encoder, or around it: a task leaves it as the version has it.
AROUND = (
    "pooling", "normalized", "max_length", "prompts", "default_prompt_name", "modules",
    "include_prompt", "truncate_dim", "head",
)  # fmt: skip
# Above this part of a matrix, a sparse difference takes more than half of a full copy.
DENSE = 1 / 3


@dataclass(frozen=True)
class Change:
    """Name a tensor that differs; its numbers are read when they are asked for."""

    name: str
    base: Base
    weight: Weight
    changed: int  # how many numbers differ

    @property
    def before(self) -> Numbers:
        """Read the version's tensor, as it is stored."""
        return self.base.tensor(self.name).astype(np.float64)

    @property
    def after(self) -> Numbers:
        """Read the checkpoint's tensor, as it would be stored."""
        return _widened(self.weight).astype(np.float64)

    @property
    def size(self) -> int:
        """Count the numbers."""
        return self.weight.array.size

    @property
    def is_matrix(self) -> bool:
        """Tell a matrix or a table from a bias or a norm."""
        return self.weight.array.ndim > 1

    def __str__(self) -> str:
        most = np.abs(self.after - self.before).max()
        return f"{self.name} ({self.changed:,} of {self.size:,} numbers, by up to {most:g})"


def read(source: str, kind: str, base: Base, wishes: Wishes) -> Task:
    """Read a checkpoint of the same model; raise InvalidTask where it is not of the kind."""
    if kind not in KINDS:
        raise InvalidInput(f"kind is {kind!r}, not one of {', '.join(KINDS)}")
    tuned = checkpoints.read(source)
    _check_same_model(tuned, base)
    edits = Edits(base)
    head = wished(_head(tuned, base, edits), wishes)
    changes = _changes(tuned, base)
    told = KINDS[kind](changes, edits, _size(tuned))
    if not changes and not head:
        raise InvalidTask(f"{source} is equal to {base.model}@{base.label}: there is no task")
    return Task(TaskConfig(kind, head=head), edits.finished(), told)


def _check_same_model(tuned: Checkpoint, base: Base) -> None:
    """Raise InvalidTask for another architecture, or other modules behind pooling."""
    behind = {n: w for n, w in tuned.weights.items() if n.startswith("module.")}
    around = AROUND if not behind else tuple(name for name in AROUND if name != "modules")
    for name in Config._fields:
        ours, theirs = getattr(base.config, name), getattr(tuned.config, name)
        if name not in around and ours != theirs:
            raise InvalidTask(
                f"the checkpoint has {name} = {theirs!r}, and {base.model}@{base.label} has "
                f"{ours!r}",
                hint="Name the version that the checkpoint was fine-tuned from.",
            )
    for change in _changes_of(behind, base):
        raise InvalidTask(f"the checkpoint changes what stands behind pooling: {change}")


def _head(tuned: Checkpoint, base: Base, edits: Edits) -> dict[str, Any]:
    """Take the head of the checkpoint along, unless the version has the very same."""
    head = tuned.config.head
    weights = {n: w for n, w in tuned.weights.items() if n.startswith("head.")}
    if not head or (head == base.config.head and not any(_changes_of(weights, base))):
        return {}
    for name, weight in weights.items():
        edits.put(name, _widened(weight), weight.form)
    return head


def _changes(tuned: Checkpoint, base: Base) -> list[Change]:
    """List the tensors of the encoder that differ."""
    weights = {
        name: weight
        for name, weight in tuned.weights.items()
        if not name.startswith(("head.", "module."))
    }
    return list(_changes_of(weights, base))


def _changes_of(weights: Mapping[str, Weight], base: Base) -> Iterator[Change]:
    for name, weight in weights.items():
        if not base.has(name) or base.shapes[name] != weight.shape:
            raise InvalidTask(f"{base.model}@{base.label} has no {name} of {list(weight.shape)}")
        changed = int(np.count_nonzero(base.tensor(name) != _widened(weight)))
        if changed:
            yield Change(name, base, weight, changed)


def _widened(weight: Weight) -> Array:
    elements = widen(np.ascontiguousarray(weight.array).tobytes(), weight.form)
    return elements.reshape(weight.shape)


def _size(tuned: Checkpoint) -> int:
    """Count the numbers of the checkpoint that a change could be in."""
    return sum(w.array.size for n, w in tuned.weights.items() if not n.startswith("head."))


def _bitfit(changes: list[Change], edits: Edits, size: int) -> str:
    """Take biases and norms."""
    matrices = [change for change in changes if change.is_matrix]
    _refuse(matrices, "bitfit changes biases and norms only", edits)
    for change in changes:
        edits.replace(change.name, change.after, change.weight.form)
    count = sum(change.changed for change in changes)
    return f"bitfit: {count:,} of {size:,} numbers differ, all of them in biases and norms"


def _diff(changes: list[Change], edits: Edits, size: int) -> str:
    """Take sparse differences of matrices, and whatever biases and norms differ in."""
    dense = [c for c in changes if c.is_matrix and c.changed > DENSE * c.size]
    _refuse(dense, "diff stores few numbers of a matrix, at most a third", edits)
    for change in changes:
        if change.is_matrix:
            site = change.name.removesuffix(".weight")
            edits.sparse(site, change.after - change.before)
        else:
            edits.replace(change.name, change.after, change.weight.form)
    count = sum(change.changed for change in changes)
    return f"diff: {count:,} of {size:,} numbers differ ({100 * count / size:.3g}%)"


def _mask(changes: list[Change], edits: Edits, size: int) -> str:
    """Take which weights of matrices are left out; the others are as they were."""
    whole = [c for c in changes if not c.name.endswith(".weight") or not c.is_matrix]
    _refuse(whole, "mask leaves weights of linear maps out, and changes nothing else", edits)
    strange = [c for c in changes if _does_more_than_mask(c)]
    _refuse(strange, "mask leaves weights as they were, or makes them 0", edits)
    for change in changes:
        edits.mask(change.name.removesuffix(".weight"), change.after == change.before)
    count = sum(change.changed for change in changes)
    masked = sum(change.size for change in changes)
    part = 100 * count / masked if masked else 0
    return f"mask: {count:,} of {masked:,} weights are left out ({part:.3g}%)"


def _does_more_than_mask(change: Change) -> bool:
    after = change.after
    return bool(((after != change.before) & (after != 0)).any())


def _refuse(changes: list[Change], why: str, edits: Edits) -> None:
    """Raise InvalidTask that tells what differs, and how much."""
    if changes:
        worst = sorted(changes, key=lambda change: -change.changed)
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        listed = ", ".join(map(str, worst[:SHOWN]))
        raise InvalidTask(
            f"{why}, and this checkpoint differs from {edits.base.model}@{edits.base.label} in "
            f"{listed}{more}",
            hint="Is this the version that it was fine-tuned from? Another --kind may fit, or "
            "load it as a model of its own.",
        )


KINDS: Mapping[str, Callable[[list[Change], Edits, int], str]] = {
    "bitfit": _bitfit,
    "diff": _diff,
    "mask": _mask,
}

"""A task ready to run on one version, and what the tasks of a batch change at each site.

The sequences of a batch are sorted by task, so that a task's rows are a slice of the batch.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from pageformer.errors import NotBuilt
from pageformer.udfs.blocks import Array, BlockMatrix
from pageformer.udfs.config import Config
from pageformer.udfs.distances import tells_distances
from pageformer.udfs.encoder import Batch, join
from pageformer.udfs.matrices import extended
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.edits import (
    EVERY_ROW,
    BottleneckEdits,
    EndEdits,
    LinearEdits,
    Norm,
    Sparse,
    TableEdits,
    Term,
)
from pageformer.udfs.tasks.task import TABLE, ArrayName, TaskConfig
from pageformer.udfs.tasks.task_array import TaskArray

HEAD_SIDE = 32  # of the blocks that a head's weights are cut into
Parts = dict[str, Any]


class Prefix(NamedTuple):
    """Hold further keys and values of one layer's attention, `[tokens, hidden]` each."""

    keys: Array
    values: Array


@dataclass(frozen=True, eq=False)
class Task:
    """Hold a task's edits by site, and the version that they edit."""

    config: TaskConfig
    model: Model
    edits: Mapping[str, Any]
    tensors: Mapping[str, Array]  # of a head of its own

    @property
    def prompt_tokens(self) -> int:
        """Count the virtual tokens that stand in front of each sequence."""
        return len(self.edits.get("embeddings", ()))

    @property
    def positions(self) -> int:
        """Count the positions that tokens cannot have any more."""
        return max(self.prompt_tokens, self.config.first_position)

    @property
    def head(self) -> dict[str, Any]:
        """Return the description of the head that answers for this task."""
        return self.config.head or self.model.config.head

    @cached_property
    def head_model(self) -> Model:
        """Return the version with this task's head, which edits every row that it is given."""
        make = self.model.operators.array
        matrices = {n: a for n, a in self.tensors.items() if a.ndim == 2}
        vectors = {n: make(a) for n, a in self.tensors.items() if a.ndim == 1}
        every = {s: [Term(0, EVERY_ROW, e)] for s, e in self.edits.items() if s.startswith("head.")}
        return replace(
            self.model,
            config=self.model.config._replace(head=self.head),
            matrices=extended(
                self.model.matrices, {n: blocks(make, a) for n, a in matrices.items()}
            ),
            vectors={**self.model.vectors, **vectors},
            terms=every,
        )


def blocks(make: Any, array: Array) -> BlockMatrix:
    """Cut a small weight into blocks of a backend."""
    cut = BlockMatrix.from_array(array, HEAD_SIDE)
    return replace(cut, grid=tuple(tuple(map(make, row)) for row in cut.grid))


# -- from stored arrays to edits ------------------------------------------------------------------


def read(model: Model, config: TaskConfig, arrays: Mapping[str, TaskArray]) -> Task:
    """Make a task ready to run on a version; arrays in float32 stay where they lie.

    Raises NotBuilt where edits of this kind are not computed for the version's family.
    """
    refuse_uncomputed(model.config, arrays)
    sites: dict[str, dict[str, Parts]] = defaultdict(lambda: defaultdict(dict))
    tensors = {}
    for name, array in arrays.items():
        if "/" not in name:
            tensors[name] = array.read()
            continue
        site, edit, part = ArrayName.parse(name)
        stored = packed_bits(array) if array.form == "bits" else array.read()
        sites[site][edit][part] = stored if edit in ("mask", "sparse") else on(model, stored)
    edits = {site: edits_of(model, config, site, found) for site, found in sites.items()}
    return Task(config, model, joined(model, edits), tensors)


def refuse_uncomputed(config: Config, arrays: Iterable[str]) -> None:
    """Raise NotBuilt for prefixes where attention asks how far tokens are apart."""
    if tells_distances(config) and any(
        ArrayName.parse(n).edit == "prefix" for n in arrays if "/" in n
    ):
        raise NotBuilt(
            f"models of family {config.family} take no prefixes",
            hint="train a LoRA, an adapter or a prompt instead",
        )


def on(model: Model, array: Any) -> Any:
    """Bring numbers to the backend; whole numbers stay with NumPy."""
    return model.operators.array(array) if array.dtype == np.float32 else array


def packed_bits(array: TaskArray) -> Any:
    """Return bits row by row, each row filled up to whole bytes.  # [in, ceil(out / 8)]"""
    rows, cols = array.shape
    if cols % 8 == 0:
        return np.frombuffer(array.data, np.uint8).reshape(rows, cols // 8)
    return np.packbits(array.read(), axis=1, bitorder="little")


def edits_of(model: Model, config: TaskConfig, site: str, found: Mapping[str, Parts]) -> Any:
    """Make the edits of one site out of their parts."""
    if "prompt" in found:
        return found["prompt"]["embeddings"]
    if "prefix" in found:
        return Prefix(**found["prefix"])
    if "norm" in found:
        return EndEdits(norm=Norm(**found["norm"], eps=model.config.norm_eps))
    if "bottleneck" in found:
        return EndEdits(bottleneck=bottleneck_of(model, config, site, found["bottleneck"]))
    low_rank = (found["low_rank"]["down"], found["low_rank"]["up"]) if "low_rank" in found else None
    sparse = sparse_of(model, found["sparse"]) if "sparse" in found else None
    if site in model.matrices and found.keys() <= TABLE.keys():
        rows = (found["rows"]["numbers"], found["rows"]["values"]) if "rows" in found else None
        return TableEdits(rows, low_rank, sparse)
    return LinearEdits(
        scale_in=found.get("scale_in", {}).get("factor"),
        low_rank=low_rank,
        sparse=sparse,
        kept=found.get("mask", {}).get("kept"),
        scale_out=found.get("scale_out", {}).get("factor"),
        bias=found.get("bias", {}).get("difference"),
    )


def sparse_of(model: Model, parts: Parts) -> Sparse:
    """Tell where each line's entries begin."""
    starts = np.zeros(len(parts["counts"]) + 1, np.int32)
    np.cumsum(parts["counts"], out=starts[1:])
    return Sparse(starts, parts["indices"], model.operators.array(parts["values"]))


def bottleneck_of(model: Model, config: TaskConfig, site: str, parts: Parts) -> BottleneckEdits:
    """Make a bottleneck out of its parts."""

    def norm(name: str) -> Norm | None:
        if f"{name}.weight" not in parts:
            return None
        return Norm(parts[f"{name}.weight"], parts[f"{name}.bias"], BOTTLENECK_EPS)

    return BottleneckEdits(
        config.bottlenecks[site],
        (parts["down.weight"], parts["down.bias"]),
        (parts["up.weight"], parts["up.bias"]),
        norm("before"),
        norm("after"),
    )


BOTTLENECK_EPS = 1e-5  # PyTorch's default, which the adapters library leaves as it is


def joined(model: Model, edits: Mapping[str, Any]) -> dict[str, Any]:
    """Put a post-norm layer's norms to what else happens where the sub-layer ends."""
    if model.config.norm_place != "post":
        return dict(edits)
    ends = [s for s in edits if s.endswith((".attention.norm", ".feed_forward.norm"))]
    together = {site: edit for site, edit in edits.items() if site not in ends}
    for site in ends:
        place = site.removesuffix(".norm")
        bottleneck = edits[place].bottleneck if place in edits else None
        together[place] = EndEdits(edits[site].norm, bottleneck)
    return together


# -- the tasks of a batch -------------------------------------------------------------------------


class Run(NamedTuple):
    """Say which neighbouring sequences of a batch have the same task."""

    task: Task | None
    first: int
    last: int  # one past the last


def runs(tasks: Sequence[Task | None]) -> Iterator[Run]:
    """Yield the runs of a batch's tasks."""
    first = 0
    for _, members in groupby(tasks, key=id):
        run = list(members)
        yield Run(run[0], first, first + len(run))
        first += len(run)


def edited(model: Model, offsets: Sequence[int], tasks: Sequence[Task | None]) -> Model:
    """Return a version as the tasks of one batch have it, each on its own rows."""
    terms: dict[str, list[Term]] = defaultdict(list)
    for task, first, last in runs(tasks):
        if task is not None and offsets[first] < offsets[last]:
            for site, edits in task.edits.items():
                terms[site].append(Term(offsets[first], offsets[last], edits))
    return replace(model, terms=terms) if terms else model


def tasked(
    model: Model,
    sequences: Sequence[Sequence[int]],
    types: Sequence[Sequence[int]] | None,
    tasks: Sequence[Task | None],
) -> tuple[Model, Batch]:
    """Join sequences that are sorted by task, virtual tokens in front, and edit the version.

    types: of the sequences' tokens; virtual ones have type 0.
    """
    if not any(tasks):
        return model, join(sequences, types)
    # An id that stands for a virtual token, whose row is replaced: any but that of padding.
    virtual = 0 if model.config.padding_id else 1
    ahead = [0 if task is None else task.prompt_tokens for task in tasks]
    whole = [[virtual] * n + list(ids) for n, ids in zip(ahead, sequences, strict=True)]
    first = [0 if task is None else task.config.first_position for task in tasks]
    if types is not None:
        types = [[0] * n + list(own) for n, own in zip(ahead, types, strict=True)]
    batch = join(whole, types)._replace(first=first if any(first) else None)
    return edited(model, batch.offsets, tasks), batch

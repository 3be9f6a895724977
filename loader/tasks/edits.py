"""Collect the edits of a task in normal form; sums are made in float64 and stored once, at the end.

A file's 16-bit numbers stay 16-bit where what is stored is exactly they, or a power of two of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pageformer.errors import InvalidTask
from pageformer.loader.tasks.base import Base
from pageformer.loader.tasks.saved import Numbers
from pageformer.udfs.blocks import widen
from pageformer.udfs.tasks.task import TaskConfig
from pageformer.udfs.tasks.task_array import TaskArray, bits, floats, whole

MOST_ROWS = 1 << 16  # that a 16-bit index tells apart
NORM_PARTS = ("weight", "bias")


@dataclass(frozen=True)
class Task:
    """Hold a task in normal form, and what is to be told of how it was read."""

    config: TaskConfig
    arrays: Mapping[str, TaskArray]
    told: str = ""


@dataclass
class Edits:
    """Collect edits over a version."""

    base: Base
    arrays: dict[str, TaskArray] = field(default_factory=dict)
    _biases: dict[str, Numbers] = field(default_factory=dict)
    _norms: dict[str, dict[str, tuple[Numbers, str]]] = field(default_factory=dict)

    def put(self, name: str, values: npt.ArrayLike, form: str = "f32") -> None:
        """Keep numbers under a name, in 16 bits if the file's `form` holds them exactly.

        Raises InvalidTask where folding made a number that float32 does not have.
        """
        with np.errstate(over="ignore"):
            stored = narrowed(np.asarray(values, np.float64), form)
        if not np.isfinite(stored.read()).all():
            raise InvalidTask(
                f"{name} would have NaN or infinity in it",
                hint="Is a scale of the adapter's config too large, or a weight of length 0?",
            )
        self.arrays[name] = stored

    def low_rank(self, site: str, down: Numbers, up: Numbers, form: str) -> None:
        """Add (x down) up.  # [in, r], [r, out]"""
        self.put(f"{site}/low_rank/down", down, form)
        self.put(f"{site}/low_rank/up", up, form)

    def add_bias(self, site: str, difference: Numbers) -> None:
        """Add to a bias, beside what was added before.  # [out]"""
        self._biases[site] = self._biases.get(site, 0.0) + difference

    def replace_norm(self, site: str, part: str, values: Numbers, form: str) -> None:
        """Replace the weight or the bias of a norm; the other stays as it is.  # [width]"""
        self._norms.setdefault(site, {})[part] = (values, form)

    def sparse(self, site: str, difference: Numbers, form: str = "f32") -> None:
        """Add a matrix of few numbers: by columns of a linear map, by rows of a table."""
        lines = difference if self.base.has(site) else difference.T
        if lines.shape[1] > MOST_ROWS:
            raise InvalidTask(f"{site} has {lines.shape[1]} rows, more than 16 bits tell apart")
        line, index = np.nonzero(lines)
        counts = np.bincount(line, minlength=len(lines))
        self.arrays[f"{site}/sparse/counts"] = whole(counts, "u32")
        self.arrays[f"{site}/sparse/indices"] = whole(index, "u16")
        self.put(f"{site}/sparse/values", lines[line, index], form)

    def rows(self, site: str, numbers: npt.NDArray[np.intp], values: Numbers, form: str) -> None:
        """Replace rows of a table."""
        self.arrays[f"{site}/rows/numbers"] = whole(numbers, "u32")
        self.put(f"{site}/rows/values", values, form)

    def mask(self, site: str, kept: npt.NDArray[np.bool_]) -> None:
        """Keep some weights of a linear map.  # [in, out]"""
        self.arrays[f"{site}/mask/kept"] = bits(kept)

    def replace(self, name: str, values: Numbers, form: str) -> None:
        """Replace a tensor of the version by the edit that its kind has; nothing where it is equal.

        A matrix becomes a sparse difference, a table replaced rows or a sparse difference.
        """
        site, _, part = name.rpartition(".")
        if site.endswith("norm"):
            self.replace_norm(site, part, values, form)
            return
        before = self.base.tensor(name).astype(np.float64) if self.base.has(name) else 0.0
        difference = values - before
        if not difference.any():
            return
        if part == "bias":
            self.add_bias(site, difference)
        elif part == "weight":
            self.sparse(site, difference)
        else:
            self._replace_table(name, values, difference, form)

    def finished(self) -> dict[str, TaskArray]:
        """Return every array, in the order of their names."""
        for site, difference in self._biases.items():
            if difference.any():
                self.put(f"{site}/bias/difference", difference)
        for site, parts in self._norms.items():
            for part in NORM_PARTS:
                values, form = parts[part] if part in parts else (self._own(site, part), "f32")
                self.put(f"{site}/norm/{part}", values, form)
        return dict(sorted(self.arrays.items()))

    def _own(self, site: str, part: str) -> Numbers:
        """Return what a norm has itself; no bias is a bias of zeros."""
        if self.base.has(f"{site}.{part}"):
            return self.base.tensor(f"{site}.{part}").astype(np.float64)
        return np.zeros_like(self._own(site, "weight"))

    def _replace_table(self, name: str, values: Numbers, difference: Numbers, form: str) -> None:
        changed = np.flatnonzero(difference.any(axis=1))
        replaced = values[changed].size * (4 if form == "f32" else 2)
        if np.count_nonzero(difference) * 6 < replaced:
            self.sparse(name, difference)
        else:
            self.rows(name, changed, values[changed], form)


def narrowed(values: Numbers, form: str) -> TaskArray:
    """Store numbers in `form` if that is exact, else in float32."""
    single = np.ascontiguousarray(values, np.float32)
    if form == "f16":
        half = single.astype("<f2")
        if np.array_equal(half.astype(np.float64), values):
            return TaskArray(form, values.shape, half.tobytes())
    if form == "bf16":
        upper = (single.view("<u4") >> 16).astype("<u2").tobytes()
        if np.array_equal(widen(upper, form).reshape(values.shape), values):
            return TaskArray(form, values.shape, upper)
    return floats(single)

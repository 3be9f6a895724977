"""The files of an adapter: its tensors, mapped and checked, and the keys of its config.

A key that changes what the adapter computes is either followed or refused by name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pageformer.errors import InvalidCheckpoint, InvalidTask
from pageformer.loader.json_file import Json, read_object
from pageformer.loader.safetensors_file import FORMS, FileTensor, is_finite, read_tensors
from pageformer.udfs.blocks import widen

Numbers = npt.NDArray[np.float64]
SHOWN = 10  # names listed in one error


@dataclass(frozen=True)
class Saved:
    """Hold the tensors of a file, by the names that they have there; every number is finite."""

    file: str
    tensors: Mapping[str, FileTensor]

    @classmethod
    def read(cls, path: Path, pickled: str = "") -> "Saved":
        """Map a safetensors file; a pickled one beside it is refused with the line to convert it.

        Raises InvalidTask naming every tensor that is not of a known type, or not finite.
        """
        if pickled and not path.exists() and path.with_name(pickled).exists():
            raise _pickled(path.with_name(pickled), path)
        try:
            tensors = read_tensors(path)
        except InvalidCheckpoint as error:
            raise InvalidTask(error.message, hint=error.hint) from error
        other = [f"{n} ({t.dtype})" for n, t in tensors.items() if t.dtype not in FORMS]
        refuse_any(other, f"{path.name} has tensors that are not float32, float16 or bfloat16")
        broken = [name for name, t in tensors.items() if not is_finite(t.array, t.form)]
        refuse_any(broken, f"{path.name} has NaN or infinity in")
        return cls(path.name, tensors)

    def numbers(self, name: str) -> Numbers:
        """Read a tensor in float64."""
        return numbers(self.tensors[name])

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise InvalidTask unless a tensor is there and has this shape."""
        refuse_any([] if name in self.tensors else [name], f"{self.file} lacks")
        if self.tensors[name].shape != shape:
            raise InvalidTask(
                f"{name} has shape {list(self.tensors[name].shape)}, expected {list(shape)}",
                hint="Was it made for another model, or its config changed?",
            )

    def without(self, names: Iterable[str]) -> "Saved":
        """Leave tensors out."""
        left = set(names)
        return Saved(self.file, {n: t for n, t in self.tensors.items() if n not in left})


def numbers(tensor: FileTensor) -> Numbers:
    """Read a tensor of a file in float64."""
    elements = widen(np.ascontiguousarray(tensor.array).tobytes(), tensor.form)
    return elements.reshape(tensor.shape).astype(np.float64)


@dataclass(frozen=True)
class Settings:
    """Hold a config that was read from `file`."""

    file: str
    values: Json

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Read a JSON file; raise InvalidTask when it cannot be."""
        try:
            return cls(path.name, read_object(path))
        except InvalidCheckpoint as error:
            raise InvalidTask(error.message, hint=error.hint) from error

    def refuse_others(self, known: Iterable[str], harmless: Mapping[str, tuple[Any, ...]]) -> None:
        """Raise InvalidTask for a key that is not known, or has a value that is not followed."""
        for key, value in self.values.items():
            if key in harmless and value not in harmless[key]:
                expected = " or ".join(map(repr, harmless[key]))
                raise self.refused(key, f"expected {expected}")
            if key not in harmless and key not in known and value is not None:
                raise self.refused(key, "a key that is not known")

    def refused(self, key: str, why: str) -> InvalidTask:
        """Make the error for a key."""
        value = repr(self.values.get(key))
        shown = value if len(value) <= 100 else f"{value[:99]}…"
        return InvalidTask(
            f"{self.file} has {key} = {shown}: {why}",
            hint="Pageformer adds only tasks that it computes exactly.",
        )

    def flag(self, key: str, default: bool = False) -> bool:
        """Read true or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.refused(key, "expected true or false")
        return value

    def choice(self, key: str, *allowed: Any) -> Any:
        """Read a value that is one of a few, by default the first."""
        value = self.values.get(key, allowed[0])
        if value not in allowed:
            raise self.refused(key, f"expected {' or '.join(map(repr, allowed))}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Read a number."""
        value = self.values.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.refused(key, "expected a number")
        return float(value)

    def count(self, key: str) -> int:
        """Read a whole number of at least 1."""
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.refused(key, "expected a whole number of at least 1")
        return value


def refuse_any(names: Iterable[str], what: str, hint: str = "Save or copy it again.") -> None:
    """Raise InvalidTask that lists names, if there are any."""
    listed = sorted(names)
    if listed:
        more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        raise InvalidTask(f"{what}: {', '.join(listed[:SHOWN])}{more}", hint=hint)


def _pickled(path: Path, wanted: Path) -> InvalidTask:
    line = (
        "import torch; from safetensors.torch import save_file; "
        f"weights = torch.load({str(path)!r}, map_location='cpu', weights_only=True); "
        "save_file({name: tensor.clone().contiguous() for name, tensor in weights.items()}, "
        f"{str(wanted)!r})"
    )
    return InvalidTask(
        f"{path} is pickled, and a pickled file can run any code when it is read",
        hint=f'Where you trust it, convert it: python -c "{line}"',
    )

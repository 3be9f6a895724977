"""What a method of the `adapters` library is read from, and where its edits go."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pageformer.loader.tasks.edits import Edits
from pageformer.loader.tasks.modules import Modules
from pageformer.loader.tasks.saved import Numbers, Saved, Settings


@dataclass
class Method:
    """Hold one adapter's config and tensors; `name` is the adapter's, which is part of theirs."""

    settings: Settings
    name: str
    saved: Saved
    modules: Modules
    edits: Edits
    _taken: set[str] = field(default_factory=set)

    @property
    def left(self) -> list[str]:
        """Name the tensors that were not taken."""
        return [name for name in self.saved.tensors if name not in self._taken]

    def parts(self, group: str) -> dict[str, list[str]]:
        """Find what was added to modules under `group`: module -> names of its parts."""
        found: dict[str, list[str]] = {}
        middle = f".{group}.{self.name}."
        for name in self.saved.tensors:
            module, here, part = name.partition(middle)
            if here:
                found.setdefault(module, []).append(part)
        return found

    def take(self, group: str, module: str, part: str, *shape: int) -> Numbers:
        """Take a part of a module; raise InvalidTask unless it is there and has this shape."""
        name = f"{module}.{group}.{self.name}.{part}"
        self.saved.check_shape(name, shape)
        self._taken.add(name)
        return self.saved.numbers(name)

    def form(self, group: str, module: str, part: str) -> str:
        """Return the element type of a part."""
        return self.saved.tensors[f"{module}.{group}.{self.name}.{part}"].form

    def pass_over(self, group: str, module: str, *parts: str) -> None:
        """Leave out parts that are there twice."""
        self._taken |= {f"{module}.{group}.{self.name}.{part}" for part in parts}

    def adapted_layers(self) -> Iterator[int]:
        """Yield the layers that the config does not leave out."""
        left_out = self.settings.values.get("leave_out") or []
        if not isinstance(left_out, list):
            raise self.settings.refused("leave_out", "expected a list of layers")
        layers = self.modules.config.stored_layers
        return (layer for layer in range(layers) if layer not in left_out)

"""The part of a PEFT file that its method made, apart from what it saved whole."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pageformer.loader.safetensors_file import FileTensor
from pageformer.loader.tasks.edits import Edits
from pageformer.loader.tasks.modules import Modules, Site
from pageformer.loader.tasks.saved import Saved, Settings, refuse_any
from pageformer.loader.tasks.targets import expected


@dataclass
class Tuned:
    """Hold what a method reads from, and where its edits go."""

    settings: Settings
    saved: Saved
    modules: Modules
    edits: Edits
    common: Sequence[str]  # keys of the config that every method has
    _taken: set[str] = field(default_factory=set)

    @property
    def left(self) -> Saved:
        """Return the tensors that no method took."""
        return self.saved.without(self._taken)

    def check_keys(self, known: Iterable[str], harmless: Mapping[str, tuple[Any, ...]]) -> None:
        """Raise InvalidTask for a key of the config that is not followed."""
        self.settings.refuse_others((*self.common, *known), harmless)

    def take(self, name: str, *shape: int) -> FileTensor:
        """Take one tensor; raise InvalidTask unless it is there and has this shape."""
        self.saved.check_shape(name, shape)
        self._taken.add(name)
        return self.saved.tensors[name]

    def by_module(self, endings: Iterable[str], kind: str) -> dict[str, dict[str, FileTensor]]:
        """Take the tensors that a method adds to modules: module -> ending -> tensor.

        Raises InvalidTask for modules that the version does not have, and for those that the
        config targets and the file lacks.
        """
        found: dict[str, dict[str, FileTensor]] = {}
        for name, tensor in self.saved.tensors.items():
            for ending in endings:
                if name.endswith(f".{ending}"):
                    self._taken.add(name)
                    found.setdefault(name.removesuffix(f".{ending}"), {})[ending] = tensor
        self._check_targets(found, kind)
        strange = [m for m in found if not self.modules.at(m) and not self.modules.passes_by(m)]
        refuse_any(
            strange,
            f"{self.edits.base.name} has no modules",
            hint="Was the adapter made for another model?",
        )
        return {module: parts for module, parts in found.items() if self.modules.at(module)}

    def _check_targets(self, found: Iterable[str], kind: str) -> None:
        plain = self.modules.family.plain_name
        prefix = self.modules.prefix_of(found)
        there = {plain(module) for module in found}
        missing = set(expected(self.settings, self.modules, prefix, kind)) - there
        refuse_any(missing, f"{self.saved.file} lacks the target modules")

    def sizes(self, sites: Sequence[Site]) -> tuple[int, int]:
        """Return how many inputs and outputs, or rows and width, a module has."""
        inputs, outputs = self.modules.shapes[sites[0].weight]
        return inputs, outputs * sites[0].parts

"""Which of our sites a module of a checkpoint is: adapters name modules as their library does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pageformer.loader.families import Family, Rule, expected_shapes, family_named
from pageformer.loader.families.family import matches
from pageformer.loader.families.heads import HEADS, head_rules
from pageformer.loader.tasks.saved import Numbers
from pageformer.udfs.config import Config

KINDS: Mapping[str, Literal["linear", "table", "norm"]] = {
    "linear": "linear",
    "embedding": "table",
    "vector": "norm",
}


@dataclass(frozen=True)
class Site:
    """Name one place of ours, and which of so many equal parts of its module it is."""

    name: str
    kind: Literal["linear", "table", "norm"]
    part: int = 0
    parts: int = 1

    @property
    def weight(self) -> str:
        """Name the site's tensor."""
        return self.name if self.kind == "table" else f"{self.name}.weight"

    def cut(self, array: Numbers) -> Numbers:
        """Cut this site's part out of what a module has per output."""
        rows = len(array) // self.parts
        return array[self.part * rows : (self.part + 1) * rows]


@dataclass(frozen=True)
class Modules:
    """Know the modules of a version's family, its head included, by their names in checkpoints."""

    config: Config

    @cached_property
    def family(self) -> Family:
        """Return the version's family."""
        return family_named(self.config.family)

    @cached_property
    def _sources(self) -> dict[str, list[Rule]]:
        rules = (*self.family.rules, *self.family.other_rules)
        head = HEADS.get(self.config.family, {}).get(self.config.head.get("task", ""))
        return self.family.sources(self.config, (*rules, *(head_rules(head) if head else ())))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor that there can be, as it is stored."""
        return expected_shapes(self.config)

    @cached_property
    def sites(self) -> dict[str, tuple[Site, ...]]:
        """Map modules, without prefix, to what they are."""
        found: dict[str, tuple[Site, ...]] = {}
        for pattern, rules in self._sources.items():
            module, _, tensor = pattern.rpartition(".")
            if tensor == "weight":
                found[module] = tuple(
                    Site(rule.name.removesuffix(".weight"), KINDS[rule.kind], rule.part, rule.parts)
                    for rule in rules
                )
        return found

    def at(self, module: str) -> tuple[Site, ...]:
        """Return the sites of a module, by its name with or without prefix; none: not known."""
        return self.sites.get(self.family.plain_name(module), ())

    def tensors(self, name: str) -> list[Rule]:
        """Return what a tensor of a checkpoint is, by its name with or without prefix."""
        return self._sources.get(self.family.plain_name(name), [])

    def passes_by(self, name: str) -> bool:
        """Tell whether a module or tensor is one that vectors and answers do not depend on."""
        return matches(f"{self.family.plain_name(name)}.", self._ignored)

    @property
    def _ignored(self) -> Iterable[str]:
        return (f"{pattern.removesuffix('.*')}.*" for pattern in self.family.ignored)

    def prefix_of(self, names: Iterable[str]) -> str:
        """Find what a class put in front of the encoder's modules, by some names of it."""
        for name in names:
            for prefix in self.family.prefixes:
                if name.startswith(prefix):
                    return prefix
        return ""

"""What a model family is: a table from checkpoint names to ours, and the names it leaves out.

A new family is a new small file beside this one: a table, a function from its `config.json` to
`Config`, and a line in `families/__init__.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.families.shapes import expected_shapes
from pageformer.udfs.config import Config

Kind = Literal["linear", "embedding", "vector"]
LINEAR: tuple[tuple[str, Kind], ...] = (("weight", "linear"), ("bias", "vector"))

# As transformers reads checkpoints that TensorFlow wrote.
LEGACY_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


@dataclass(frozen=True)
class Rule:
    """Name one tensor: `pattern` in the checkpoint, `name` here; `{i}` stands for a layer."""

    pattern: str
    name: str
    kind: Kind
    part: int = 0  # of so many equal parts along the first dimension: fused tensors
    parts: int = 1


def embedding(pattern: str, name: str) -> tuple[Rule, ...]:
    """Name a table of rows."""
    return (Rule(f"{pattern}.weight", name, "embedding"),)


def linear(pattern: str, name: str) -> tuple[Rule, ...]:
    """Name the weight and the bias of a linear layer."""
    return (
        Rule(f"{pattern}.weight", f"{name}.weight", "linear"),
        Rule(f"{pattern}.bias", f"{name}.bias", "vector"),
    )


def fused(pattern: str, *names: str) -> tuple[Rule, ...]:
    """Name the linear layers whose weights, and biases, a checkpoint keeps in one."""
    return tuple(
        Rule(f"{pattern}.{tensor}", f"{name}.{tensor}", kind, part, len(names))
        for part, name in enumerate(names)
        for tensor, kind in LINEAR
    )


def norm(pattern: str, name: str) -> tuple[Rule, ...]:
    """Name the weight and the bias of a layer norm."""
    return (
        Rule(f"{pattern}.weight", f"{name}.weight", "vector"),
        Rule(f"{pattern}.bias", f"{name}.bias", "vector"),
    )


@dataclass(frozen=True)
class Source:
    """Where a tensor of ours comes from; a `linear` one is stored transposed."""

    checkpoint_name: str
    kind: Kind
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Family:
    """Translate one family of checkpoints; `optional` and `ignored` are shell-style patterns."""

    model_types: tuple[str, ...]
    rules: tuple[Rule, ...]
    config: Callable[[Mapping[str, Any]], Config]
    other_rules: tuple[Rule, ...] = ()  # of another library that saves the same models
    applies: Callable[[Mapping[str, Any]], bool] = lambda raw: True  # among those of its types
    prefixes: tuple[str, ...] = ()  # that classes with a head put before the encoder's names
    ignored: tuple[str, ...] = ()  # checkpoint names without prefix that the pass does not use
    optional: tuple[str, ...] = ()  # our names that a model without feed-forward part may lack

    def match(self, checkpoint_names: Iterable[str], config: Config) -> dict[str, Source]:
        """Map our tensor names to the checkpoint's, leaving the ignored ones out.

        Raises InvalidCheckpoint that names every missing, unexpected or repeated tensor.
        """
        plain_names = {name: self.plain_name(name) for name in sorted(checkpoint_names)}
        wanted = self.sources(config, self._table(config, set(plain_names.values())))
        optional = () if config.intermediate else self.optional
        found: dict[str, Source] = {}
        unexpected = []
        for checkpoint_name, plain in plain_names.items():
            for rule in wanted.get(plain, ()):
                if rule.name in found:
                    raise _repeated(found[rule.name].checkpoint_name, checkpoint_name)
                found[rule.name] = Source(checkpoint_name, rule.kind, rule.part, rule.parts)
            if plain not in wanted and not matches(plain, self.ignored):
                unexpected.append(checkpoint_name)
        missing = [
            plain
            for plain, rules in wanted.items()
            if any(r.name not in found and not matches(r.name, optional) for r in rules)
        ]
        if missing or unexpected:
            raise _incomplete(missing, unexpected, config)
        return found

    def has_head(self, checkpoint_names: Iterable[str]) -> bool:
        """Tell whether a checkpoint has the last layer of the head that its config names."""
        last = [rule.pattern for rule in self.rules if rule.name.startswith("head.")][-1:]
        return any(self.plain_name(name) in last for name in checkpoint_names)

    def _table(self, config: Config, names: set[str]) -> tuple[Rule, ...]:
        """Choose the table that knows more of a checkpoint's names."""

        def known(rules: tuple[Rule, ...]) -> int:
            return len(names & self.sources(config, rules).keys())

        return max(self.rules, self.other_rules, key=known)

    def sources(
        self, config: Config, rules: tuple[Rule, ...] | None = None
    ) -> dict[str, list[Rule]]:
        """Spell a table out: checkpoint name -> what it holds, for every layer that there is."""
        expected = expected_shapes(config)
        spelled: dict[str, list[Rule]] = {}
        for rule in self.rules if rules is None else rules:
            layers = range(config.stored_layers) if "{i}" in rule.pattern else range(1)
            for layer in layers:
                pattern, name = (t.replace("{i}", str(layer)) for t in (rule.pattern, rule.name))
                if name in expected:
                    spelled.setdefault(pattern, []).append(
                        replace(rule, pattern=pattern, name=name)
                    )
        return spelled

    def plain_name(self, checkpoint_name: str) -> str:
        """Take a prefix off and bring a legacy name up to date."""
        for prefix in self.prefixes:
            checkpoint_name = checkpoint_name.removeprefix(prefix)
        for legacy, name in LEGACY_NAMES:
            if checkpoint_name.endswith(legacy):
                return checkpoint_name.removesuffix(legacy) + name
        return checkpoint_name


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a name fits one of some shell-style patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _repeated(first: str, second: str) -> InvalidCheckpoint:
    return InvalidCheckpoint(
        f"tensors {first} and {second} are the same weight under two names",
        hint="Save the model again so that it holds each weight once.",
    )


def _incomplete(missing: list[str], unexpected: list[str], config: Config) -> InvalidCheckpoint:
    parts = [
        f"{what}: {', '.join(names)}"
        for what, names in (("missing tensors", missing), ("unexpected tensors", unexpected))
        if names
    ]
    return InvalidCheckpoint(
        f"checkpoint is not a {config.family} model of {config.layers} layers; " + "; ".join(parts),
        hint="Check that config.json and the weights belong to the same model.",
    )

"""What a model family is: a table from checkpoint names to ours, and the names it leaves out.

A new family is a new small file beside this one: a table, a function from its `config.json` to
`Config`, and a line in `families/__init__.py`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from pageformer.errors import InvalidCheckpoint
from pageformer.udfs.config import Config

Kind = Literal["linear", "embedding", "vector"]

# As transformers reads checkpoints that TensorFlow wrote.
LEGACY_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


@dataclass(frozen=True)
class Rule:
    """Name one tensor: `pattern` in the checkpoint, `name` here; `{i}` stands for a layer."""

    pattern: str
    name: str
    kind: Kind


def embedding(pattern: str, name: str) -> tuple[Rule, ...]:
    """Name a table of rows."""
    return (Rule(f"{pattern}.weight", name, "embedding"),)


def linear(pattern: str, name: str) -> tuple[Rule, ...]:
    """Name the weight and the bias of a linear layer."""
    return (
        Rule(f"{pattern}.weight", f"{name}.weight", "linear"),
        Rule(f"{pattern}.bias", f"{name}.bias", "vector"),
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


@dataclass(frozen=True)
class Family:
    """Translate one family of checkpoints; `optional` and `ignored` are shell-style patterns."""

    model_types: tuple[str, ...]
    rules: tuple[Rule, ...]
    config: Callable[[Mapping[str, Any]], Config]
    prefixes: tuple[str, ...] = ()  # that classes with a head put before the encoder's names
    ignored: tuple[str, ...] = ()  # checkpoint names without prefix that the pass does not use
    optional: tuple[str, ...] = ()  # our names that a model without feed-forward part may lack

    def match(self, checkpoint_names: Iterable[str], config: Config) -> dict[str, Source]:
        """Map our tensor names to the checkpoint's, leaving the ignored ones out.

        Raises InvalidCheckpoint that names every missing, unexpected or repeated tensor.
        """
        wanted = self.sources(config)
        optional = () if config.intermediate else self.optional
        found: dict[str, Source] = {}
        unexpected = []
        for checkpoint_name in sorted(checkpoint_names):
            plain = self.plain_name(checkpoint_name)
            if plain in wanted:
                name, kind = wanted[plain]
                if name in found:
                    raise _repeated(found[name].checkpoint_name, checkpoint_name)
                found[name] = Source(checkpoint_name, kind)
            elif not matches(plain, self.ignored):
                unexpected.append(checkpoint_name)
        missing = [
            plain
            for plain, (name, _) in wanted.items()
            if name not in found and not matches(name, optional)
        ]
        if missing or unexpected:
            raise _incomplete(missing, unexpected, config)
        return found

    def sources(self, config: Config) -> dict[str, tuple[str, Kind]]:
        """Spell the table out: checkpoint name -> (our name, kind), for every layer."""
        spelled = {}
        for rule in self.rules:
            layers = range(config.layers) if "{i}" in rule.pattern else range(1)
            for layer in layers:
                pattern = rule.pattern.replace("{i}", str(layer))
                spelled[pattern] = (rule.name.replace("{i}", str(layer)), rule.kind)
        return {
            pattern: (name, kind)
            for pattern, (name, kind) in spelled.items()
            if config.intermediate or not is_feed_forward_linear(name)
        }

    def plain_name(self, checkpoint_name: str) -> str:
        """Take a prefix off and bring a legacy name up to date."""
        for prefix in self.prefixes:
            checkpoint_name = checkpoint_name.removeprefix(prefix)
        for legacy, name in LEGACY_NAMES:
            if checkpoint_name.endswith(legacy):
                return checkpoint_name.removesuffix(legacy) + name
        return checkpoint_name


def is_feed_forward_linear(name: str) -> bool:
    """Tell whether a tensor is absent from a model without feed-forward part."""
    return re.search(r"\.feed_forward\.(up|down)\.", name) is not None


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

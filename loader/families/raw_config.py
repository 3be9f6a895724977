"""Read a checkpoint's `config.json`, refusing by key and value what cannot be done exactly.

A key that is absent has the default of the transformers class that wrote the file, because these
classes leave defaults out.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pageformer.errors import InvalidCheckpoint

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]

# The functions of transformers' ACT2FN that are one of ours, by meaning.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

# Keys that make any family another model, each with the values that do not.
HARMLESS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("position_embedding_type", ("absolute", None)),
    ("is_decoder", (False, None)),
    ("is_causal", (False, None)),
    ("is_encoder_decoder", (False, None)),
    ("add_cross_attention", (False, None)),
    ("pruned_heads", ({}, None)),
    ("quantization_config", (None,)),
    ("auto_map", ({}, None)),
)


def refused(key: str, value: object, expected: str) -> InvalidCheckpoint:
    """Build the error for a config value: the key, the value and what was expected."""
    return InvalidCheckpoint(
        f"config.json has {key} = {value!r}, expected {expected}",
        hint="Pageformer loads only models that it computes exactly.",
    )


def refuse_other_models(raw: Mapping[str, Any], known: tuple[str, ...] = ()) -> None:
    """Raise InvalidCheckpoint for a key that changes what any of the families computes.

    known: keys that the caller sees to.
    """
    for key, harmless in HARMLESS:
        if key not in known and raw.get(key) not in harmless:
            raise refused(key, raw[key], " or ".join(map(repr, harmless)))


def integer(raw: Mapping[str, Any], key: str, default: int, minimum: int = 1) -> int:
    """Read a whole number of at least `minimum`."""
    value = raw.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise refused(key, value, f"a whole number of at least {minimum}")
    return value


def required_integer(raw: Mapping[str, Any], key: str, minimum: int = 1) -> int:
    """Read a whole number that has no default."""
    if key not in raw:
        raise InvalidCheckpoint(f"config.json lacks {key}", hint="Save the model's whole config.")
    return integer(raw, key, minimum, minimum)


def positive(raw: Mapping[str, Any], key: str, default: float) -> float:
    """Read a number above zero."""
    value = raw.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1:
        raise refused(key, value, "a number between 0 and 1")
    return float(value)


def height_and_width(raw: Mapping[str, Any], key: str, default: int) -> list[int]:
    """Read one number of pixels for both, or a list of two."""
    value = raw.get(key, default)
    pair = value if isinstance(value, list) else [value, value]
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in pair)
    if len(pair) != 2 or not whole:
        raise refused(key, value, "a number of pixels, or [height, width]")
    return pair


def choice(raw: Mapping[str, Any], key: str, *allowed: Any) -> Any:
    """Read a value that is one of a few, by default the first."""
    value = raw.get(key, allowed[0])
    if value not in allowed:
        raise refused(key, value, " or ".join(map(repr, allowed)))
    return value


def flag(raw: Mapping[str, Any], key: str, default: bool) -> bool:
    """Read true or false."""
    value = raw.get(key, default)
    if not isinstance(value, bool):
        raise refused(key, value, "true or false")
    return value


def activation(raw: Mapping[str, Any], key: str, default: str) -> Activation:
    """Read the name of the function between the two feed-forward linears."""
    value = raw.get(key, default)
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise refused(key, value, "one of " + ", ".join(ACTIVATIONS))
    return ACTIVATIONS[value]


def heads(raw: Mapping[str, Any], key: str, default: int, hidden: int) -> int:
    """Read the number of attention heads, which divides the hidden size."""
    value = integer(raw, key, default)
    if hidden % value:
        raise refused(key, value, f"a divisor of the hidden size {hidden}")
    return value


def rotary_heads(raw: Mapping[str, Any], key: str, default: int, hidden: int) -> int:
    """Read the number of attention heads, whose width has two halves to rotate."""
    value = heads(raw, key, default, hidden)
    width = hidden // value
    if width % 2:
        raise refused(key, value, f"heads of an even width that make up {hidden}")
    if raw.get("head_dim") not in (None, width):
        raise refused("head_dim", raw["head_dim"], str(width))
    return value


def rotary_theta(
    raw: Mapping[str, Any], default: float, key: str, kind: str = "", scaled: bool = False
) -> float:
    """Read the base of rotary positions: in `rope_parameters`, per kind of layer, or under `key`.

    scaled: the caller sees to `rope_scaling`.
    """
    if not scaled and raw.get("rope_scaling") is not None:
        raise refused("rope_scaling", raw["rope_scaling"], "null")
    found = raw.get("rope_parameters") or {}
    parameters = (found.get(kind) or {}) if kind else found
    if parameters.get("rope_type", "default") != "default":
        raise refused("rope_parameters", found, "rope_type 'default'")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise refused("rope_parameters", found, "no partial_rotary_factor")
    if "rope_theta" in parameters:
        return number(parameters, "rope_theta", default)
    return number(raw, key, default)


def number(raw: Mapping[str, Any], key: str, default: float) -> float:
    """Read a number of at least 1."""
    value = raw.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 1:
        raise refused(key, value, "a number of at least 1")
    return float(value)


def refuse_other_code(raw: Mapping[str, Any], prefix: str) -> None:
    """Raise InvalidCheckpoint for code of the model's own, other than classes named `prefix`…"""
    classes = [str(name).rpartition(".")[2] for name in (raw.get("auto_map") or {}).values()]
    if not all(name.startswith(prefix) for name in classes):
        raise refused("auto_map", raw["auto_map"], f"classes named {prefix}… or none")


def padding_id(raw: Mapping[str, Any], default: int, positions: int) -> int:
    """Read the padding token's id, from which position ids count on."""
    value = integer(raw, "pad_token_id", default, minimum=0)
    if value + 1 >= positions:
        raise refused(
            "pad_token_id", value, f"less than max_position_embeddings - 1 = {positions - 1}"
        )
    return value


def refuse_other_embedding_size(raw: Mapping[str, Any], hidden: int) -> None:
    """Raise InvalidCheckpoint where a projection stands between embeddings and layers."""
    if raw.get("embedding_size") not in (None, hidden):
        raise refused("embedding_size", raw["embedding_size"], f"the hidden size {hidden}")

"""The modules that sentence-transformers puts behind pooling: Dense, LayerNorm, Normalize, Dropout.

Each becomes an entry of `Config.modules`, and says where its tensors lie.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.families import Source
from pageformer.loader.json_file import Json, read_object, read_object_if_present

LAYER_NORM_EPS = 1e-5  # PyTorch's default: the module has no setting
SENTENCE, TOKENS = "sentence_embedding", "token_embeddings"  # what a module takes and makes
ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": None,
}


@dataclass(frozen=True)
class Step:
    """Hold one module: what the forward pass does, and its tensors (our suffix -> theirs)."""

    folder: Path
    entry: Json
    sources: Mapping[str, Source]
    among_encoder: bool = False  # the tensors stand in the encoder's own file


def read_step(kind: str, folder: Path, level: str = SENTENCE) -> Step | None:
    """Read one module; None for one that does nothing when encoding.

    level: what it works on, the vectors of texts or of tokens. Raises InvalidCheckpoint that names
    the setting that stops it.
    """
    if kind == "Dense":
        return _dense(folder, level)
    if kind == "LayerNorm":
        width = _size(folder / "config.json", read_object(folder / "config.json"), "dimension")
        entry = {"kind": "layer_norm", "width": width, "eps": LAYER_NORM_EPS}
        return Step(folder, entry, dict(_vectors("norm", "weight", "bias")))
    if kind == "Normalize":
        path = folder / "config.json"
        check_settings(path, read_object_if_present(path), _works_on(level))
        return Step(folder, {"kind": "normalize"}, {})
    return None


def _works_on(level: str) -> Mapping[str, tuple[Any, ...]]:
    return {"module_input_name": (level, None), "module_output_name": (level, None)}


def _dense(folder: Path, level: str) -> Step:
    path = folder / "config.json"
    settings = read_object(path)
    check_settings(path, settings, _works_on(level))
    inputs, width = _size(path, settings, "in_features"), _size(path, settings, "out_features")
    name = settings.get("activation_function", "torch.nn.modules.activation.Tanh")
    if name not in ACTIVATIONS:
        raise refused(path, "activation_function", name, tuple(ACTIVATIONS))
    entry: Json = {"kind": "dense", "width": width, "activation": ACTIVATIONS[name]}
    sources = {"weight": Source("linear.weight", "linear")}
    if settings.get("bias", True):
        entry["bias"] = True
        sources.update(_vectors("linear", "bias"))
    if settings.get("use_residual"):
        entry["residual"] = True
        if inputs != width:
            entry["projected_residual"] = True
            sources["residual.weight"] = Source("residual.weight", "linear")
    return Step(folder, entry, sources)


def _vectors(module: str, *names: str) -> Iterator[tuple[str, Source]]:
    for name in names:
        yield name, Source(f"{module}.{name}", "vector")


def _size(path: Path, settings: Json, key: str) -> int:
    value = settings.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise refused(path, key, value, ("a whole number of at least 1",))
    return value


def check_settings(path: Path, settings: Json, harmless: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise InvalidCheckpoint for a setting whose value changes what is computed."""
    for key, values in harmless.items():
        if key in settings and settings[key] not in values:
            raise refused(path, key, settings[key], values)


def refused(path: Path, key: str, value: Any, expected: tuple[Any, ...]) -> InvalidCheckpoint:
    """Build the error for a setting: the file, the key, the value and what was expected."""
    wanted = " or ".join(str(choice) for choice in expected)
    return InvalidCheckpoint(
        f"{path} has {key} = {value!r}, expected {wanted}",
        hint="Pageformer loads only models that it computes exactly.",
    )

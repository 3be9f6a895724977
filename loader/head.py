"""The classification head of a checkpoint, for measuring what a version loses; it is not stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath

import numpy as np

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.checkpoint import weight_files
from pageformer.loader.json_file import Json, read_object
from pageformer.loader.modules import read_pipeline
from pageformer.loader.safetensors_file import FileTensor
from pageformer.loader.source import find_directory
from pageformer.udfs.blocks import Array, widen

# What transformers puts between the encoder and the last layer, by the tensors that it has.
HIDDEN_LAYERS = (
    ("pooler.dense", "tanh"),
    ("classifier.dense", "tanh"),
    ("pre_classifier", "relu"),
)
LAST_LAYERS = ("classifier.out_proj", "classifier")
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "none": lambda x: x,
}


@dataclass(frozen=True)
class Head:
    """Hold a head: linear layers with activations, on the first token or on the pooled states."""

    labels: tuple[str, ...]
    layers: tuple[tuple[Array, Array, str], ...]  # weight [out, in], bias [out], activation
    on_first_token: bool

    def classify(self, vectors: Array) -> list[str]:
        """Return the likeliest label of each vector.  # [n, hidden]"""
        for weight, bias, activation in self.layers:
            vectors = ACTIVATIONS[activation](vectors @ weight.T + bias)
        return [self.labels[i] for i in vectors.argmax(axis=1)]


def read_head(source: str | PathLike[str]) -> Head:
    """Read the head that stands in a checkpoint beside its encoder.

    A class `...ForSequenceClassification` has transformers' head on the first token; any other
    checkpoint with a `classifier` has it on the pooled states. Raises InvalidCheckpoint where
    there is none.
    """
    path = find_directory(fspath(source))
    directory = path if path.is_dir() else path.parent
    folder = read_pipeline(directory).folder
    tensors = weight_files(path if path.is_file() else folder)
    plain = {_plain(name): tensor for name, tensor in tensors.items()}
    raw = read_object(folder / "config.json")
    last = next((name for name in LAST_LAYERS if f"{name}.weight" in plain), None)
    if last is None:
        raise InvalidCheckpoint(
            f"{fspath(source)} has no classification head, which labelled texts are measured with",
            hint="Evaluate on text pairs with scores, or on plain texts.",
        )
    standard = str((raw.get("architectures") or [""])[0]).endswith("ForSequenceClassification")
    hidden = [
        (*_layer(plain, name), activation)
        for name, activation in HIDDEN_LAYERS
        if standard and f"{name}.weight" in plain
    ]
    layers = (*hidden, (*_layer(plain, last), "none"))
    return Head(_labels(raw, len(layers[-1][1])), layers, standard)


def _plain(name: str) -> str:
    """Leave out the name of the encoder in front of a tensor's name."""
    first, _, rest = name.partition(".")
    return rest if first in ("bert", "roberta", "distilbert", "mpnet") else name


def _layer(tensors: Mapping[str, FileTensor], name: str) -> tuple[Array, Array]:
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    return (
        widen(weight.array.tobytes(), weight.form).reshape(weight.shape),
        widen(bias.array.tobytes(), bias.form),
    )


def _labels(raw: Json, count: int) -> tuple[str, ...]:
    names = raw.get("id2label") or {}
    return tuple(str(names.get(str(i), f"LABEL_{i}")) for i in range(count))

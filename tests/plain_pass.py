"""BERT's pass with a task, in float64 and the plainest NumPy: what the normal form means.

Slow, one sequence at a time, and apart from the operators, so that it can judge readers alone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from pageformer.udfs.config import Config
from pageformer.udfs.tasks.task import Bottleneck, TaskConfig

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
OWN_EPS = 1e-5  # of a bottleneck's norms: PyTorch's default

ACTIVATIONS = {
    None: lambda x: x,
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


class PlainPass:
    """Hold a version's tensors and a task's arrays, all of them in float64."""

    def __init__(
        self,
        config: Config,
        tensors: Mapping[str, Any],
        task: TaskConfig | None = None,
        arrays: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.task = config, task or TaskConfig("none")
        read = {name: np.asarray(array.read()) for name, array in (arrays or {}).items()}
        heads = {name: array for name, array in read.items() if "/" not in name}
        kept = {n: t for n, t in tensors.items() if not (heads and n.startswith("head."))}
        self.tensors = {n: np.asarray(t, np.float64) for n, t in {**kept, **heads}.items()}
        self.edits = {name: array for name, array in read.items() if "/" in name}

    def edit(self, site: str, edit: str, part: str) -> Any:
        """Return an array of an edit in float64, or None."""
        found = self.edits.get(f"{site}/{edit}/{part}")
        return found if found is None or found.dtype == bool else found.astype(np.float64)

    def sparse(self, site: str, lines: int, length: int) -> Array:
        """Spread a sparse difference out, by its lines.  # [lines, length]"""
        full = np.zeros((lines, length))
        counts = self.edits[f"{site}/sparse/counts"].astype(int)
        line = np.repeat(np.arange(lines), counts)
        full[line, self.edits[f"{site}/sparse/indices"]] = self.edit(site, "sparse", "values")
        return full

    def matrix(self, site: str) -> tuple[Array, Array]:
        """Return a linear map's weight and bias with all edits merged into them."""
        weight = self.tensors[f"{site}.weight"]
        bias = self.tensors.get(f"{site}.bias", np.zeros(weight.shape[1]))
        if (kept := self.edit(site, "mask", "kept")) is not None:
            weight = weight * kept
        if (down := self.edit(site, "low_rank", "down")) is not None:
            weight = weight + down @ self.edit(site, "low_rank", "up")
        if f"{site}/sparse/counts" in self.edits:
            weight = weight + self.sparse(site, *weight.shape[::-1]).T
        if (factor := self.edit(site, "scale_in", "factor")) is not None:
            weight = factor[:, None] * weight
        if (factor := self.edit(site, "scale_out", "factor")) is not None:
            weight = weight * factor
        if (difference := self.edit(site, "bias", "difference")) is not None:
            bias = bias + difference
        return weight, bias

    def linear(self, site: str, x: Array) -> Array:
        """Compute x W + b."""
        weight, bias = self.matrix(site)
        return x @ weight + bias

    def table(self, name: str) -> Array:
        """Return a table with its edits."""
        table = self.tensors[name].copy()
        if (values := self.edit(name, "rows", "values")) is not None:
            table[self.edits[f"{name}/rows/numbers"].astype(int)] = values
        if (down := self.edit(name, "low_rank", "down")) is not None:
            table = table + down @ self.edit(name, "low_rank", "up")
        if f"{name}/sparse/counts" in self.edits:
            table = table + self.sparse(name, *table.shape)
        return table

    def norm(self, site: str, x: Array) -> Array:
        """Normalise, by the task's norm or the version's."""
        weight = self.edit(site, "norm", "weight")
        bias = self.edit(site, "norm", "bias")
        if weight is None:
            weight, bias = self.tensors[f"{site}.weight"], self.tensors[f"{site}.bias"]
        return layer_norm(x, weight, bias, self.config.norm_eps)

    def states(self, ids: Ids) -> Array:
        """Compute the state of every token, virtual ones included."""
        config = self.config
        x = self.table("embeddings.word")[ids]
        prompt = self.edit("embeddings", "prompt", "embeddings")
        if prompt is not None:
            x = np.concatenate([prompt, x])
        x = x + self.table("embeddings.position")[self.positions(ids, len(x), prompt is not None)]
        if config.token_types:
            x = x + self.table("embeddings.token_type")[0]
        x = self.norm("embeddings.norm", x)
        if config.embedding_size:
            x = self.linear("embeddings.projection", x)
        for i, stored in enumerate(config.layer_order or range(config.layers)):
            x = self.layer(f"layer.{stored}", f"layer.{i}", x)
        return x

    def positions(
        self, ids: npt.NDArray[np.int64], length: int, prompted: bool
    ) -> npt.NDArray[np.int64]:
        """Count positions; a padding token in the text has its own, unless a prompt hides it."""
        first, padding_id = self.task.first_position, self.config.padding_id
        if padding_id is None:
            return first + np.arange(length)
        if prompted:
            return padding_id + 1 + np.arange(length)
        is_token = ids != padding_id
        return (np.cumsum(is_token) + first) * is_token + padding_id

    def layer(self, at: str, number: str, x: Array) -> Array:
        """Compute one post-norm layer."""
        q, k, v = (self.linear(f"{at}.attention.{p}", x) for p in ("query", "key", "value"))
        if (keys := self.edit(number, "prefix", "keys")) is not None:
            k = np.concatenate([keys, k])
            v = np.concatenate([self.edit(number, "prefix", "values"), v])
        mixed = attention(q, k, v, self.config.heads)
        product = self.linear(f"{at}.attention.output", mixed)
        x = self.close(f"{at}.attention", product, x)
        up = ACTIVATIONS[self.config.activation](self.linear(f"{at}.feed_forward.up", x))
        return self.close(f"{at}.feed_forward", self.linear(f"{at}.feed_forward.down", up), x)

    def close(self, at: str, product: Array, residual: Array) -> Array:
        """Add the residual and normalise, with the bottleneck that stands there."""
        place = self.task.bottlenecks.get(at)
        normed = self.norm(f"{at}.norm", product + residual)
        if place is None:
            return normed
        states = {
            "product": product,
            "added": product + residual,
            "normed": normed,
            "residual": residual,
        }
        y = self.bottleneck(at, place, states[place.input], states[place.base])
        return self.norm(f"{at}.norm", y + residual) if place.closes else y

    def bottleneck(self, at: str, place: Bottleneck, x: Array, base: Array) -> Array:
        """Compute up(activation(down(x))) with its own norms, and add the base."""

        def part(name: str) -> Any:
            return self.edit(at, "bottleneck", name)

        if part("before.weight") is not None:
            x = layer_norm(x, part("before.weight"), part("before.bias"), OWN_EPS)
        inner = ACTIVATIONS[place.activation](x @ part("down.weight") + part("down.bias"))
        y = inner @ part("up.weight") + part("up.bias")
        if part("after.weight") is None:
            return y + base
        if place.base_before_norm:
            return layer_norm(y + base, part("after.weight"), part("after.bias"), OWN_EPS)
        return layer_norm(y, part("after.weight"), part("after.bias"), OWN_EPS) + base

    def logits(self, states: Array) -> Array:
        """Run the head over the states of one sequence."""
        head = self.task.head or self.config.head
        x = states
        if head["task"] == "sequence":
            x = states[:1] if head["pooling"] == "cls" else states.mean(axis=0, keepdims=True)
        for k, step in enumerate(head["steps"]):
            x = ACTIVATIONS[step["activation"]](self.linear(f"head.{k}", x))
            if step["norm"]:
                x = self.norm(f"head.{k}.norm", x)
        return x


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Normalise each row."""
    centred = x - x.mean(axis=1, keepdims=True)
    scaled: Array = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + eps)
    return scaled * weight + bias


def attention(q: Array, k: Array, v: Array, heads: int) -> Array:
    """Compute multi-head attention of one sequence."""
    out = np.empty_like(q)
    width = q.shape[1] // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / np.sqrt(width)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[:, part] = shares / shares.sum(axis=1, keepdims=True) @ v[:, part]
    return out

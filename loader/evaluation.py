"""Measure what a version loses: the callable that dedup asks whether a bound still holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from pageformer.loader.examples import Examples
from pageformer.loader.head import Head
from pageformer.udfs import encoder
from pageformer.udfs.blocks import Array, BlockMatrix
from pageformer.udfs.composed import micro_batches
from pageformer.udfs.config import Config
from pageformer.udfs.encoding import Options, prompted
from pageformer.udfs.model import Model
from pageformer.udfs.operators import Operators
from pageformer.udfs.tokenizer import Tokenizer

BATCH_TOKENS = 4096
RESAMPLES = 1000
Arrays = Mapping[str, Array]  # whole tensors by name, 2-D and 1-D
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """Tell a score before and after, what was lost, and the interval of it (95 in 100)."""

    inputs: int
    before: float
    after: float
    dropped: float
    low: float
    high: float


class Evaluation:
    """Measure models of one config on one set of examples, against the original model."""

    def __init__(
        self, config: Config, tokenizer: Tokenizer, head: Head | None, examples: Examples
    ) -> None:
        pooling = "cls" if head is not None and head.on_first_token else config.pooling
        self._config = config._replace(pooling=pooling)
        self._head = head
        self._examples = examples
        flat = [prompted(config, text, Options()) for texts in examples.texts for text in texts]
        self._ids = [tokenizer.encode(text).ids for text in flat]
        self._reference: Any = None

    def begin(self, original: Arrays) -> "Seen":
        """Compute what the original model makes of the examples; tell what was seen on the way."""
        watch = Watch()
        model = model_of(self._config, original, watch)
        self._reference = self._outputs(model)
        matrices = model.matrices.items()
        return Seen(
            {name: watch.usage(m) for name, m in matrices if id(m) in watch.counts},
            {name: watch.grams[id(m)] for name, m in matrices if id(m) in watch.grams},
        )

    def dropped(self, arrays: Arrays) -> float:
        """Return how much lower the score is than the original's."""
        outputs = self._outputs(model_of(self._config, arrays, Operators()))
        return self._score(self._reference) - self._score(outputs)

    def loss(self, arrays: Arrays) -> Loss:
        """Measure with an interval, by drawing the examples again and again (Efron 1979)."""
        outputs = self._outputs(model_of(self._config, arrays, Operators()))
        before, after = self._score(self._reference), self._score(outputs)
        random = np.random.RandomState(0)
        count = len(self._examples.texts)
        drops = [
            self._score(self._reference, chosen) - self._score(outputs, chosen)
            for chosen in (random.randint(0, count, count) for _ in range(RESAMPLES))
        ]
        low, high = np.quantile(drops, (0.025, 0.975))
        return Loss(count, before, after, before - after, float(low), float(high))

    def _score(self, outputs: Any, chosen: Any = slice(None)) -> float:
        """Score outputs of `_outputs`, or those of chosen examples."""
        if self._examples.measure == "spearman":
            expected = np.array(self._examples.expected, np.float64)[chosen]
            ranks = rankdata(outputs[chosen]), rankdata(expected)
            return float(np.corrcoef(*ranks)[0, 1])
        if self._examples.measure == "cosine":
            return float((outputs[chosen] * self._reference[chosen]).sum(axis=1).mean())
        return float(outputs[chosen].mean())

    def _outputs(self, model: Model) -> Any:
        """Compute, per example: is the label right; how alike are the two; or the vector."""
        vectors = self._encode(model)
        if self._examples.measure == "accuracy" and self._head is not None:
            labels = self._head.classify(vectors)
            pairs = zip(labels, self._examples.expected, strict=True)
            return np.array([label == expected for label, expected in pairs], np.float64)
        vectors = model.operators.normalize(vectors)
        if self._examples.measure == "spearman":
            return (vectors[::2] * vectors[1::2]).sum(axis=1)
        return vectors

    def _encode(self, model: Model) -> Array:
        vectors = np.empty((len(self._ids), model.config.full_dimension), np.float32)
        for members in micro_batches([len(ids) for ids in self._ids], BATCH_TOKENS):
            batch = encoder.join([self._ids[i] for i in members])
            vectors[members] = encoder.encode(model, batch, lambda: None)
        return vectors


@dataclass(frozen=True)
class Seen:
    """Tell, by tensor, look-ups per row of tables, and x^T x of the inputs of linear maps."""

    usage: Mapping[str, Array]
    grams: Mapping[str, Array]  # [in, in]


class Watch(Operators):
    """Note which rows of tables are looked up and what maps are multiplied by, while computing."""

    def __init__(self) -> None:
        self.counts: dict[int, Array] = {}  # id of a matrix -> look-ups per row
        self.grams: dict[int, Array] = {}  # id of a matrix -> x^T x

    def rows(self, ids: Any, table: BlockMatrix) -> Array:
        """Gather rows, noting which."""
        counts = np.bincount(np.asarray(ids), minlength=table.rows).astype(np.float32)
        self.counts[id(table)] = self.counts.get(id(table), np.float32(0)) + counts
        return super().rows(ids, table)

    def matmul(self, x: Array, W: BlockMatrix) -> Array:
        """Multiply, adding up what by."""
        self.grams[id(W)] = self.grams.get(id(W), np.float32(0)) + x.T @ x
        return super().matmul(x, W)

    def usage(self, table: BlockMatrix) -> Array:
        """Return the look-ups of each row; one that was not seen counts a little."""
        counts = self.counts[id(table)]
        return counts + np.float32(counts.mean() / 10)


def model_of(config: Config, arrays: Arrays, operators: Operators) -> Model:
    """Make whole tensors a model; each matrix is one block."""
    matrices = {
        name: BlockMatrix(((array,),), array.shape[0], array.shape[1], max(array.shape))
        for name, array in arrays.items()
        if array.ndim == 2
    }
    vectors = {name: array for name, array in arrays.items() if array.ndim == 1}
    return Model(config, operators, matrices, vectors)

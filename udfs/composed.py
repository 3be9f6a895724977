"""A version encoded by the forward pass of encoder.py, over the operators of any backend.

Texts of like length are computed together, a limited number of tokens at once.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import orjson

from pageformer.errors import NotBuilt
from pageformer.udfs import encoder
from pageformer.udfs.blocks import Array
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.model import Model

BATCH_TOKENS = 1024  # computed at once: bounds memory, and the time to notice a cancel


class ComposedEncoder:
    """Turn token ids into texts of vectors by composing operators."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def vectors(
        self,
        sequences: Iterable[Sequence[int]],
        dimensions: int | None,
        normalized: bool | None,
        pulse: Pulse,
        skip: int = 0,
    ) -> list[str]:
        """Encode sequences of token ids, in order; the first `skip` tokens are not pooled."""
        if self._model.config.late:
            raise NotBuilt(
                "this model makes a vector of every token, not one of a text",
                hint="call pageformer.encode_tokens(input, model, prompt_name => 'document')",
            )
        vectors = encode(self._model, list(sequences), pulse, skip)
        return told(self._model, vectors, dimensions, normalized)

    def states(
        self, ids: Sequence[int], dimensions: int | None, normalized: bool | None, pulse: Pulse
    ) -> list[str]:
        """Compute the state of each token, before pooling."""
        states = encoder.token_states(self._model, encoder.join([ids]), pulse)
        states = self._model.operators.to_host(states)
        return [vector_text(v) for v in finish(self._model, states, dimensions, bool(normalized))]

    def alone(self) -> "ComposedEncoder":
        """Return itself: NumPy's pool keeps to one thread."""
        return self


def encode(model: Model, sequences: Sequence[Sequence[int]], pulse: Pulse, skip: int = 0) -> Array:
    """Encode sequences of token ids, before `normalized`.  # -> [sequences, width]"""
    pooled = np.empty((len(sequences), model.config.full_dimension), np.float32)
    for members in micro_batches([len(ids) for ids in sequences]):
        batch = encoder.join([sequences[i] for i in members])
        pooled[members] = model.operators.to_host(encoder.encode(model, batch, pulse, skip))
    return pooled


def told(
    model: Model, vectors: Array, dimensions: int | None, normalized: bool | None
) -> list[str]:
    """Cut and normalise vectors as the call asks, or else as the model does, and write them."""
    config = model.config
    if config.truncate_dim and config.normalized and normalized is None:
        vectors = model.operators.normalize(vectors)  # as its library does: then cut
        chosen = dimensions is not None
    else:
        chosen = config.normalized if normalized is None else normalized
    cut = dimensions or config.truncate_dim or None
    return [vector_text(v) for v in finish(model, vectors, cut, chosen)]


def finish(model: Model, vectors: Array, dimensions: int | None, normalized: bool) -> Array:
    """Cut to the dimensions asked for (Kusupati et al. 2022), then scale to length 1."""
    vectors = vectors[:, :dimensions]
    return model.operators.normalize(vectors) if normalized else vectors


def micro_batches(lengths: Sequence[int], most: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Group sequences of like length, at most `most` tokens together; yield their indices."""
    members: list[int] = []
    tokens = 0
    for i in np.argsort(lengths, kind="stable").tolist():
        if members and tokens + lengths[i] > most:
            yield members
            members, tokens = [], 0
        members.append(i)
        tokens += lengths[i]
    if members:
        yield members


def vector_text(vector: Array) -> str:
    """Write a vector as pgvector reads it."""
    vector = np.ascontiguousarray(vector)
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()

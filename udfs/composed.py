"""A version encoded by the forward pass of encoder.py, over the operators of any backend.

Texts of like length are computed together, a limited number of tokens at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from time import perf_counter

import numpy as np
import orjson

from pageformer.errors import NotBuilt
from pageformer.udfs import encoder
from pageformer.udfs.block_value import Buffer
from pageformer.udfs.blocks import Array
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.cuts import Request
from pageformer.udfs.tasks.plan import plan
from pageformer.udfs.tasks.task_run import Task, tasked

Tasks = Sequence[Task | None] | None
BATCH_TOKENS = 1024  # computed at once: bounds memory, and the time to notice a cancel
STREAMED_TOKENS = 4096  # of a version that is read anew for each batch: reading is to cost less


class ComposedEncoder:
    """Turn token ids into texts of vectors by composing operators.

    tasks: of each sequence, in order; None: of none.
    """

    def __init__(self, model: Model, tasks: Tasks = None) -> None:
        self._model = model
        self._tasks = tasks

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
        vectors = encode(self._model, list(sequences), pulse, skip, self._tasks)
        return told(self._model, vectors, dimensions, normalized)

    def states(
        self, ids: Sequence[int], dimensions: int | None, normalized: bool | None, pulse: Pulse
    ) -> list[str]:
        """Compute the state of each token, before pooling; virtual tokens are left out."""
        model, batch = tasked(self._model, [ids], None, self._tasks or [None])
        states = model.operators.to_host(encoder.token_states(model, batch, pulse))
        states = states[len(states) - len(ids) :]
        return [vector_text(v) for v in finish(self._model, states, dimensions, bool(normalized))]

    def alone(self) -> "ComposedEncoder":
        """Return itself: NumPy's pool keeps to one thread."""
        return self


class ComposedLayers:
    """Run the layers of a model over sequences of rows by composing operators."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def states(self, rows: Buffer, lengths: list[int], pulse: Pulse) -> bytes:
        """Compute the last state of every row.  # [sum of lengths, hidden] -> the same"""
        return self._run(rows, lengths, pulse).tobytes()

    def texts(self, rows: Buffer, lengths: list[int], pulse: Pulse) -> list[str]:
        """Compute the same, each row told as a vector's text, what is not a number included."""
        return [
            vector_text(row) if np.isfinite(row).all() else f"[{','.join(map(str, row))}]"
            for row in self._run(rows, lengths, pulse)
        ]

    def _run(self, rows: Buffer, lengths: list[int], pulse: Pulse) -> Array:
        operators = self._model.operators
        x = np.frombuffer(rows, np.float32).reshape(-1, self._model.config.hidden)
        offsets = list(accumulate(lengths, initial=0))
        return operators.to_host(encoder.encoder(self._model, operators.array(x), offsets, pulse))


def encode(
    model: Model,
    sequences: Sequence[Sequence[int]],
    pulse: Pulse,
    skip: int = 0,
    tasks: Tasks = None,
) -> Array:
    """Encode sequences of token ids, before `normalized`.  # -> [sequences, width]"""
    if skip and any(task and task.prompt_tokens for task in tasks or ()):
        raise NotBuilt("a prompt that is not pooled does not go with a task of virtual tokens")
    pooled = np.empty((len(sequences), model.config.full_dimension), np.float32)
    for members, own in batches(model, [len(ids) for ids in sequences], tasks):
        edited, batch = tasked(model, [sequences[i] for i in members], None, own)
        pooled[members] = model.operators.to_host(encoder.encode(edited, batch, pulse, skip))
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


def batches(
    model: Model, lengths: Sequence[int], tasks: Tasks
) -> Iterator[tuple[list[int], list[Task | None]]]:
    """Yield what sequences are computed together, by task, then by length, and their tasks.

    What a batch costs is learnt from the time that passes before the next one is asked for.
    """
    most, of = STREAMED_TOKENS if model.streamed else BATCH_TOKENS, tasks or [None] * len(lengths)
    for members in cut(model, lengths, tasks, most):
        own, begin = [of[i] for i in members], perf_counter()
        yield members, own
        requests = requests_of([lengths[i] for i in members], own)
        model.learnt.add(requests, perf_counter() - begin)


def cut(model: Model, lengths: Sequence[int], tasks: Tasks, most: int) -> Iterable[list[int]]:
    """Cut sequences into batches of at most so many tokens; a longer one stands alone."""
    if tasks is None:
        return micro_batches(lengths, most)
    return plan(requests_of(lengths, tasks), model.learnt.cost, most)


def requests_of(lengths: Sequence[int], tasks: Sequence[Task | None]) -> list[Request]:
    """Tell what is planned of each sequence."""
    return [
        Request(length)
        if task is None
        else Request(length + task.prompt_tokens, id(task), task.config.kind)
        for length, task in zip(lengths, tasks, strict=True)
    ]


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

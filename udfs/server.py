"""What the SQL functions call: one function here for each of them, in the order of `sql/`."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from pageformer.udfs import threads

with threads.kept_out():
    from pageformer.udfs import encoding, spi, versions
    from pageformer.udfs.encoding import Encoder, Options
    from pageformer.udfs.executors import executor
    from pageformer.udfs.tokenizer import Tokenizer
    from pageformer.udfs.version import Version
    from pageformer.udfs.versions import Resolved

REPEATED = 65536  # characters of a text that is worth remembering

_told_in: list[str] = [""]  # the statement that was last told of a cut


@spi.boundary
def encode(
    input: str | None, model: str | None, options: Sequence[Any], more: bool = False
) -> str | None:
    """Encode one text; null for null, and for the near end of a longer text that is too short."""
    if input is None:
        return None
    resolved = versions.resolve(model, input)
    # `order by embedding <=> encode('…', 'minilm')` asks again for each row that it looks at.
    one = encode_repeated if len(input) < REPEATED else encode_one
    return one(resolved, input, Options(*options), more)


@spi.boundary
def encode_pinned(input: str | None, version: str | None, more: bool = False) -> str | None:
    """Encode one text with a version named for good, always in float32 in this backend."""
    if input is None:
        return None
    resolved = versions.resolve(versions.pinned(version), input)
    return encode_one(resolved, input, Options(), more, fixed=True)


@spi.boundary
def encode_batch(
    inputs: Sequence[str | None] | None,
    model: str | None,
    options: Sequence[Any],
    tasks: Sequence[str | None] | None,
) -> list[str | None] | None:
    """Encode texts in order; null stays null."""
    if inputs is None:
        return None
    resolved = versions.resolve(model, next((text for text in inputs if text is not None), None))
    version, chosen = versions.ready(resolved), Options(*options)
    present = [i for i, text in enumerate(inputs) if text is not None]
    cut: list[bool] = []
    encoder, tokenizer = runner(resolved, version, chosen.tasks_of(inputs, tasks))

    def sequences() -> Iterator[list[int]]:
        for i in present:
            spi.pulse()
            prompted = encoding.prompted(version.config, inputs[i] or "", chosen)
            tokens = tokenizer.encode(prompted, chosen.truncate)
            cut.append(tokens.cut)
            yield tokens.ids

    skip = encoding.not_pooled(version, chosen)
    vectors = encoder.vectors(sequences(), chosen.dimensions, chosen.normalized, spi.pulse, skip)
    tell_cuts(resolved, version, cut, tokenizer.limit)
    answer: list[str | None] = [None] * len(inputs)
    for i, vector in zip(present, vectors, strict=True):
        answer[i] = vector
    return answer


@spi.boundary
def encode_tokens(
    input: str | None, model: str | None, options: Sequence[Any]
) -> list[tuple[int, str, str]]:
    """Return (index, token, embedding) of every token that the model sees, index from 1."""
    if input is None:
        return []
    resolved = versions.resolve(model, input)
    version, chosen = versions.ready(resolved), Options(*options)
    if version.config.late:
        with threads.kept_out():
            from pageformer.udfs import late  # NumPy, which other models do without
        return late.encode_tokens(resolved, version, input, chosen)
    prompted = encoding.prompted(version.config, input, chosen)
    encoder, tokenizer = runner(resolved, version, [chosen.task])
    tokens = tokenizer.encode(prompted, chosen.truncate)
    tell_cuts(resolved, version, [tokens.cut], tokenizer.limit)
    states = encoder.states(tokens.ids, chosen.dimensions, chosen.normalized, spi.pulse)
    return [
        (i, version.tokenizer.text_of(id), state)
        for i, (id, state) in enumerate(zip(tokens.ids, states, strict=True), start=1)
    ]


@spi.boundary
def tokenize(input: str | None, model: str | None) -> list[tuple[int, int, str, int, int]]:
    """Return (index, id, token, start_offset, end_offset) of every token, uncut, index from 1."""
    every = chain.from_iterable(all_tokens(input, model))
    return [(index, *token) for index, token in enumerate(every, start=1)]


@spi.boundary
def count_tokens(input: str | None, model: str | None) -> int | None:
    """Count the tokens of a text, uncut, special ones included."""
    if input is None:
        return None
    return sum(len(tokens) for tokens in all_tokens(input, model))


@spi.boundary
def preload(model: str | None) -> int:
    """Map all pages of a model, reading them from their tables where needed; count them.

    None are mapped of a model that does not fit into the cache.
    """
    return versions.ready(versions.resolve(model)).mapped


@spi.boundary
def verify(model: str | None) -> int:
    """Check every page of a model, in its table and in the cache; count them.

    Raises DamagedPage naming the first page whose bytes differ from its hash.
    """
    resolved = versions.resolve(model)
    return spi.as_owner(lambda: versions.verify(resolved))


# -- shared by the functions above ----------------------------------------------------------------


def encode_one(
    resolved: Resolved, text: str, options: Options, more: bool, fixed: bool = False
) -> str | None:
    """Encode one text as SQL's text for a vector."""
    version = versions.ready(resolved, fixed)
    prompted = encoding.prompted(version.config, text, options)
    encoder, tokenizer = runner(resolved, version, [options.task], fixed)
    tokenize = tokenizer.encode_end if more else tokenizer.encode
    tokens = tokenize(prompted, options.truncate)
    if tokens is None:
        return None
    tell_cuts(resolved, version, [tokens.cut], tokenizer.limit)
    [vector] = encoder.vectors(
        [tokens.ids],
        options.dimensions,
        options.normalized,
        spi.pulse,
        encoding.not_pooled(version, options),
    )
    return vector


# The answers to the last few calls of this very statement; errors are not kept.
encode_repeated = lru_cache(maxsize=8)(encode_one)


def runner(
    resolved: Resolved, version: Version, tasks: Sequence[str | None], fixed: bool = False
) -> tuple[Encoder, Tokenizer]:
    """Return what encodes sequences that have these tasks, and what makes their tokens."""
    if any(task is not None for task in tasks):
        with threads.kept_out():
            from pageformer.udfs.tasks import named  # NumPy, which other calls do without
        return named.runner(resolved, version, tasks)
    if fixed:
        return version.encoder, version.tokenizer
    return executor.encoder(resolved, lambda: version.encoder), version.tokenizer


def all_tokens(input: str | None, model: str | None) -> Iterator[Any]:
    """Yield the tokens of a text in pieces, letting PostgreSQL in between."""
    if input is None:
        return
    for tokens in versions.ready(versions.resolve(model, input)).tokenizer.tokens(input):
        spi.pulse()
        yield tokens


def tell_cuts(
    resolved: Resolved, version: encoding.Reader, cut: Sequence[bool], limit: int = 0
) -> None:
    """Warn once per statement that inputs were cut, to `limit` tokens or the model's own limit."""
    if any(cut) and _told_in[0] != resolved.statement:
        _told_in[0] = resolved.statement
        inputs = "an input was" if len(cut) == 1 else f"{sum(cut)} of {len(cut)} inputs were"
        kept = limit or version.tokenizer.limit
        spi.warn(
            f"{inputs} cut to the {kept} tokens that {resolved.model} takes",
            "Told once per statement. Option truncate => 'error' refuses, 'left' keeps the end.",
        )

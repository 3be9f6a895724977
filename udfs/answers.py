"""What the SQL functions of heads call: labels, ranks, missing words, sparse vectors."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pageformer.errors import InvalidInput, NotBuilt
from pageformer.udfs import encoding, server, spi, threads, versions
from pageformer.udfs.encoding import Options
from pageformer.udfs.tokenizer import Tokens
from pageformer.udfs.version import Version
from pageformer.udfs.versions import Resolved

if TYPE_CHECKING:  # NumPy, which other functions do without
    from pageformer.udfs.blocks import Array

WHAT = {
    "sequence": "a head that classifies texts",
    "tokens": "a head that classifies tokens",
    "words": "a head that predicts words",
}
MOST_NONZEROS = 16000  # in a sparsevec


@spi.boundary
def classify(
    input: str | None, model: str | None, task: str | None, truncate: str | None
) -> list[tuple[str, float]]:
    """Return (label, score) of every label, the likeliest first."""
    if input is None:
        return []
    return [(label, score) for _, label, score in classified([input], model, task, truncate)]


@spi.boundary
def classify_batch(
    inputs: Sequence[str | None] | None,
    model: str | None,
    task: str | None,
    truncate: str | None,
    tasks: Sequence[str | None] | None,
) -> list[tuple[int, str, float]]:
    """Return (index, label, score) of every label of every text, index from 1."""
    Options().with_tasks(tasks)
    return classified(inputs or [], model, task, truncate)


def classified(
    inputs: Sequence[str | None], model: str | None, task: str | None, truncate: str | None
) -> list[tuple[int, str, float]]:
    """Classify texts; null has no labels."""
    present = [(i, text) for i, text in enumerate(inputs, start=1) if text is not None]
    text = present[0][1] if present else None
    resolved, version, head = opened(model, "sequence", task, text)
    tokens = [version.tokenizer.encode(text, truncate) for _, text in with_pulse(present)]
    scores = sequence_scores(resolved, version, tokens, head["scores"])
    answer = []
    for (i, _), row in zip(present, scores, strict=True):
        rows = zip(head["labels"], row.tolist(), strict=True)
        answer += [(i, label, score) for label, score in sorted(rows, key=lambda r: -r[1])]
    return answer


@spi.boundary
def rerank(
    query: str | None,
    documents: Sequence[str | None] | None,
    model: str | None,
    task: str | None,
    truncate: str | None,
) -> list[tuple[int, float | None]]:
    """Return (index, score) of every document, the best first; null has no score, and is last."""
    if query is None or documents is None:
        return []
    resolved, version, head = opened(model, "sequence", task, query)
    if len(head["labels"]) != 1:
        raise InvalidInput(
            f"{resolved.model} has {len(head['labels'])} labels, not one score",
            hint="rerank with a cross-encoder, or call pageformer.classify",
        )
    present = [(i, text) for i, text in enumerate(documents, start=1) if text is not None]
    pairs = [
        version.tokenizer.encode_pair(query, text, truncate) for _, text in with_pulse(present)
    ]
    scores = sequence_scores(resolved, version, pairs, head.get("rank", "sigmoid"))
    ranked: list[tuple[int, float | None]] = [
        (present[i][0], float(scores[i, 0])) for i in (-scores[:, 0]).argsort(kind="stable")
    ]
    absent = [i for i, text in enumerate(documents, start=1) if text is None]
    return [*ranked, *((i, None) for i in absent)]


@spi.boundary
def classify_tokens(
    input: str | None, model: str | None, task: str | None, truncate: str | None
) -> list[tuple[int, str, str, float, int, int]]:
    """Return (index, token, label, score, start_offset, end_offset) of every token of the text."""
    if input is None:
        return []
    resolved, version, head = opened(model, "tokens", task, input)
    tokens = version.tokenizer.encode_placed(input, truncate)
    server.tell_cuts(resolved, version, [tokens])
    heads = head_module()
    scores = heads.scored(heads.token_logits(version.model, tokens, spi.pulse), "softmax")
    likeliest, text_of = scores.argmax(axis=1).tolist(), version.tokenizer.text_of
    rows = zip(tokens.ids, likeliest, scores.max(axis=1).tolist(), tokens.places or (), strict=True)
    return [
        (i, text_of(id), head["labels"][label], score, *place)
        for i, (id, label, score, place) in enumerate(rows)
        if place is not None
    ]


@spi.boundary
def fill_mask(
    input: str | None,
    model: str | None,
    candidates: int | None,
    task: str | None,
    truncate: str | None,
) -> list[tuple[int, str, float]]:
    """Return (index, token, score) of the likeliest words for each mask, index from 1."""
    if input is None:
        return []
    resolved, version, _ = opened(model, "words", task, input)
    mask = version.tokenizer.mask
    tokens = version.tokenizer.encode(input, truncate)
    server.tell_cuts(resolved, version, [tokens])
    at = [i for i, id in enumerate(tokens.ids) if id == mask]
    if not at:
        name = version.tokenizer.text_of(mask)
        raise InvalidInput("the input has no mask", hint=f"put {name} where a word is missing")
    heads = head_module()
    scores = heads.scored(heads.word_logits(version.model, tokens, spi.pulse, at), "softmax")
    best = (-scores).argsort(axis=1, kind="stable")[:, : max(candidates or 0, 0)]
    return [
        (i, version.tokenizer.text_of(int(word)), float(row[word]))
        for i, (row, words) in enumerate(zip(scores, best, strict=True), start=1)
        for word in words
    ]


@spi.boundary
def encode_sparse(
    input: str | None, model: str | None, nonzeros: int | None, options: Sequence[Any]
) -> str | None:
    """Weigh the words of the vocabulary, at most `nonzeros` of them, as the text of a sparsevec."""
    if input is None:
        return None
    chosen = Options(*options)
    resolved, version, head = opened(model, "words", chosen.task, input)
    if "sparse" not in head:
        raise NotBuilt(
            f"{resolved.model} makes no sparse vectors",
            hint="load a SPLADE model with its modules.json",
        )
    if nonzeros is None or not 1 <= nonzeros <= MOST_NONZEROS:
        raise InvalidInput(
            f"nonzeros is {nonzeros}, not a number from 1 to {MOST_NONZEROS}",
            hint="an hnsw index takes vectors of at most 1000",
        )
    prompted = encoding.prompted(version.config, input, chosen)
    tokens = version.tokenizer.encode(prompted, chosen.truncate)
    server.tell_cuts(resolved, version, [tokens])
    heads = head_module()
    logits = heads.word_logits(version.model, tokens, spi.pulse)
    weights = heads.sparse(
        logits, head["sparse"]["pooling"], head["sparse"]["activation"], nonzeros
    )
    listed = ",".join(f"{i + 1}:{weight!r}" for i, weight in weights)
    return f"{{{listed}}}/{logits.shape[1]}"


# -- shared by the functions above ----------------------------------------------------------------


def opened(
    model: str | None, need: str, task: str | None, text: str | None
) -> tuple[Resolved, Version, dict[str, Any]]:
    """Resolve a model and make it ready; raise NotBuilt unless it has the head that is needed."""
    resolved = versions.resolve(model, text)
    version = versions.ready(resolved)
    Options(task=task).check(version.config)
    head = version.config.head
    if head.get("task") != need:
        has = WHAT[head["task"]] if head else "no head"
        raise NotBuilt(
            f"{resolved.model} does not have {WHAT[need]}",
            hint=f"it has {has}; a head is loaded where config.json names it in architectures",
        )
    return resolved, version, head


def sequence_scores(
    resolved: Resolved, version: Version, tokens: Sequence[Tokens], how: str
) -> "Array":
    """Tell of cuts, and compute the scores of sequences.  # -> [sequences, labels]"""
    server.tell_cuts(resolved, version, tokens)
    heads = head_module()
    scores: Array = heads.scored(heads.sequence_logits(version.model, tokens, spi.pulse), how)
    return scores


def with_pulse(texts: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Let PostgreSQL in between texts."""
    for numbered in texts:
        spi.pulse()
        yield numbered


def head_module() -> Any:
    """Import what computes, and NumPy with it, keeping signals from its threads."""
    with threads.kept_out():
        from pageformer.udfs import heads
    return heads

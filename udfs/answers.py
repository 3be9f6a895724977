"""What the SQL functions of heads call: labels, ranks, missing words, sparse vectors."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pageformer.errors import InvalidInput, NotBuilt
from pageformer.udfs import encoding, server, spi, threads, versions
from pageformer.udfs.encoding import Options
from pageformer.udfs.tokenizer import Tokenizer, Tokens
from pageformer.udfs.version import Version
from pageformer.udfs.versions import Resolved

if TYPE_CHECKING:  # NumPy, which other functions do without
    from pageformer.udfs.blocks import Array
    from pageformer.udfs.tasks.task_run import Task

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
    return classified(inputs or [], model, task, truncate, tasks)


def classified(
    inputs: Sequence[str | None],
    model: str | None,
    task: str | None,
    truncate: str | None,
    tasks: Sequence[str | None] | None = None,
) -> list[tuple[int, str, float]]:
    """Classify texts; null has no labels."""
    present = [(i, text) for i, text in enumerate(inputs, start=1) if text is not None]
    text = present[0][1] if present else None
    answering = opened(model, "sequence", Options(task=task).tasks_of(inputs, tasks), text)
    tokens = [
        answering.tokenizer.encode(answering.prompt(i) + text, truncate)
        for i, (_, text) in enumerate(with_pulse(present))
    ]
    rows = zip(present, answering.heads, sequence_logits(answering, tokens), strict=True)
    answer = []
    for (i, _), head, logits in rows:
        scores = head_module().scored(logits, head["scores"]).tolist()
        labelled = zip(head["labels"], scores, strict=True)
        answer += [(i, label, score) for label, score in sorted(labelled, key=lambda r: -r[1])]
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
    present = [(i, text) for i, text in enumerate(documents, start=1) if text is not None]
    answering = opened(model, "sequence", [task] * max(len(present), 1), query)
    head = answering.heads[0]
    if len(head["labels"]) != 1:
        raise InvalidInput(
            f"{answering.resolved.model} has {len(head['labels'])} labels, not one score",
            hint="rerank with a cross-encoder, or call pageformer.classify",
        )
    asked = answering.prompt(0) + query
    pairs = [
        answering.tokenizer.encode_pair(asked, text, truncate) for _, text in with_pulse(present)
    ]
    how = head.get("rank", "sigmoid")
    scores = [
        float(head_module().scored(logits, how)[0]) for logits in sequence_logits(answering, pairs)
    ]
    ranked: list[tuple[int, float | None]] = [
        (present[i][0], scores[i]) for i in sorted(range(len(scores)), key=lambda i: -scores[i])
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
    answering = opened(model, "tokens", [task], input)
    version, head = answering.version, answering.heads[0]
    tokens = answering.tokenizer.encode_placed(input, truncate)
    answering.tell_cuts([tokens.cut])
    heads = head_module()
    logits = heads.token_logits(version.model, tokens, spi.pulse, answering.tasks[0])
    scores = heads.scored(logits, "softmax")
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
    answering = opened(model, "words", [task], input)
    version, mask = answering.version, answering.tokenizer.mask
    tokens = answering.tokenizer.encode(input, truncate)
    answering.tell_cuts([tokens.cut])
    at = [i for i, id in enumerate(tokens.ids) if id == mask]
    if not at:
        name = version.tokenizer.text_of(mask)
        raise InvalidInput("the input has no mask", hint=f"put {name} where a word is missing")
    heads = head_module()
    logits = heads.word_logits(version.model, tokens, spi.pulse, at, answering.tasks[0])
    scores = heads.scored(logits, "softmax")
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
    answering = opened(model, "words", [chosen.task], input)
    version, head = answering.version, answering.heads[0]
    if "sparse" not in head:
        raise NotBuilt(
            f"{answering.resolved.model} makes no sparse vectors",
            hint="load a SPLADE model with its modules.json",
        )
    if nonzeros is None or not 1 <= nonzeros <= MOST_NONZEROS:
        raise InvalidInput(
            f"nonzeros is {nonzeros}, not a number from 1 to {MOST_NONZEROS}",
            hint="an hnsw index takes vectors of at most 1000",
        )
    prompted = encoding.prompted(version.config, input, chosen)
    tokens = answering.tokenizer.encode(prompted, chosen.truncate)
    answering.tell_cuts([tokens.cut])
    heads = head_module()
    logits = heads.word_logits(version.model, tokens, spi.pulse, None, answering.tasks[0])
    weights = heads.sparse(
        logits, head["sparse"]["pooling"], head["sparse"]["activation"], nonzeros
    )
    listed = ",".join(f"{i + 1}:{weight!r}" for i, weight in weights)
    return f"{{{listed}}}/{logits.shape[1]}"


# -- shared by the functions above ----------------------------------------------------------------


class Answering(NamedTuple):
    """Hold what answers: a version, the task and the head of each input, and the tokenizer."""

    resolved: Resolved
    version: Version
    tokenizer: Tokenizer
    tasks: "Sequence[Task | None]"
    heads: list[dict[str, Any]]

    def prompt(self, i: int) -> str:
        """Return what stands before input i: the default prompt, unless a task answers."""
        if self.tasks and self.tasks[i] is not None:
            return ""
        return encoding.prompt_of(self.version.config, Options())

    def tell_cuts(self, cut: Sequence[bool]) -> None:
        """Warn once per statement that inputs were cut."""
        server.tell_cuts(self.resolved, self.version, cut, self.tokenizer.limit)


def opened(
    model: str | None, need: str, names: Sequence[str | None], text: str | None
) -> Answering:
    """Resolve a model and tasks; raise NotBuilt unless each has the head that is needed."""
    resolved = versions.resolve(model, text)
    version = versions.ready(resolved)
    tokenizer = version.tokenizer
    tasks: list[Task | None] = [None] * len(names)
    if any(name is not None for name in names):
        with threads.kept_out():
            from pageformer.udfs.tasks import named
        tasks = named.tasks_of(resolved, version, names)
        tokenizer = named.tokenizer(version, tasks)
    heads = [version.config.head if task is None else task.head for task in tasks]
    for head in heads or [version.config.head]:
        check_head(resolved, head, need)
    return Answering(resolved, version, tokenizer, tasks, heads)


def check_head(resolved: Resolved, head: dict[str, Any], need: str) -> None:
    """Raise NotBuilt unless a head does what is needed."""
    if head.get("task") != need:
        has = WHAT[head["task"]] if head else "no head"
        raise NotBuilt(
            f"{resolved.model} does not have {WHAT[need]}",
            hint=f"it has {has}; a head is loaded where config.json names it in architectures",
        )


def sequence_logits(answering: Answering, tokens: Sequence[Tokens]) -> "list[Array]":
    """Tell of cuts, and compute the logits of sequences.  # -> sequences x [labels]"""
    answering.tell_cuts([t.cut for t in tokens])
    model, tasks = answering.version.model, answering.tasks
    computed: list[Array] = head_module().sequence_logits(
        model, tokens, spi.pulse, tasks if any(tasks) else None
    )
    return computed


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

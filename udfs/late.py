"""Vectors of every token as late interaction wants them (ColBERT; Khattab and Zaharia 2020).

Queries are filled up with a mask token, punctuation of documents has no vector, and the others are
projected. Follows sentence-transformers' MultiVectorEncoder.
"""

from collections.abc import Sequence

from pageformer.errors import InvalidInput
from pageformer.udfs import composed, encoder, encoding, server, spi
from pageformer.udfs.config import Config
from pageformer.udfs.encoding import Options
from pageformer.udfs.version import Version
from pageformer.udfs.versions import Resolved

Task = str | None  # query, document, or neither: as a document, but of any length


def encode_tokens(
    resolved: Resolved, version: Version, text: str, options: Options
) -> list[tuple[int, str, str]]:
    """Return (index, token, embedding) of every token that is compared, index from 1."""
    config, task = version.config, task_of(version.config, options)
    prompted = encoding.prompted(config, text, options.without_task())
    limit = config.late["lengths"].get(task, version.tokenizer.limit)
    tokens = version.tokenizer.within(limit).encode(prompted, options.truncate)
    server.tell_cuts(resolved, version, [tokens.cut], limit)
    ids, seen = expanded(config, tokens.ids, task)
    kept = scored(config, ids, task)
    model = version.model
    states = encoder.token_states(model, encoder.join([ids]), spi.pulse, seen)
    vectors = model.operators.to_host(encoder.modules(model, states[kept]))
    normalized = config.normalized if options.normalized is None else options.normalized
    told = composed.finish(model, vectors, options.dimensions, normalized)
    return [
        (i + 1, version.tokenizer.text_of(ids[i]), composed.vector_text(vector))
        for i, vector in zip(kept, told, strict=True)
    ]


def task_of(config: Config, options: Options) -> Task:
    """Tell whether a text is a query or a document, by its prompt's name.

    Raises InvalidInput where nothing says which.
    """
    name = options.prompt_name or (config.default_prompt_name if options.prompt is None else None)
    if name is None and options.prompt is None:
        raise InvalidInput(
            "this model reads queries and documents differently",
            hint="say which this is: prompt_name => 'query' or prompt_name => 'document'",
        )
    return name if name in config.late["lengths"] else None


def expanded(config: Config, ids: Sequence[int], task: Task) -> tuple[list[int], int | None]:
    """Fill a query up with mask tokens; tell how many tokens are looked at, None being all."""
    expansion = config.late["expansion"] if task == "query" else {}
    missing = max(expansion.get("length", 0) - len(ids), 0)
    seen = len(ids) if missing and not expansion["attend"] else None
    return [*ids, *[expansion["token"]] * missing] if missing else [*ids], seen


def scored(config: Config, ids: Sequence[int], task: Task) -> list[int]:
    """Choose the places of the tokens that have a vector."""
    late = config.late
    skipped = {*late["skip"]} if (task or "document") in late["skip_tasks"] else set()
    wanted = {*late["keep"]} if task != "query" else set()
    return [i for i, id in enumerate(ids) if id not in skipped and (not wanted or id in wanted)]

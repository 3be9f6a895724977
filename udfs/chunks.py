"""Long documents in pieces that a model takes whole, with the characters that each stands for."""

from collections.abc import Iterator, Sequence
from typing import Any

from pageformer.errors import InvalidInput, NotBuilt
from pageformer.udfs import encoding, executor, spi, versions
from pageformer.udfs.encoding import Options
from pageformer.udfs.tokenizer import Tokenizer
from pageformer.udfs.version import Version

Span = tuple[int, int]  # characters, [start, end)
BOUNDARIES = ("word", "token")


@spi.boundary
def chunk(
    input: str | None,
    model: str | None,
    size: int | None,
    overlap: int | None,
    boundary: str | None,
) -> list[tuple[str, int, int]]:
    """Return (chunk, start_offset, end_offset) of each piece, in order."""
    if input is None:
        return []
    version = versions.ready(versions.resolve(model, input))
    spans = split(version.tokenizer, input, size, overlap, boundary, version.tokenizer.limit)
    return [(input[start:end], start, end) for start, end in spans]


@spi.boundary
def encode_chunks(
    input: str | None,
    model: str | None,
    size: int | None,
    overlap: int | None,
    boundary: str | None,
    options: Sequence[Any],
) -> list[tuple[str, int, int, str]]:
    """Return (chunk, start_offset, end_offset, embedding) of each piece, in order."""
    if input is None:
        return []
    resolved, chosen = versions.resolve(model, input), Options(*options)
    version = versions.ready(resolved)
    most = version.tokenizer.limit - prompt_size(version, chosen)
    spans = list(split(version.tokenizer, input, size, overlap, boundary, most))
    texts = [input[start:end] for start, end in spans]
    prompted = (encoding.prompted(version.config, text, chosen) for text in texts)
    ids = (version.tokenizer.encode(text).ids for text in prompted)
    skip = 0 if version.config.include_prompt else prompt_size(version, chosen, whole=True)
    encoder = executor.encoder(resolved, version)
    vectors = encoder.vectors(ids, chosen.dimensions, chosen.normalized, spi.pulse, skip)
    return [(t, *span, v) for t, span, v in zip(texts, spans, vectors, strict=True)]


def prompt_size(version: Version, options: Options, whole: bool = False) -> int:
    """Count the tokens of the prompt, with the special one before it or without."""
    prompt = encoding.prompt_of(version.config, options)
    if not prompt:
        return 0
    tokens = version.tokenizer.prompt_length(prompt)
    return tokens if whole else tokens - version.tokenizer.prompt_length("") + 1


def split(
    tokenizer: Tokenizer,
    text: str,
    size: int | None,
    overlap: int | None,
    boundary: str | None,
    most: int,
) -> Iterator[Span]:
    """Cut a text into pieces of at most `size` tokens, special ones included.

    Each begins `overlap` tokens before the end of the last one, or a little more, to begin with a
    word. Raises InvalidInput and NotBuilt for sizes and boundaries that cannot be.
    """
    size, overlap = most if size is None else size, overlap or 0
    room = size - tokenizer.specials
    if boundary not in BOUNDARIES:
        raise NotBuilt(
            f"boundary {boundary or 'null'!r} is not part of this release",
            hint=f"one of {', '.join(BOUNDARIES)}",
        )
    if not (room > 0 and size <= most and 0 <= overlap < room):
        raise InvalidInput(
            f"chunks of {size} tokens that overlap by {overlap} cannot be",
            hint=f"size from {tokenizer.specials + 1} to {most}, overlap less than it without "
            f"the {tokenizer.specials} special tokens",
        )
    places = content_places(tokenizer, text)
    begin = 0
    while begin < len(places):
        spi.pulse()
        end = fitting(tokenizer, text, places, begin, begin + room, size, boundary == "word")
        yield span(text, places, begin, end)
        if end == len(places):
            return
        back = whole(places, max(end - overlap, begin + 1), begin + 1)
        begin = word_before(places, back, begin + 1) if boundary == "word" else back


def content_places(tokenizer: Tokenizer, text: str) -> list[Span]:
    """Return the characters of every token that stands for some."""
    return [(t.start, t.end) for part in tokenizer.tokens(text) for t in part if t.start < t.end]


def fitting(
    tokenizer: Tokenizer,
    text: str,
    places: Sequence[Span],
    begin: int,
    end: int,
    size: int,
    at_words: bool,
) -> int:
    """Return where a piece ends that has no more than `size` tokens when it stands alone."""
    end = min(end, len(places))
    end = whole(places, end, begin + 1)
    if at_words and end < len(places):
        end = word_before(places, end, begin + 1)
    while end > begin + 1:
        start, stop = span(text, places, begin, end)
        beyond = tokenizer.count(text[start:stop]) - size
        if beyond <= 0:
            break
        end = whole(places, max(begin + 1, end - beyond), begin + 1)
    return end


def span(text: str, places: Sequence[Span], begin: int, end: int) -> Span:
    """Return the characters of some tokens, and those behind them that no token stands for."""
    start = places[begin][0]
    stop = places[end][0] if end < len(places) else len(text)
    return start, start + len(text[start:stop].rstrip())


def whole(places: Sequence[Span], index: int, least: int) -> int:
    """Go back to the first of the tokens that stand for one character."""
    while least < index < len(places) and places[index][0] < places[index - 1][1]:
        index -= 1
    return index


def word_before(places: Sequence[Span], index: int, least: int) -> int:
    """Go back to the first token of a word, unless that is too far; words are apart."""
    for i in range(index, max(least, index - (index - least) // 2) - 1, -1):
        if places[i][0] > places[i - 1][1]:
            return i
    return index

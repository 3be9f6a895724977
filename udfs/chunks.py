"""Long documents in pieces that a model takes whole, with the characters that each stands for."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from pageformer.errors import InvalidInput, NotBuilt
from pageformer.udfs import encoding, sentences, spi, versions
from pageformer.udfs.encoding import Options
from pageformer.udfs.server import runner
from pageformer.udfs.tokenizer import Tokenizer
from pageformer.udfs.version import Version

Span = tuple[int, int]  # characters, [start, end)
BOUNDARIES = ("word", "sentence", "token")


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
    _, tokenizer = runner(resolved, version, [chosen.task])
    most = tokenizer.limit - prompt_size(version, chosen)
    spans = list(split(version.tokenizer, input, size, overlap, boundary, most))
    texts = [input[start:end] for start, end in spans]
    prompted = (encoding.prompted(version.config, text, chosen) for text in texts)
    ids = (version.tokenizer.encode(text).ids for text in prompted)
    skip = 0 if version.config.include_prompt else prompt_size(version, chosen, whole=True)
    encoder, _ = runner(resolved, version, [chosen.task] * len(spans))
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
    word or a sentence. Raises InvalidInput and NotBuilt for what cannot be.
    """
    size, overlap = most if size is None else size, overlap or 0
    check(tokenizer, size, overlap, boundary, most)
    places, room = content_places(tokenizer, text), size - tokenizer.specials
    starts = sentence_starts(text, places) if boundary == "sentence" else []
    at_words = boundary != "token"
    begin = last = 0
    while last < len(places):
        spi.pulse()
        end = fitting(tokenizer, text, places, begin, begin + room, size, at_words)
        end = sentence_before(starts, end, begin) or end
        if end <= last:  # all of it was in the last piece
            begin = last
            continue
        yield span(text, places, begin, end)
        if end == len(places):
            return
        back = whole(places, max(end - overlap, begin + 1), begin + 1)
        back = word_before(places, back, begin + 1) if at_words else back
        inside = end if end in starts else back  # a whole sentence is not begun inside
        begin, last = sentence_before(starts, back, begin) or inside, end


def check(tokenizer: Tokenizer, size: int, overlap: int, boundary: str | None, most: int) -> None:
    """Raise InvalidInput or NotBuilt for sizes and boundaries that cannot be."""
    if boundary not in BOUNDARIES:
        raise NotBuilt(
            f"boundary {boundary or 'null'!r} is not part of this release",
            hint=f"one of {', '.join(BOUNDARIES)}",
        )
    if not (tokenizer.specials < size <= most and 0 <= overlap < size - tokenizer.specials):
        raise InvalidInput(
            f"chunks of {size} tokens that overlap by {overlap} cannot be",
            hint=f"size from {tokenizer.specials + 1} to {most}, overlap less than it without "
            f"the {tokenizer.specials} special tokens",
        )


def sentence_starts(text: str, places: Sequence[Span]) -> list[int]:
    """Return the first token of each sentence, and the number of tokens."""
    firsts = [start for start, _ in places]
    found = {bisect_left(firsts, start) for start in sentences.starts(text, spi.pulse)}
    return sorted({*found, len(places)})


def sentence_before(starts: Sequence[int], index: int, begin: int) -> int:
    """Go back to the start of a sentence behind `begin`; 0 where there is none."""
    found = bisect_right(starts, index) - 1
    return starts[found] if found >= 0 and starts[found] > begin else 0


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

"""Where the sentences of a text begin, by the rules of sentencex."""

import re
from collections.abc import Callable, Iterator
from typing import Any

WINDOW = 20000  # characters looked at together: splitting cannot be interrupted
# The library stumbles over white space of more than one byte; offsets stay when it is replaced.
ODD_SPACE = re.compile(r"[^\S\n]|[\x00-\x09\x0b-\x1f\x7f-\x9f]")
LANGUAGE = "en"  # its rules have the marks of all languages


def starts(text: str, pulse: Callable[[], None]) -> Iterator[int]:
    """Yield the character that each sentence begins with, from 0."""
    from sentencex import get_sentence_boundaries

    begin = 0
    while begin < len(text):
        pulse()
        window = ODD_SPACE.sub(" ", text[begin : begin + WINDOW])
        found: list[dict[str, Any]] = get_sentence_boundaries(LANGUAGE, window)
        is_last = begin + len(window) >= len(text)
        whole = found if is_last or len(found) < 2 else found[:-1]  # the last one may go on
        yield from (begin + sentence["start_index"] for sentence in whole)
        begin += whole[-1]["end_index"]

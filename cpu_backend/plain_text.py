"""BERT's tokens of plain text, from a table of its vocabulary that all connections share.

The tokenizers library reads a tokenizer.json for longer than a text takes to encode, and holds ten
megabytes of it. Most text is plain: ASCII, without the characters that added tokens begin with.
"""

import json
from collections.abc import Callable
from typing import Any

from pageformer.cpu_backend import _kernels as kernels

LONGEST_WORD = 256  # characters, of wordpiece.h
# A text and a limit -> its ids and whether it was cut; None: not to be told from the table.
Plain = Callable[[str, int], tuple[list[int], bool] | None]
FORM = "wordpieces1"  # of the table, in the page cache; 1: its layout, of wordpiece.h


def reader(table: memoryview) -> Plain | None:
    """Return what tells a text's ids, cut to a limit, and whether it was cut; None: not plain.

    None for a tokenizer that has no table.
    """
    if not table:
        return None
    return lambda text, limit: kernels.plain_ids(table, text, limit)


def table(tokenizer: bytes) -> bytes:
    """Make the table of a tokenizer.json; an empty one where plain text is not BERT's WordPiece."""
    told = json.loads(tokenizer)
    added = [(token["content"], token["normalized"]) for token in told["added_tokens"]]
    if not is_wordpiece(told) or not all(map(is_plain, added)):
        return b""
    model = told["model"]
    before, after = special_tokens(told["post_processor"])
    first = {content[0] for content, _ in added if content[0].isascii()}
    return kernels.word_table(
        model["vocab"],
        model["vocab"][model["unk_token"]],
        told["normalizer"]["lowercase"],
        model["max_input_chars_per_word"],
        before,
        after,
        "".join({*map(str.lower, first), *map(str.upper, first)}),
    )


def is_wordpiece(told: dict[str, Any]) -> bool:
    """Tell whether a tokenizer does to ASCII what the table's reader does."""
    normalizer, model, processor = told["normalizer"] or {}, told["model"], told["post_processor"]
    return (
        normalizer.get("type") == "BertNormalizer"
        and normalizer["clean_text"]
        and told["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        and processor is not None
        and processor.get("type") in ("TemplateProcessing", "BertProcessing")
        and sum("Sequence" in part for part in processor.get("single", [{"Sequence": {}}])) == 1
        and model.get("type") == "WordPiece"
        and model["continuing_subword_prefix"] == "##"
        and model["unk_token"] in model["vocab"]
        and 0 < model["max_input_chars_per_word"] <= LONGEST_WORD
    )


def is_plain(added: tuple[str, bool]) -> bool:
    """Tell whether an added token is found by its first character, once that is in lower case."""
    content, normalized = added
    return content[:1].isprintable() and (content.isascii() or not normalized) and content != ""


def special_tokens(processor: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Return the ids that a post-processor puts before and behind a text."""
    if processor["type"] == "BertProcessing":
        return [processor["cls"][1]], [processor["sep"][1]]
    around: tuple[list[int], list[int]] = [], []
    behind = False
    for part in processor["single"]:
        if special := part.get("SpecialToken"):
            around[behind].extend(processor["special_tokens"][special["id"]]["ids"])
        else:
            behind = True
    return around

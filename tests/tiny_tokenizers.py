"""Tokenizers small enough to write by hand, of every kind that the model families use.

Each function returns a `tokenizer.json` as a dictionary and the size of its vocabulary. Texts fall
into characters, pairs and a few words, so that every branch of a real tokenizer is taken.
"""

from typing import Any

Json = dict[str, Any]

ASCII = [chr(code) for code in range(33, 127)]
OTHER = list("äöüßéèçñøœабвгдежзийклмнопрстуאבגדהוזחטילםןعربيهسلام日本語中文字東京한국어१२३βγδε€…")
TEXT = (
    "the of and to in is that it was for on are as with his they at be this from have or by one "
    "had not but what all were when we there can an your which their said if do will each about "
    "how up out them then she many some so these would other into has more her two like him see "
    "time could no make than first been its who now people my made over did down only way find use "
    "may water long little very after words called just where most know return def number "
    "round function"
)
WORDS = TEXT.split()
ENDINGS = ["s", "es", "ed", "ing", "er", "ly", "tion", "al", "th", "ou", "an", "in", "en", "on"]


def word_pieces(specials: list[str], specials_at_end: list[str], lowercase: bool) -> list[str]:
    """List a WordPiece vocabulary: characters, words, and both as continuations."""
    extra = [] if lowercase else [word.capitalize() for word in WORDS]
    letters = [*dict.fromkeys(ASCII + OTHER)]
    continued = ["##" + piece for piece in [*letters, *ENDINGS]]
    return [*dict.fromkeys([*specials, *letters, *WORDS, *extra, *continued, *specials_at_end])]


def added_token(vocabulary: list[str], content: str, lstrip: bool = False) -> Json:
    """Describe a special token, which is found in the text before anything else."""
    return {
        "id": vocabulary.index(content),
        "content": content,
        "single_word": False,
        "lstrip": lstrip,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def template(vocabulary: list[str], first: str, last: str) -> Json:
    """Put one special token before a text and one behind."""
    special = [{"SpecialToken": {"id": name, "type_id": 0}} for name in (first, last)]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": last, "type_id": 1}}]
    single = [special[0], {"Sequence": {"id": "A", "type_id": 0}}, special[1]]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *second],
        "special_tokens": {
            name: {"id": name, "ids": [vocabulary.index(name)], "tokens": [name]}
            for name in (first, last)
        },
    }


def tokenizer(model: Json, added: list[Json], post_processor: Json, **parts: Json) -> Json:
    """Put a `tokenizer.json` together."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda token: int(token["id"])),
        "normalizer": parts.get("normalizer"),
        "pre_tokenizer": parts["pre_tokenizer"],
        "post_processor": post_processor,
        "decoder": parts["decoder"],
        "model": model,
    }


def word_piece(vocabulary: list[str], unknown: str, lowercase: bool) -> dict[str, Json]:
    """Describe the parts that BERT and MPNet share."""
    return {
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {piece: index for index, piece in enumerate(vocabulary)},
        },
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    }


def bert(lowercase: bool = True) -> tuple[Json, int]:
    """Write BERT's tokenizer: WordPiece between [CLS] and [SEP]."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = word_pieces(specials, [], lowercase)
    added = [added_token(vocabulary, name) for name in specials]
    parts = word_piece(vocabulary, "[UNK]", lowercase)
    return tokenizer(
        added=added, post_processor=template(vocabulary, "[CLS]", "[SEP]"), **parts
    ), len(vocabulary)


def mpnet() -> tuple[Json, int]:
    """Write MPNet's tokenizer: WordPiece between <s> and </s>, with [UNK] for unknown words."""
    vocabulary = word_pieces(["<s>", "<pad>", "</s>", "<unk>"], ["[UNK]", "<mask>"], True)
    added = [added_token(vocabulary, name) for name in ("<s>", "<pad>", "</s>", "[UNK]")]
    added.append(added_token(vocabulary, "<mask>", lstrip=True))
    parts = word_piece(vocabulary, "[UNK]", True)
    post_processor = roberta_processing(vocabulary)
    return tokenizer(added=added, post_processor=post_processor, **parts), len(vocabulary)


def roberta_processing(vocabulary: list[str]) -> Json:
    """Put <s> before a text and </s> behind."""
    return {
        "type": "RobertaProcessing",
        "sep": ["</s>", vocabulary.index("</s>")],
        "cls": ["<s>", vocabulary.index("<s>")],
        "trim_offsets": True,
        "add_prefix_space": False,
    }


def byte_letters() -> list[str]:
    """List the letters that stand for the 256 bytes in a byte-level vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + index) for index in range(len(hidden))]


def byte_merges() -> list[tuple[str, str]]:
    """List merges that build words from the left, each with and without a space before it."""
    merges: dict[tuple[str, str], None] = {}
    for word in [*WORDS, *("Ġ" + word for word in WORDS)]:
        for end in range(1, len(word)):
            merges[word[:end], word[end]] = None
    return list(merges)


def roberta() -> tuple[Json, int]:
    """Write RoBERTa's tokenizer: byte-level BPE between <s> and </s>."""
    merges = byte_merges()
    joined = ["".join(merge) for merge in merges]
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = [*dict.fromkeys([*specials, *byte_letters(), *joined, "<mask>"])]
    added = [added_token(vocabulary, name) for name in specials]
    added.append(added_token(vocabulary, "<mask>", lstrip=True))
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "vocab": {piece: index for index, piece in enumerate(vocabulary)},
        "merges": [list(merge) for merge in merges],
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    post_processor = roberta_processing(vocabulary)
    return tokenizer(
        model, added, post_processor, pre_tokenizer=byte_level, decoder=byte_level
    ), len(vocabulary)


def unigram(
    specials: list[str],
    ends: tuple[str, str] = ("<s>", "</s>"),
    mask: str = "<mask>",
    unknown: str = "<unk>",
) -> tuple[Json, int]:
    """Write a SentencePiece-like tokenizer: Unigram over words that begin with a low line."""
    words = ["▁" + word for word in WORDS]
    pieces = [*dict.fromkeys(["▁", *ASCII, *OTHER, *WORDS, *words, *ENDINGS])]
    vocabulary = [*specials, *pieces, mask]
    scores = {piece: -3.0 - index / 64 for index, piece in enumerate(pieces)}
    added = [added_token(vocabulary, name) for name in specials]
    added.append(added_token(vocabulary, mask, lstrip=True))
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    model = {
        "type": "Unigram",
        "unk_id": vocabulary.index(unknown),
        "vocab": [[piece, scores.get(piece, 0.0)] for piece in vocabulary],
        "byte_fallback": False,
    }
    split = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]}
    return tokenizer(
        model, added, template(vocabulary, *ends), pre_tokenizer=split, decoder=metaspace
    ), len(vocabulary)


def xlm_roberta() -> tuple[Json, int]:
    """Write XLM-RoBERTa's tokenizer."""
    return unigram(["<s>", "<pad>", "</s>", "<unk>"])


def camembert() -> tuple[Json, int]:
    """Write CamemBERT's tokenizer, whose special tokens stand behind unused ones."""
    return unigram(["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"])


def albert() -> tuple[Json, int]:
    """Write ALBERT's tokenizer."""
    specials = ["<pad>", "<unk>", "[CLS]", "[SEP]"]
    return unigram(specials, ("[CLS]", "[SEP]"), mask="[MASK]")


def deberta() -> tuple[Json, int]:
    """Write DeBERTa-v2's tokenizer."""
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    return unigram(specials, ("[CLS]", "[SEP]"), mask="[MASK]", unknown="[UNK]")

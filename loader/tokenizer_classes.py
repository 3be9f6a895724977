"""What the tokenizer classes of transformers 5.23 build from a vocabulary and their settings.

These classes take no more than the vocabulary from `tokenizer.json`; normalising, splitting and
special tokens follow from the class and from `tokenizer_config.json`. Where the two files differ,
the second one therefore decides what ids a text has. (`models/*/tokenization_*.py` there.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.json_file import Json

# In the order in which missing ones are added.
SPECIAL_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True)
class Settings:
    """Hold what a directory says about its tokenizer, with the defaults of its class."""

    values: Json
    special: Mapping[str, str]

    def flag(self, name: str, default: bool | None) -> bool | None:
        """Read a switch; None means that the class decides."""
        value: bool | None = self.values.get(name, default)
        return value


Parts = Callable[[Json, Settings], Json]


@dataclass(frozen=True)
class TokenizerClass:
    """Describe one class: its kind of vocabulary, its special tokens, and what it builds."""

    model_type: str
    special: Mapping[str, str]
    parts: Parts
    mask_takes_space: bool = False
    ends: tuple[str, str] = ("cls", "sep")  # before and behind a text
    typed: bool = True  # the second text of a pair is told from the first
    extra: tuple[str, ...] = ()  # further special tokens, where the settings name none


def rebuild(name: str, content: Json, settings: Settings) -> Json:
    """Return a `tokenizer.json` as class `name` builds it from the vocabulary in `content`.

    Raises InvalidCheckpoint when the vocabulary is of another kind.
    """
    made_by = CLASSES[name]
    kind = _model_type(content["model"])
    if kind != made_by.model_type:
        raise InvalidCheckpoint(
            f"tokenizer.json has a model of type {kind}, but {name} reads {made_by.model_type}",
            hint="Set tokenizer_class in tokenizer_config.json to PreTrainedTokenizerFast, "
            "which takes tokenizer.json as it is.",
        )
    return {**content, **made_by.parts(content, settings)}


def _model_type(model: Json) -> str:
    """Name the kind of a vocabulary, which older files leave to be guessed."""
    guessed = "Unigram" if isinstance(model["vocab"], list) else "WordPiece"
    return str(model.get("type", "BPE" if "merges" in model else guessed))


def _word_piece(content: Json, settings: Settings) -> Json:
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.flag("tokenize_chinese_chars", True),
            "strip_accents": settings.flag("strip_accents", None),
            "lowercase": settings.flag("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": settings.special["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": content["model"]["vocab"],
        },
    }


def _byte_level(content: Json, settings: Settings) -> Json:
    return {
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": settings.flag("add_prefix_space", False),
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": content["model"]["vocab"],
            "merges": content["model"]["merges"],
        },
    }


def _sentence_piece(content: Json, settings: Settings, unknown: int) -> Json:
    scheme = "always" if settings.flag("add_prefix_space", True) else "never"
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
    return {
        "normalizer": _precompiled(content.get("normalizer")),
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace],
        },
        "model": {
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": content["model"]["vocab"],
            "byte_fallback": False,
        },
    }


def _xlm_roberta(content: Json, settings: Settings) -> Json:
    return _sentence_piece(content, settings, unknown=3)


def _camembert(content: Json, settings: Settings) -> Json:
    pieces = [piece for piece, _ in content["model"]["vocab"]]
    unknown = settings.special["unk"]
    found = pieces.index(unknown) if unknown in pieces else 0
    return _sentence_piece(content, settings, found)


def _albert(content: Json, settings: Settings) -> Json:
    kinds = [] if settings.flag("keep_accents", False) else ["NFKD", "StripAccents"]
    if settings.flag("do_lower_case", True):
        kinds.append("Lowercase")
    quotes = [{"type": "Replace", "pattern": {"String": q}, "content": '"'} for q in ("``", "''")]
    steps = [*quotes, *({"type": kind} for kind in kinds)]
    precompiled = _precompiled(content.get("normalizer"))
    return {
        **_sentence_piece(content, settings, unknown=1),
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*steps, precompiled] if precompiled else steps,
        },
    }


SPACES: Json = {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "}
STRIP: Json = {"type": "Strip", "strip_left": False, "strip_right": True}


def _deberta(content: Json, settings: Settings) -> Json:
    lowercase = [{"type": "Lowercase"}] if settings.flag("do_lower_case", False) else []
    scheme = "always" if settings.flag("add_prefix_space", True) else "first"
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
    punctuation = {"type": "Punctuation", "behavior": "Isolated"}
    split = [punctuation] if settings.flag("split_by_punct", False) else []
    pieces = [piece for piece, score in content["model"]["vocab"] if score == 0]
    found = settings.special["unk"] in pieces
    names = [piece for piece, _ in content["model"]["vocab"]]
    unknown = names.index(settings.special["unk"]) if found else settings.values.get("unk_id", 1)
    return {
        **_sentence_piece(content, settings, unknown),
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*lowercase, SPACES, {"type": "NFC"}, STRIP],
        },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*split, metaspace]},
    }


def _precompiled(normalizer: Json | None) -> Json | None:
    """Return the SentencePiece table of a normalizer, all that its classes keep of it."""
    steps = (normalizer or {}).get("normalizers", [normalizer] if normalizer else [])
    return next((step for step in steps if step.get("type") == "Precompiled"), None)


BRACKETS = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
ANGLES = {
    "bos": "<s>",
    "eos": "</s>",
    "sep": "</s>",
    "cls": "<s>",
    "unk": "<unk>",
    "pad": "<pad>",
    "mask": "<mask>",
}
BERT = TokenizerClass("WordPiece", BRACKETS, _word_piece)
CLASSES: Mapping[str, TokenizerClass] = {
    "BertTokenizer": BERT,
    "DistilBertTokenizer": BERT,
    "ElectraTokenizer": BERT,
    "MPNetTokenizer": TokenizerClass(
        "WordPiece", {**ANGLES, "unk": "[UNK]"}, _word_piece, mask_takes_space=True
    ),
    "RobertaTokenizer": TokenizerClass("BPE", ANGLES, _byte_level),
    "XLMRobertaTokenizer": TokenizerClass("Unigram", ANGLES, _xlm_roberta, ends=("bos", "eos")),
    "CamembertTokenizer": TokenizerClass(
        "Unigram",
        ANGLES,
        _camembert,
        mask_takes_space=True,
        ends=("bos", "eos"),
        extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    ),
    "AlbertTokenizer": TokenizerClass(
        "Unigram",
        {**BRACKETS, "bos": "[CLS]", "eos": "[SEP]", "unk": "<unk>", "pad": "<pad>"},
        _albert,
        typed=False,
    ),
    "DebertaV2Tokenizer": TokenizerClass(
        "Unigram", {**BRACKETS, "bos": "[CLS]", "eos": "[SEP]"}, _deberta
    ),
}

# For a directory that does not name its class.
CLASS_OF_FAMILY = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "albert": "AlbertTokenizer",
    "nomic_bert": "BertTokenizer",
    "gte": "XLMRobertaTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
}

"""Read a model's tokenizer as one `tokenizer.json` that gives the ids that transformers gives.

What transformers would build from the files of a directory is written into the stored
`tokenizer.json`, so that nothing behind the loader has to know of the other files.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers, processors
from tokenizers.normalizers import Lowercase

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.json_file import Json, read_object, read_object_if_present
from pageformer.loader.tokenizer_classes import (
    CLASS_OF_FAMILY,
    CLASSES,
    SPECIAL_NAMES,
    Settings,
    rebuild,
)


def read_tokenizer(
    folder: Path,
    raw_config: Json,
    vocabulary: int,
    *,
    lowercase: bool,
    markers: Sequence[str] = (),
) -> bytes:
    """Return the `tokenizer.json` of a directory, checked against the rows of its word table.

    lowercase: put a step that lowercases before all others, unless there is one. markers: prompts
    whose first word is one token if the vocabulary has it. Raises InvalidCheckpoint when the file
    is missing, broken, or names an id past the table.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        raise _missing(path)
    content = read_object(path)
    values = read_object_if_present(folder / "tokenizer_config.json")
    _refuse_other_ways(content, values)
    tokenizer = _parse(path, content)
    name = _class_name(values, raw_config)
    if name in CLASSES:
        tokenizer = _rebuilt(path, content, name, _with_special_tokens_map(folder, values))
    if lowercase and not _lowercases(content.get("normalizer")):
        steps = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([Lowercase(), *steps])
    _add_markers(tokenizer, markers)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _check_ids(path, tokenizer, vocabulary)
    return tokenizer.to_str().encode()


def _add_markers(tokenizer: Tokenizer, markers: Sequence[str]) -> None:
    """Make the token special that a prompt is or begins with, so that no step splits it.

    As sentence-transformers does for models that were trained with the token's id inserted.
    """
    for marker in filter(str.strip, markers):
        candidates = (marker, marker.split()[0])
        known = next((t for t in candidates if tokenizer.token_to_id(t) is not None), None)
        if known and tokenizer.encode(known, add_special_tokens=False).tokens != [known]:
            tokenizer.add_special_tokens([AddedToken(known, normalized=False, special=True)])


def _class_name(values: Json, raw_config: Json) -> str:
    """Name the class that reads this tokenizer; others than ours take the file as it is."""
    named = values.get("tokenizer_class") or raw_config.get("tokenizer_class")
    return str(named or CLASS_OF_FAMILY.get(raw_config["model_type"], "")).removesuffix("Fast")


def _refuse_other_ways(content: Json, values: Json) -> None:
    truncation = content.get("truncation") or {}
    side = str(values.get("truncation_side") or truncation.get("direction", "right")).lower()
    if side != "right":
        raise InvalidCheckpoint(
            f"the tokenizer has truncation_side = {side!r}, expected 'right'",
            hint="Remove it, and give truncate => 'left' to encode.",
        )
    if values.get("split_special_tokens"):
        raise InvalidCheckpoint("the tokenizer has split_special_tokens = true, expected false")


def _lowercases(normalizer: Json | None) -> bool:
    steps = (normalizer or {}).get("normalizers", [normalizer] if normalizer else [])
    return any(step.get("type") == "Lowercase" for step in steps)


def _with_special_tokens_map(folder: Path, values: Json) -> Json:
    """Add the older file of special tokens, where `tokenizer_config.json` does not list them."""
    if "added_tokens_decoder" in values:
        return values
    return {**values, **read_object_if_present(folder / "special_tokens_map.json")}


def _rebuilt(path: Path, content: Json, name: str, values: Json) -> Tokenizer:
    """Build what the class builds, with the special tokens that the settings name."""
    defaults = CLASSES[name].special
    named = {key: values.get(f"{key}_token") or defaults.get(key) for key in SPECIAL_NAMES}
    settings = Settings(values, {key: _content(token) for key, token in named.items() if token})
    rebuilt = {**rebuild(name, content, settings), "post_processor": None}
    if "added_tokens_decoder" in values:
        listed = values["added_tokens_decoder"].items()
        rebuilt["added_tokens"] = [{**token, "id": int(number)} for number, token in listed]
    tokenizer = _parse(path, rebuilt)
    _add_special_tokens(tokenizer, settings, mask_takes_space=CLASSES[name].mask_takes_space)
    _add_extra_tokens(tokenizer, values, CLASSES[name].extra)
    _set_ends(path, tokenizer, settings, name)
    return tokenizer


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _add_special_tokens(
    tokenizer: Tokenizer, settings: Settings, *, mask_takes_space: bool
) -> None:
    """Make the special tokens special that the file does not list as such."""
    listed = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for key in SPECIAL_NAMES:
        content = settings.special.get(key)
        if content is not None and content not in listed:
            takes_space = key == "mask" and mask_takes_space
            tokenizer.add_special_tokens([AddedToken(content, lstrip=takes_space, special=True)])


def _add_extra_tokens(tokenizer: Tokenizer, values: Json, extra: Sequence[str]) -> None:
    """Make those words of the vocabulary special that the settings or the class name besides."""
    named = values.get("additional_special_tokens") or values.get("extra_special_tokens") or extra
    contents = [_content(token) for token in named] if not isinstance(named, dict) else []
    known = [token for token in contents if tokenizer.token_to_id(token) is not None]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in known])


def _set_ends(path: Path, tokenizer: Tokenizer, settings: Settings, name: str) -> None:
    """Put the class's special tokens before and behind a text."""
    doubled = CLASSES[name].ends == ("bos", "eos")
    named = settings.values.get("model_input_names")
    typed = "token_type_ids" in named if named else CLASSES[name].typed
    first, last = (settings.special[key] for key in CLASSES[name].ends)
    ends = [(token, _token_id(path, tokenizer, token)) for token in (first, last)]
    if name in ("RobertaTokenizer", "MPNetTokenizer"):
        prefix = name == "RobertaTokenizer" and bool(settings.flag("add_prefix_space", False))
        tokenizer.post_processor = processors.RobertaProcessing(ends[1], ends[0], True, prefix)
        return
    between, second = f"{last} {last}" if doubled else last, ":1" if typed and not doubled else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {between} $B{second} {last}{second}",
        special_tokens=ends,
    )


def _token_id(path: Path, tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    if number is None:
        raise InvalidCheckpoint(f"{path} has no token {token!r}, which begins or ends every text")
    return number


def _missing(path: Path) -> InvalidCheckpoint:
    folder = str(path.parent)
    line = (
        "from transformers import AutoTokenizer; "
        f"AutoTokenizer.from_pretrained({folder!r}).save_pretrained({folder!r})"
    )
    return InvalidCheckpoint(f"{path} is missing", hint=f'Make it: python -c "{line}"')


def _parse(path: Path, content: Json) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises plain Exception for whatever it cannot read
        raise InvalidCheckpoint(
            f"{path} is not a tokenizer that the tokenizers library reads: {error}",
            hint="Copy the model directory again, or save the tokenizer with transformers.",
        ) from error


def _check_ids(path: Path, tokenizer: Tokenizer, vocabulary: int) -> None:
    ids = tokenizer.get_vocab(with_added_tokens=True)
    beyond = sorted((number, token) for token, number in ids.items() if number >= vocabulary)
    if beyond:
        listed = ", ".join(f"{token!r} = {number}" for number, token in beyond[:5])
        raise InvalidCheckpoint(
            f"{path} has {len(beyond)} token ids beyond the {vocabulary} rows of the word "
            f"embeddings: {listed}",
            hint="Check that the tokenizer and the weights belong to the same model.",
        )

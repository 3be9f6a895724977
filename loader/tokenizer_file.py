"""Read a model's tokenizer as one `tokenizer.json` that gives the ids that transformers gives.

transformers 5.23 takes the vocabulary from `tokenizer.json` and, for the tokenizer classes of our
families, builds the rest anew from `tokenizer_config.json`; where the two files differ, the second
one wins. What it would build is written into the file here, so that nothing else has to know.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.json_file import Json, read_object


def read_tokenizer(folder: Path, raw_config: Json, vocabulary: int, *, lowercase: bool) -> bytes:
    """Return the `tokenizer.json` of a directory, checked against the rows of its word table.

    lowercase: put a step that lowercases before all others, unless there is one. Raises
    InvalidCheckpoint when the file is missing, broken, or names an id past the table.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        raise _missing(path)
    content = read_object(path)
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    _check_ids(path, _parse(path, data), vocabulary)
    return data


def _missing(path: Path) -> InvalidCheckpoint:
    folder = str(path.parent)
    line = (
        "from transformers import AutoTokenizer; "
        f"AutoTokenizer.from_pretrained({folder!r}).save_pretrained({folder!r})"
    )
    return InvalidCheckpoint(f"{path} is missing", hint=f'Make it: python -c "{line}"')


def _parse(path: Path, data: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(data)
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

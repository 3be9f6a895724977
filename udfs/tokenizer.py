"""Text to token ids, cut to a model's limit without tokenising what lies far beyond it.

Tokenising cannot be interrupted and takes about a second per megabyte, so a long text is read as a
growing prefix (or suffix) until the limit is reached, with the same ids as from the whole text.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tokenizers import Encoding
from tokenizers import Tokenizer as Library

from pageformer.errors import InvalidInput

# A first piece of text has this many characters per token that the limit allows.
CHARACTERS_PER_TOKEN = 12
PIECE = 65536  # characters tokenised at once when all tokens are wanted


class Tokens(NamedTuple):
    """Hold the ids of one text, special tokens included, and whether the text was cut."""

    ids: list[int]
    cut: bool


class Token(NamedTuple):
    """Hold one token and the characters of the text that it stands for, `[start, end)`."""

    id: int
    token: str
    start: int
    end: int


class Tokenizer:
    """Tokenise for one version: a `tokenizer.json`, and a limit in tokens."""

    def __init__(self, data: bytes, limit: int) -> None:
        self._library = Library.from_buffer(data)
        self._library.no_padding()
        self._library.no_truncation()
        self._limit = limit
        self._room = limit - self._library.num_special_tokens_to_add(False)
        added = self._library.get_added_tokens_decoder().values()
        self._margin = max((len(token.content) for token in added), default=0)

    @property
    def limit(self) -> int:
        """Return how many tokens the model takes, special ones included."""
        return self._limit

    def text_of(self, id: int) -> str:
        """Return the token that an id stands for."""
        return self._library.id_to_token(id) or ""

    def encode(self, text: str, truncate: str | None = "right") -> Tokens:
        """Tokenise `text`, cut at the limit on the side that `truncate` names.

        Raises InvalidInput when truncate is 'error' and the text is too long.
        """
        size = CHARACTERS_PER_TOKEN * self._limit
        while size < len(text):
            near = text[-size:] if truncate == "left" else text[:size]
            tokens = self.encode_end(near, truncate)
            if tokens is not None:
                return tokens
            size *= 8
        encoding = self._encode(text, truncate)
        if len(encoding) > self._room:
            return self._cut(encoding, truncate)
        return Tokens(self._library.post_process(encoding).ids, cut=False)

    def prompt_length(self, prompt: str) -> int:
        """Count the tokens of a prompt, without a special one behind it."""
        ids = self.encode(prompt).ids
        last = self._library.get_added_tokens_decoder().get(ids[-1]) if ids else None
        return len(ids) - (last is not None and last.special)

    def encode_end(self, text: str, truncate: str | None) -> Tokens | None:
        """Tokenise the near end of a longer text; None when it is too short to tell the ids."""
        encoding = self._encode(text, truncate)
        enough = self._sure(encoding, len(text), truncate == "left") >= self._room
        return self._cut(encoding, truncate) if enough else None

    def _encode(self, text: str, truncate: str | None) -> Encoding:
        if truncate not in ("right", "left", "error"):
            raise InvalidInput(
                f"truncate is 'right', 'left' or 'error', not {truncate or 'null'!r}",
                hint="'right' keeps the beginning of a text that is too long, 'left' its end",
            )
        return self._library.encode(text, add_special_tokens=False)

    def _cut(self, encoding: Encoding, truncate: str | None) -> Tokens:
        if truncate == "error":
            raise InvalidInput(
                f"the input has more than {self._limit} tokens, the most this model takes",
                hint="shorten it, or use truncate => 'right' or 'left'",
            )
        encoding.truncate(self._room, direction=truncate or "right")
        return Tokens(self._library.post_process(encoding).ids, cut=True)

    def _sure(self, encoding: Encoding, length: int, from_end: bool) -> int:
        """Count the tokens that stay as they are whatever text follows (or precedes).

        The word at the open end may go on, and the last characters may begin an added token.
        """
        words, offsets = encoding.word_ids, encoding.offsets
        order = range(len(words)) if from_end else range(len(words) - 1, -1, -1)
        edge: int | None = None
        unsure = 0
        for i in order:
            edge = words[i] if edge is None else edge
            start, end = offsets[i]
            inside = start >= self._margin if from_end else end <= length - self._margin
            if words[i] != edge and inside:
                break
            unsure += 1
        return len(words) - unsure

    def tokens(self, text: str) -> Iterator[list[Token]]:
        """Yield all tokens of `text`, special ones included, in pieces that end before a space."""
        whole = list(pieces(text))
        if len(whole) == 1:
            yield self._tokens(self._library.encode(text), 0)
            return
        first, last = self._specials()
        yield first
        start = 0
        for piece in whole:
            yield self._tokens(self._library.encode(piece, add_special_tokens=False), start)
            start += len(piece)
        yield [token._replace(start=start, end=start) for token in last]

    def _specials(self) -> tuple[list[Token], list[Token]]:
        """Return the special tokens before and behind a text."""
        encoding = self._library.encode("a")
        content = len(self._library.encode("a", add_special_tokens=False))
        lead = encoding.special_tokens_mask.index(0)
        tokens = [token._replace(start=0, end=0) for token in self._tokens(encoding, 0)]
        return tokens[:lead], tokens[lead + content :]

    def _tokens(self, encoding: Encoding, start: int) -> list[Token]:
        rows = zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)
        return [Token(id, token, start + a, start + b) for id, token, (a, b) in rows]


def pieces(text: str) -> Iterator[str]:
    """Cut a long text before spaces, where no tokenizer joins what stands on either side."""
    start = 0
    while len(text) - start > PIECE:
        space = text.find(" ", start + PIECE)
        while space > 0 and text[space - 1].isspace():
            space = text.find(" ", space + 1)
        if space < 0:
            break
        yield text[start:space]
        start = space
    yield text[start:]

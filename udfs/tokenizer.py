"""Text to token ids, cut to a model's limit without tokenising what lies far beyond it.

A long text is read as a growing prefix (or suffix) until the limit is reached, with the same ids as
from the whole text. What the library is given cannot be interrupted: where that is much, as a text
of one endless word, it is tokenised in a thread of its own.
"""

from collections.abc import Callable, Iterator
from copy import copy
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from pageformer.errors import InvalidInput, NotBuilt
from pageformer.udfs import threads

if TYPE_CHECKING:  # which plain texts do without
    from tokenizers import Encoding
    from tokenizers import Tokenizer as Library

# A text and a limit -> its ids and whether it was cut; None: not to be told without the library.
Plain = Callable[[str, int], tuple[list[int], bool] | None]

# A first piece of text has this many characters per token that the limit allows.
CHARACTERS_PER_TOKEN = 12
PIECE = 65536  # characters tokenised at once when all tokens are wanted
SHORT = 8192  # characters that are tokenised sooner than anybody waits for a cancel


class Tokens(NamedTuple):
    """Hold the ids of one text, special tokens included, and whether the text was cut."""

    ids: list[int]
    cut: bool
    types: list[int] | None = None  # of pairs: which of the two texts a token belongs to
    places: list[tuple[int, int] | None] | None = None  # in the text; None: a special token


class Token(NamedTuple):
    """Hold one token and the characters of the text that it stands for, `[start, end)`."""

    id: int
    token: str
    start: int
    end: int


class Tokenizer:
    """Tokenise for one version: a `tokenizer.json`, and a limit in tokens.

    read: reads the file's bytes when they are first needed. plain: knows the ids of plain texts
    without them. pulse: called now and then while a long text is tokenised; ends that by raising.
    """

    def __init__(
        self,
        read: Callable[[], bytes],
        limit: int,
        plain: Plain | None = None,
        pulse: Callable[[], None] = lambda: None,
    ) -> None:
        self._read = read
        self._limit = limit
        self._plain = plain
        self._pulse = pulse

    @cached_property
    def _library(self) -> "Library":
        with threads.kept_out():
            from tokenizers import Tokenizer as Library
        library = Library.from_buffer(self._read())
        library.no_padding()
        library.no_truncation()
        return library

    @cached_property
    def _margin(self) -> int:
        """The length of the longest added token."""
        added = self._library.get_added_tokens_decoder().values()
        return max((len(token.content) for token in added), default=0)

    @property
    def _room(self) -> int:
        return self._limit - self.specials

    def read(self) -> None:
        """Read the file now, since it cannot be read later on."""
        _ = self._library

    def within(self, limit: int) -> "Tokenizer":
        """Return the same tokenizer with another limit."""
        other = copy(self)
        other._limit = limit
        return other

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
        if tokens := self._encode_plain(text, truncate):
            return tokens
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

    def _encode_plain(self, text: str, truncate: str | None) -> Tokens | None:
        """Tokenise a plain text that is cut at its end or not at all."""
        if self._plain is None or truncate not in ("right", "left", "error"):
            return None
        found = self._plain(text, self._limit)
        tokens = Tokens(*found) if found else None
        if tokens and tokens.cut and truncate != "right":
            return None
        return tokens

    @cached_property
    def specials(self) -> int:
        """Return how many special tokens stand around a text."""
        return self._library.num_special_tokens_to_add(False)

    def count(self, text: str) -> int:
        """Count the tokens of a short text, special ones included."""
        return len(self._library.encode(text).ids)

    @property
    def mask(self) -> int:
        """Return the id of the token that stands for a missing word; raise NotBuilt without one."""
        for id, token in self._library.get_added_tokens_decoder().items():
            if token.content.strip("[]<>").lower() == "mask":
                return id
        raise NotBuilt(
            "this model's tokenizer has no mask token", hint="load a masked language model"
        )

    def encode_pair(self, first: str, second: str, truncate: str | None = "right") -> Tokens:
        """Tokenise two texts as one input, cutting the longer one first."""
        pair = [self._near(text, truncate) for text in (first, second)]
        room = self._limit - self._library.num_special_tokens_to_add(True)
        kept = longest_first(len(pair[0]), len(pair[1]), room)
        cut = (len(pair[0]), len(pair[1])) != kept
        if cut and truncate == "error":
            raise self._too_long()
        for encoding, length in zip(pair, kept, strict=True):
            encoding.truncate(length, direction=truncate or "right")
        joined = self._library.post_process(pair[0], pair[1])
        return Tokens(joined.ids, cut, joined.type_ids)

    def encode_placed(self, text: str, truncate: str | None = "right") -> Tokens:
        """Tokenise a text, telling where each token stands in it."""
        encoding = self._near(text, truncate)
        cut = len(encoding) > self._room
        if cut and truncate == "error":
            raise self._too_long()
        if cut:
            encoding.truncate(self._room, direction=truncate or "right")
        joined = self._library.post_process(encoding)
        offsets = iter(encoding.offsets)  # those of `joined` are trimmed once more
        places = [None if text is None else next(offsets) for text in joined.sequence_ids]
        return Tokens(joined.ids, cut, None, places)

    def _near(self, text: str, truncate: str | None) -> "Encoding":
        """Tokenise as much of a text as can matter: a beginning that exceeds the limit, or all."""
        size = CHARACTERS_PER_TOKEN * self._limit
        while size < len(text) and truncate != "left":
            encoding = self._encode(text[:size], truncate)
            if self._sure(encoding, size, False) > self._limit:
                return encoding
            size *= 8
        return self._encode(text, truncate)

    def _too_long(self) -> InvalidInput:
        return InvalidInput(
            f"the input has more than {self._limit} tokens, the most this model takes",
            hint="shorten it, or use truncate => 'right' or 'left'",
        )

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

    def _encode(self, text: str, truncate: str | None) -> "Encoding":
        if truncate not in ("right", "left", "error"):
            raise InvalidInput(
                f"truncate is 'right', 'left' or 'error', not {truncate or 'null'!r}",
                hint="'right' keeps the beginning of a text that is too long, 'left' its end",
            )
        return self._tokenise(text, False)

    def _tokenise(self, text: str, specials: bool) -> "Encoding":
        library = self._library
        if len(text) < SHORT:
            return library.encode(text, add_special_tokens=specials)
        # Of the library's ways to tokens, a batch alone lets other threads of Python run.
        batch = partial(library.encode_batch, [text], add_special_tokens=specials)
        return threads.aside(batch, self._pulse)[0]

    def _cut(self, encoding: "Encoding", truncate: str | None) -> Tokens:
        if truncate == "error":
            raise self._too_long()
        encoding.truncate(self._room, direction=truncate or "right")
        return Tokens(self._library.post_process(encoding).ids, cut=True)

    def _sure(self, encoding: "Encoding", length: int, from_end: bool) -> int:
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
            yield self._tokens(self._tokenise(text, True), 0)
            return
        first, last = self._specials()
        yield first
        start = 0
        for piece in whole:
            yield self._tokens(self._tokenise(piece, False), start)
            start += len(piece)
        yield [token._replace(start=start, end=start) for token in last]

    def _specials(self) -> tuple[list[Token], list[Token]]:
        """Return the special tokens before and behind a text."""
        encoding = self._library.encode("a")
        content = len(self._library.encode("a", add_special_tokens=False))
        lead = encoding.special_tokens_mask.index(0)
        tokens = [token._replace(start=0, end=0) for token in self._tokens(encoding, 0)]
        return tokens[:lead], tokens[lead + content :]

    def _tokens(self, encoding: "Encoding", start: int) -> list[Token]:
        rows = zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)
        return [Token(id, token, start + a, start + b) for id, token, (a, b) in rows]


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Tell how many tokens are left of either text, as the tokenizers library cuts pairs."""
    if first + second <= room:
        return first, second
    short = min(first, second)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (short, long) if first <= second else (long, short)


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

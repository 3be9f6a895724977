"""Answers that were given before, for those who ask the same again; off unless it has bytes."""

import hashlib
from collections import OrderedDict

from pageformer.udfs.executors.wire import Asked, write_asked

OVERHEAD = 200  # bytes that an entry takes beside its texts


class ResponseCache:
    """Keep answers by what was asked: version, task, options and ids; the least used go first."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[bytes, list[str]] = OrderedDict()
        self.bytes = 0

    @property
    def on(self) -> bool:
        """Tell whether anything is kept."""
        return self._most > 0

    def key(self, asked: Asked) -> bytes | None:
        """Name a question by its content; None: nothing is kept."""
        if not self.on:
            return None
        return hashlib.blake2b(write_asked(asked), digest_size=32).digest()

    def get(self, key: bytes | None) -> list[str] | None:
        """Return the answer to a question, if it is kept."""
        if key is None or key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, key: bytes | None, texts: list[str]) -> None:
        """Keep an answer."""
        if key is None or key in self._kept:
            return
        self._kept[key] = texts
        self.bytes += size(texts)
        while self.bytes > self._most:
            self.bytes -= size(self._kept.popitem(last=False)[1])


def size(texts: list[str]) -> int:
    """Count the bytes that an entry takes."""
    return OVERHEAD + sum(map(len, texts))

"""Memory for the arrays of a pass, lent again and again.

Fresh memory comes from the system page by page, zeroed: a tenth of the time of a batch of tasks. A
layer's arrays are as large as those of the layer before it, which nobody needs any more.
"""

from math import prod
from typing import Any
from weakref import ref

import numpy as np

from pageformer.udfs.blocks import Array

ALIGNMENT = 64  # bytes: a line of the cache
CROWD, PAD = 1024, 32  # floats: rows so far apart, or twice as far, crowd one set of the cache
SIZES = 16  # that are kept at most: more come together only where somebody holds on to an array


class Rooms:
    """Lend room for arrays; keep what comes back while any other is still in use.

    So nothing is kept behind the end of a pass. What changes here changes in one step of the
    interpreter each, so that threads may share it.
    """

    def __init__(self) -> None:
        self._lent: dict[int, tuple[ref[Any], Array]] = {}
        self._free: dict[int, list[Array]] = {}

    def empty(self, shape: tuple[int, ...]) -> Array:
        """Return an array of float32 with any content."""
        size = prod(shape)
        try:
            room = self._free[size].pop()
        except LookupError:
            room = aligned(size)
        # A view holds the last array above it whose base is no array: by `data`, this one.
        array: Array = np.frombuffer(room.data, np.float32)
        watched = ref(array, self._returned)
        self._lent[id(watched)] = watched, room
        return array.reshape(shape)

    def rows(self, count: int, width: int) -> Array:
        """Return rows for a product to read, which do not crowd the cache.  # [count, width]"""
        return self.empty((count, width + (0 if width % CROWD else PAD)))[:, :width]

    def _returned(self, watched: "ref[Any]") -> None:
        _, room = self._lent.pop(id(watched))
        if not self._lent or len(self._free) > SIZES:
            self._free.clear()
        else:
            self._free.setdefault(room.size, []).append(room)


def aligned(size: int) -> Array:
    """Make room for so many floats, from the beginning of a line of the cache on."""
    room = np.empty(size + ALIGNMENT // 4, np.float32)
    first = -room.ctypes.data % ALIGNMENT // 4
    return room[first : first + size]

"""Find, for each new block of a version, the stored block that is most like it.

The database is searched whole, by signatures, whatever model a block belongs to. Blocks that moved
too far for that are compared with the block in their place in the version that is most alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from psycopg import RawCursor

from pageformer.dedup.lsh import BANDS, candidates, nearest, signatures
from pageformer.udfs import named_queries
from pageformer.udfs.blocks import Array, widen

QUERIES = named_queries.read("pageformer.loader", "sharing.sql")
BAND_BYTES = 4 * BANDS
AT_ONCE = 256  # blocks in memory beside the new ones
Place = tuple[str, int, int]  # tensor, block row, block column


class Similar(NamedTuple):
    """Name a stored block that is like a new one; distance in parts of the new one's length."""

    name: bytes
    block: Array  # [side, side]
    distance: float


class Search:
    """Search the stored blocks of one side, inside the caller's transaction."""

    def __init__(self, cursor: RawCursor[tuple[Any, ...]], side: int) -> None:
        self._cursor = cursor
        self._side = side

    def nearest(
        self, blocks: Mapping[bytes, Array], places: Mapping[bytes, Place]
    ) -> dict[bytes, Similar]:
        """Return, by name, what is most like each block that resembles a stored one at all."""
        self._sign()
        names = list(blocks)
        stored_names, stored = self._signatures()
        if not names or not stored_names:
            return {}
        wanted = np.concatenate(
            [signatures(np.stack([blocks[n] for n in part])) for part in _parts(names)]
        )
        found = {
            name: [stored_names[i] for i in near]
            for name, near in zip(names, candidates(wanted, stored), strict=True)
        }
        self._add_relatives(found, places, set(stored_names))
        best: dict[bytes, Similar] = {}
        for part in _parts([name for name in names if found[name]]):
            arrays = self._blocks({candidate for name in part for candidate in found[name]})
            for name in part:
                near = [candidate for candidate in found[name] if candidate in arrays]
                number, distance = nearest(blocks[name], [arrays[n] for n in near])
                best[name] = Similar(near[number], arrays[near[number]], distance)
        return best

    def _sign(self) -> None:
        """Make the signatures that are missing."""
        query = QUERIES["pages_without_signature"]
        with self._cursor.connection.cursor("unsigned", binary=True) as pages:
            pages.itersize = 8
            pages.execute(query.replace("$1", "%s").encode(), [self._side])
            unsigned = [
                (
                    page,
                    signatures(widen(data, form).reshape(-1, side, side)).astype("<i4").tobytes(),
                )
                for page, form, side, data in pages
            ]
        for page, bands in unsigned:
            self._cursor.execute(QUERIES["insert_signature"], [page, bands])

    def _signatures(self) -> tuple[list[bytes], Any]:
        rows = self._cursor.execute(
            QUERIES["signatures"], [self._side, BAND_BYTES], binary=True
        ).fetchall()
        bands = np.frombuffer(b"".join(row[1] for row in rows), "<i4").reshape(-1, BANDS)
        return [row[0] for row in rows], bands

    def _add_relatives(
        self, found: dict[bytes, list[bytes]], places: Mapping[bytes, Place], stored: set[bytes]
    ) -> None:
        """Let blocks that found nothing try the block in their place in the nearest version."""
        every = list({candidate for near in found.values() for candidate in near})
        row = self._cursor.execute(QUERIES["relatives"], [every, self._side]).fetchone()
        if row is None:
            return
        self._cursor.execute(QUERIES["grids"], [row[0]], binary=True)
        grids = dict(self._cursor.fetchall())
        for name, near in found.items():
            tensor, i, j = places[name]
            grid = grids.get(tensor, [])
            if not near and i < len(grid) and j < len(grid[i]) and grid[i][j] in stored:
                near.append(grid[i][j])

    def _blocks(self, names: set[bytes]) -> dict[bytes, Array]:
        self._cursor.execute(QUERIES["blocks"], [list(names)], binary=True)
        return {
            name: widen(data, form).reshape(self._side, self._side)
            for name, form, data in self._cursor
        }


def _parts(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE))

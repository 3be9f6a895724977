"""The matrices of a version in its pages: all of them at once, or opened when they are wanted.

A version that is larger than the page cache is streamed: the matrices of a layer are opened
together and forgotten with the layer, those of a table a row of blocks at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pageformer.udfs.blocks import Array, BlockMatrix
from pageformer.udfs.layout import BUNDLE, Layout, TensorRow
from pageformer.udfs.operators import Operators

Matrices = Mapping[str, BlockMatrix]


def matrices(layout: Layout, operators: Operators) -> Matrices:
    """View the matrices of a version by name, in its pages or as they are borrowed."""
    return viewed(layout, operators) if layout.borrow is None else Streamed(layout, operators)


def opened(found: Matrices, prefix: str) -> Matrices:
    """Open those matrices together whose names begin so."""
    return found.opened(prefix) if isinstance(found, Streamed) else found


def extended(found: Matrices, more: Matrices) -> Matrices:
    """Add matrices that lie elsewhere, in place of those of the same name."""
    if isinstance(found, Streamed):
        return Streamed(found.layout, found.operators, more)
    return {**found, **more}


class Streamed(Mapping[str, BlockMatrix]):
    """Open matrices when they are asked for; they stay open as long as somebody has them."""

    def __init__(
        self, layout: Layout, operators: Operators, more: Matrices = MappingProxyType({})
    ) -> None:
        self.layout = layout
        self.operators = operators
        self._more = more
        self._rows = {row.name: row for row in layout.rows if row.grid is not None}

    def __getitem__(self, name: str) -> BlockMatrix:
        if name in self._more:
            return self._more[name]
        row = self._rows[name]
        if name.endswith(".weight") or name == BUNDLE:
            return self._view([row])[name]
        return BlockMatrix(
            BlockRows(self.layout, self.operators, row),
            row.shape[0],
            row.shape[1],
            self.layout.side,
        )

    def __iter__(self) -> Iterator[str]:
        return iter({**self._rows, **self._more})

    def __len__(self) -> int:
        return len({**self._rows, **self._more})

    def opened(self, prefix: str) -> Matrices:
        """Open those matrices together whose names begin so, each page once."""
        return self._view([row for name, row in self._rows.items() if name.startswith(prefix)])

    def _view(self, rows: Sequence[TensorRow]) -> Matrices:
        blocks = (name for row in rows for names in row.grid or () for name in names)
        return viewed(borrowed(self.layout._replace(rows=rows), blocks), self.operators)


class BlockRows(Sequence[Sequence[Any]]):
    """Open the blocks of a table row by row, keeping the pages of the last one."""

    def __init__(self, layout: Layout, operators: Operators, row: TensorRow) -> None:
        self._layout = layout
        self._operators = operators
        self._grid = row.grid or ()

    def __len__(self) -> int:
        return len(self._grid)

    def __getitem__(self, index: Any) -> Any:
        names = self._grid[index]
        self._layout = borrowed(self._layout, names)
        return tuple(map(tiles(self._layout, self._operators), names))


def borrowed(layout: Layout, blocks: Iterable[bytes]) -> Layout:
    """Borrow the pages of these blocks, but for those that are there already."""
    wanted = {layout.places[name].page for name in blocks}
    kept = {page: view for page, view in layout.pages.items() if page in wanted}
    more = layout.borrow(wanted - kept.keys()) if layout.borrow else {}
    return layout._replace(pages={**kept, **more})


def viewed(layout: Layout, operators: Operators) -> dict[str, BlockMatrix]:
    """View the matrices of a layout in its pages."""
    tile = tiles(layout, operators)
    return {
        row.name: BlockMatrix(
            tuple(tuple(map(tile, names)) for names in row.grid),
            row.shape[0],
            row.shape[1],
            layout.side,
        )
        for row in layout.rows
        if row.grid is not None
    }


def tiles(layout: Layout, operators: Operators) -> Callable[[bytes], Array]:
    """Return what views a block, by its name, in the pages of a layout."""
    arrays = {page: operators.page_array(view, page) for page, view in layout.pages.items()}

    def tile(name: bytes) -> Array:
        page, start, elements = layout.places[name]
        return arrays[page][start : start + elements].reshape(-1, layout.side)

    return tile

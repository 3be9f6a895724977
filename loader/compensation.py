"""Which tensors of a version can make up for what quantising misses, and where their blocks lie."""

from collections import defaultdict
from collections.abc import Mapping

from pageformer.dedup.compensate import Cell, compensate, influence
from pageformer.dedup.widths import Choice
from pageformer.loader.draft import Draft
from pageformer.loader.similar import Similar
from pageformer.udfs.blocks import Array


class Compensation:
    """Choose codes of linear maps anew, tensor by tensor; tables and shared blocks stay."""

    def __init__(
        self,
        draft: Draft,
        blocks: Mapping[bytes, Array],
        similar: Mapping[bytes, Similar],
        grams: Mapping[str, Array],
    ) -> None:
        self._influence = {name: influence(gram) for name, gram in grams.items()}
        self._cells: dict[str, dict[Cell, bytes]] = defaultdict(dict)
        self._differences: dict[str, dict[Cell, Array]] = defaultdict(dict)
        for name, found in similar.items():
            places = draft.places[name]
            tensor, i, j = places[0]
            if len(places) == 1 and tensor in grams:
                self._cells[tensor][i, j] = name
                self._differences[tensor][i, j] = blocks[name] - found.block

    def of(self, chosen: Mapping[bytes, Choice]) -> dict[bytes, Choice]:
        """Return the same choices with codes that make up for each other."""
        made = dict(chosen)
        for tensor, cells in self._cells.items():
            here = {cell: chosen[name] for cell, name in cells.items() if name in chosen}
            if not any(choice.delta for choice in here.values()):
                continue
            again = compensate(self._differences[tensor], here, self._influence[tensor])
            made.update({cells[cell]: choice for cell, choice in again.items()})
        return made

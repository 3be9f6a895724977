"""DeBERTa's attention where tasks change what makes keys and queries of distances.

These are a layer's own maps of one table of embeddings, so each run of sequences that a task edits
has its own.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, pairwise

from pageformer.udfs.blocks import Array
from pageformer.udfs.distances import TABLE, relative_positions
from pageformer.udfs.model import Layer, Linear, Model
from pageformer.udfs.tasks.edits import EVERY_ROW, Term


def attend_to_distances(
    model: Model, layer: Layer, qkv: tuple[Array, Array, Array], offsets: Sequence[int]
) -> Array:
    """Compute attention to content and distances as tasks have them.  # 3 x [n, w] -> [n, w]"""
    operators = model.operators
    mixed: Array = operators.xp.empty_like(qkv[0])
    for first, last in pairwise(cuts(model, layer, offsets)):
        start, stop = offsets[first], offsets[last]
        own = [at - start for at in offsets[first : last + 1]]
        relative = relative_positions(*edited_at(model, layer, start), own)
        q, k, v = (x[start:stop] for x in qkv)
        mixed[start:stop] = operators.disentangled_attention(
            q, k, v, own, model.config.heads, relative
        )
    return mixed


def cuts(model: Model, layer: Layer, offsets: Sequence[int]) -> list[int]:
    """Tell at which sequences runs begin whose distances a task edits, and the end."""
    terms = chain(
        layer.key.terms, layer.query.terms, *map(model.terms_at, (TABLE, f"{TABLE}.norm"))
    )
    edges = chain.from_iterable((term.start, term.stop) for term in terms)
    return sorted({0, len(offsets) - 1, *(bisect_left(offsets, edge) for edge in edges)})


def edited_at(model: Model, layer: Layer, row: int) -> tuple[Model, Layer]:
    """Return a version and its layer as they make distances for the task of a row."""

    def over(terms: Sequence[Term]) -> list[Term]:
        return [Term(0, EVERY_ROW, t.edits) for t in terms if t.start <= row < t.stop]

    def own(map: Linear) -> Linear:
        return replace(map, terms=over(map.terms))

    tables = {site: over(model.terms_at(site)) for site in (TABLE, f"{TABLE}.norm")}
    return replace(model, terms=tables), replace(layer, key=own(layer.key), query=own(layer.query))

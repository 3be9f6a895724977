"""Operators that tell rows of blocks how far they are from other rows of their sequence.

The rows of a block of scores stand for positions of a sequence from `first_row` on, its columns
from `first_col` on; what depends on the distance between two positions is made for one such block.
"""

from pageformer.udfs import threads

with threads.kept_out():
    import numpy as np

    from pageformer.errors import InvalidInput
    from pageformer.udfs import distances
    from pageformer.udfs.blocks import Array
    from pageformer.udfs.distances import Ids
    from pageformer.udfs.relations.block_values import over_blocks


def apart(rows: int, first_row: int, cols: int, first_col: int) -> Ids:
    """Return how far each column's position is behind each row's: j - i.  # [rows, cols]"""
    distance: Ids = np.arange(first_col, first_col + cols) - np.arange(
        first_row, first_row + rows
    ).reshape(-1, 1)
    return distance


@over_blocks
def alibi(rows: int, first_row: int, cols: int, first_col: int, slope: float) -> Array:
    """Return a bias that falls with distance (Press et al. 2022).  # [rows, cols]"""
    return -np.float32(slope) * np.abs(apart(rows, first_row, cols, first_col)).astype(np.float32)


@over_blocks
def near(rows: int, first_row: int, cols: int, first_col: int, window: int) -> Array:
    """Return 1 where two positions are inside one window, else 0.  # [rows, cols]"""
    far = np.abs(apart(rows, first_row, cols, first_col)) > window // 2
    return np.where(far, np.float32(0), np.float32(1))


@over_blocks
def relative_bias(
    table: Array, head: int, rows: int, first_row: int, cols: int, first_col: int
) -> Array:
    """Return MPNet's bias of a head, counted from 1.  # [buckets, heads] -> [rows, cols]"""
    if not 1 <= head <= table.shape[1]:
        raise InvalidInput(
            f"there is no head {head} in a table {list(table.shape)}", hint="count heads from 1"
        )
    distance = apart(rows, first_row, cols, first_col)
    return table[distances.relative_buckets(distance, table.shape[0]), head - 1]  # type: ignore[no-any-return]


@over_blocks
def rotate(x: Array, first: int, theta: float, divisor: float) -> Array:
    """Rotate the halves of each row by its position (Su et al. 2021).  # [n, d] -> [n, d]

    Raises InvalidInput when the width is odd.
    """
    if x.shape[1] % 2:
        raise InvalidInput(f"a block {list(x.shape)} has no halves", hint="rotate one head's block")
    half = x.shape[1] // 2
    tables = distances.rotary_tables(x.shape[1], theta, divisor, first + x.shape[0])
    cosine, sine = (table[first:] for table in tables)
    return x * cosine + np.concatenate((-x[:, half:], x[:, :half]), axis=1) * sine


@over_blocks
def to_positions(
    x: Array, first_row: int, cols: int, first_col: int, span: int, reach: int
) -> Array:
    """Choose for rows i and columns j what row i gave to their distance.

    x: products of DeBERTa's queries and keys of distances (He et al. 2021, section 3.1).
    # [n, 2 span] -> [n, m]
    """
    chosen = distance_row(apart(len(x), first_row, cols, first_col), span, reach)
    return np.take_along_axis(fitting(x, span), chosen, axis=1)


@over_blocks
def from_positions(
    x: Array, first_col: int, rows: int, first_row: int, span: int, reach: int
) -> Array:
    """Choose for rows i and columns j what column j gave to their distance.

    x: products of DeBERTa's keys and queries of distances.  # [m, 2 span] -> [n, m]
    """
    chosen = distance_row(apart(rows, first_row, len(x), first_col), span, reach)
    return np.take_along_axis(fitting(x, span), chosen.T, axis=1).T


def distance_row(distance: Ids, span: int, reach: int) -> Ids:
    """Number the row of the relative embeddings that stands for each distance j - i."""
    row: Ids = np.clip(distances.logarithmic(-distance, span, reach) + span, 0, 2 * span - 1)
    return row


def fitting(x: Array, span: int) -> Array:
    """Return x; raise InvalidInput unless it has a column for each row of the embeddings."""
    if x.shape[1] != 2 * span:
        raise InvalidInput(
            f"a block {list(x.shape)} does not have {2 * span} columns", hint="one per distance"
        )
    return x

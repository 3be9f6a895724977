"""Operators over the rows of blocks, and the partial results of rows that lie in several blocks.

A softmax or a layer norm needs a whole row. Where its parts lie in several blocks, each part tells
what it knows (a maximum, a sum, moments), an aggregate merges that, and a second pass over the
blocks uses what all of them said.
"""

from pageformer.udfs import threads

with threads.kept_out():
    import numpy as np

    from pageformer.errors import InvalidInput
    from pageformer.udfs.blocks import Array
    from pageformer.udfs.operators import POOLING, Operators
    from pageformer.udfs.relations.block_values import (
        mismatch,
        one_per_column,
        one_per_row,
        over_blocks,
        same_shape,
    )
    from pageformer.udfs.tasks.edits import Norm

OPERATORS = Operators()
MOMENTS = 3  # count, mean, sum of squared distances from the mean


@over_blocks
def row_max(x: Array) -> Array:
    """Return the largest element of each row.  # [n, m] -> [n, 1]"""
    return x.max(axis=1, keepdims=True)  # type: ignore[no-any-return]


@over_blocks
def maximum(a: Array, b: Array) -> Array:
    """Return the larger of each two elements.  # 2 x [n, m] -> [n, m]"""
    same_shape("maximum", a, b)
    return np.maximum(a, b)


@over_blocks
def exp_sum(x: Array, row_max: Array) -> Array:
    """Add up exp(x - row_max) in each row.  # [n, m], [n, 1] -> [n, 1]"""
    one_per_row("exp_sum", x, row_max)
    return np.exp(x - row_max).sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


@over_blocks
def softmax_part(x: Array, row_max: Array, exp_sum: Array) -> Array:
    """Compute this block's part of a softmax.  # [n, m], 2 x [n, 1] -> [n, m]"""
    one_per_row("softmax_part", x, row_max)
    one_per_row("softmax_part", x, exp_sum)
    return np.exp(x - row_max) / exp_sum  # type: ignore[no-any-return]


@over_blocks
def softmax(x: Array) -> Array:
    """Normalise the exponentials of each row.  # [n, m] -> [n, m]"""
    return OPERATORS.softmax(x.astype(np.float32, copy=True))


@over_blocks
def row_moments(x: Array) -> Array:
    """Return what a layer norm must know of each row's part.  # [n, m] -> [n, 3]"""
    mean = x.mean(axis=1)
    squares = np.square(x - mean[:, None]).sum(axis=1)
    return np.stack((np.full_like(mean, x.shape[1]), mean, squares), axis=1)


@over_blocks
def merge_moments(a: Array, b: Array) -> Array:
    """Merge the moments of two parts (Chan et al. 1979, equation 2.1).  # 2 x [n, 3] -> [n, 3]"""
    same_shape("merge_moments", a, b)
    if a.shape[1] != MOMENTS:
        raise mismatch("merge_moments", a, b)
    (n, mean, squares), (m, other_mean, other_squares) = a.T, b.T
    apart, count = other_mean - mean, n + m
    merged = squares + other_squares + apart * apart * (n * m / count)
    return np.stack((count, mean + apart * (m / count), merged), axis=1)


@over_blocks
def layer_norm_part(
    x: Array | None, moments: Array | None, weight: Array | None, bias: Array | None, eps: float
) -> Array | None:
    """Normalise this block's part of each row.  # [n, m], [n, 3], 2 x [1, m] -> [n, m]

    bias: None where there is none.
    """
    if x is None or moments is None or weight is None:
        return None
    one_per_column("layer_norm_part", x, weight)
    if moments.shape != (x.shape[0], MOMENTS):
        raise mismatch("layer_norm_part", x, moments)
    count, mean, squares = (column[:, None] for column in moments.T)
    normed = (x - mean) / np.sqrt(squares / count + np.float32(eps)) * weight
    if bias is None:
        return normed  # type: ignore[no-any-return]
    one_per_column("layer_norm_part", x, bias)
    return normed + bias  # type: ignore[no-any-return]


@over_blocks
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Normalise each row; weight and bias are blocks of one row.  # [n, m] -> [n, m]"""
    one_per_column("layer_norm", x, weight)
    one_per_column("layer_norm", x, bias)
    return OPERATORS.layer_norm(x, Norm(weight[0], bias[0], eps))


@over_blocks
def square_sum(x: Array) -> Array:
    """Add up the squares of each row.  # [n, m] -> [n, 1]"""
    return (x * x).sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


@over_blocks
def normalize_part(x: Array, square_sum: Array) -> Array:
    """Scale this block's part of each row to length 1; zero stays zero.  # [n, m] -> [n, m]"""
    one_per_row("normalize_part", x, square_sum)
    return np.divide(x, np.maximum(np.sqrt(square_sum), np.float32(1e-12)), dtype=np.float32)


@over_blocks
def pool(x: Array, mode: str, skip: int) -> Array:
    """Make one row of all, or of those behind `skip`.  # [n, m] -> [1, m]

    mode: one of sentence-transformers' Pooling.
    """
    if mode not in POOLING:
        raise InvalidInput(f'"{mode}" is no mode of pooling', hint=f"modes: {', '.join(POOLING)}")
    return OPERATORS.pool(x, (0, x.shape[0]), mode, skip)

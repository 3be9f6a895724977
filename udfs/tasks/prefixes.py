"""Attention to the further keys and values of prefix tuning (Li and Liang 2021)."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from pageformer.errors import NotBuilt
from pageformer.udfs.blocks import Array
from pageformer.udfs.distances import Distances
from pageformer.udfs.operators import Operators
from pageformer.udfs.tasks.edits import Term


def attend_with_prefixes(
    operators: Operators,
    qkv: tuple[Array, Array, Array],
    offsets: Sequence[int],
    heads: int,
    where: Distances,
    prefixes: Sequence[Term],
) -> Array:
    """Compute attention with prefixes as rows in front of their sequences.  # 3 x [n, w] -> [n, w]

    A prefix asks nothing itself: its rows of the answer are left out.
    """
    if where != Distances():
        raise NotBuilt("this family of models takes no prefixes", hint="leave out the option task")
    ahead = np.zeros(len(offsets) - 1, np.intp)  # rows in front of each sequence
    for start, stop, (keys, _) in prefixes:
        ahead[bisect_left(offsets, start) : bisect_left(offsets, stop)] = len(keys)
    longer = np.asarray(offsets) + np.cumsum([0, *ahead])
    own = np.arange(len(qkv[0])) + np.repeat(np.cumsum(ahead), np.diff(offsets))
    q, k, v = (operators.xp.zeros((longer[-1], x.shape[1]), np.float32) for x in qkv)
    for wide, x in zip((q, k, v), qkv, strict=True):
        wide[own] = x
    for start, stop, (keys, values) in prefixes:
        for first in longer[bisect_left(offsets, start) : bisect_left(offsets, stop)]:
            k[first : first + len(keys)] = keys
            v[first : first + len(keys)] = values
    mixed: Array = operators.attention(q, k, v, longer.tolist(), heads)
    return mixed[own]

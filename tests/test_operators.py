"""Every operator of every backend against its formula in float64, over random shapes."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from backends_present import cpu_variant, reason_missing
from emulated_device import emulated
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf
from separate_memory import SeparateOperators

from pageformer.errors import NotBuilt, ServerUnready
from pageformer.udfs.attention import Rotary
from pageformer.udfs.backends import BACKENDS, choose
from pageformer.udfs.blocks import BlockMatrix
from pageformer.udfs.operators import Operators
from pageformer.udfs.tasks.edits import Norm

EPS = 1e-5
SIDES = st.sampled_from([32, 64, 128])
WIDTHS = st.integers(1, 150)
ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=6)
over_random_shapes = settings(deadline=None, max_examples=60)


VARIANTS = ("cpu avx512_bf16", "cpu avx512", "cpu avx2", "cpu portable")


@pytest.fixture(
    scope="session", params=[*BACKENDS, *VARIANTS, "separate memory", "emulated device"]
)
def backend(request: pytest.FixtureRequest) -> Operators:
    """One backend after the other; arrays go in by `array` and come out by `to_host`."""
    if request.param == "separate memory":
        return SeparateOperators()
    if request.param == "emulated device":
        return emulated()
    if request.param in VARIANTS:
        return cpu_variant(request.param.removeprefix("cpu "))
    if reason := reason_missing(request.param):
        pytest.skip(reason)
    return choose(request.param)


class Numbers:
    """Draw arrays, given to the backend in float32 and to the formula in float64."""

    def __init__(self, backend: Operators, seed: int, scale: float) -> None:
        self.backend = backend
        self.random = np.random.default_rng(seed)
        self.scale = scale

    def array(self, *shape: int) -> tuple[Any, Any]:
        drawn = (self.random.standard_normal(shape) * self.scale).astype(np.float32)
        return self.backend.array(drawn.copy()), drawn.astype(np.float64)

    def matrix(self, rows: int, cols: int, side: int) -> tuple[BlockMatrix, Any]:
        drawn = (self.random.standard_normal((rows, cols)) * self.scale).astype(np.float32)
        cut = BlockMatrix.from_array(drawn, side)
        grid = tuple(tuple(map(self.backend.array, row)) for row in cut.grid)
        return BlockMatrix(grid, rows, cols, side), drawn.astype(np.float64)

    def norm(self, width: int) -> tuple[Norm, "Norm64"]:
        weight, bias = self.array(width), self.array(width)
        return Norm(weight[0], bias[0], EPS), Norm64(weight[1], bias[1])


numbers = st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 1.0, 3.0]))


def assert_close(backend: Operators, got: Any, expected: Any, size: float = 1.0) -> None:
    """Compare within float32's precision; size: the largest number on the way to the result."""
    fetched = backend.to_host(got)
    assert fetched.dtype == np.float32
    assert fetched.shape == expected.shape
    reach = max(size, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(fetched, expected, rtol=2e-5, atol=4e-6 * reach)


# -- the formulas ---------------------------------------------------------------------------------


class Norm64(NamedTuple):
    weight: Any
    bias: Any


def layer_norm(x: Any, norm: Norm64) -> Any:
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt(x.var(axis=1, keepdims=True) + EPS) * norm.weight + norm.bias


def activate(x: Any, activation: str) -> Any:
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "gelu":
        return x * (1 + erf(x / math.sqrt(2))) / 2
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=-1, keepdims=True)


def rotate(x: Any, cosine: Any, sine: Any) -> Any:
    """Turn (x1, x2), the halves of a head, by the angle of each position.  # [length, d]"""
    first, second = np.split(x, 2, axis=1)
    return x * cosine[: len(x)] + np.hstack((-second, first)) * sine[: len(x)]


def attend(q: Any, k: Any, v: Any, bias: Any, window: int | None, rotary: Any) -> Any:
    """Attend in one sequence with one head.  # 3 x [length, d] -> [length, d]"""
    if rotary is not None:
        q, k = rotate(q, *rotary), rotate(k, *rotary)
    distance = np.arange(len(q))[None, :] - np.arange(len(q))[:, None]
    scores = q @ k.T / math.sqrt(q.shape[1])
    if bias is not None:
        scores = scores + bias[distance + len(bias) // 2]
    if window is not None:
        scores = np.where(np.abs(distance) <= window // 2, scores, -np.inf)
    return softmax(scores) @ v


def spans(lengths: list[int]) -> tuple[list[int], Iterator[slice]]:
    offsets = [0, *itertools.accumulate(lengths)]
    return offsets, itertools.starmap(slice, itertools.pairwise(offsets))


# -- products -------------------------------------------------------------------------------------


@given(numbers, st.integers(0, 70), WIDTHS, WIDTHS, SIDES)
@over_random_shapes
def test_matmul(
    backend: Operators, drawn: tuple[int, float], n: int, k: int, m: int, side: int
) -> None:
    draw = Numbers(backend, *drawn)
    (x, x64), (w, w64) = draw.array(n, k), draw.matrix(k, m, side)
    assert_close(backend, backend.matmul(x, w), x64 @ w64, math.sqrt(k) * draw.scale**2)


@given(
    numbers,
    st.integers(0, 70),
    WIDTHS,
    st.integers(2, 150),
    SIDES,
    st.sampled_from([None, *ACTIVATIONS]),
    st.sets(st.sampled_from(["bias", "residual", "norm"])),
)
@over_random_shapes
def test_linear(
    backend: Operators,
    drawn: tuple[int, float],
    n: int,
    k: int,
    m: int,
    side: int,
    activation: str | None,
    parts: set[str],
) -> None:
    draw = Numbers(backend, *drawn)
    (x, x64), (w, w64) = draw.array(n, k), draw.matrix(k, m, side)
    bias, bias64 = draw.array(m)
    residual, residual64 = draw.array(n, m)
    norm, norm64 = draw.norm(m)
    got = backend.linear(
        x,
        w,
        bias if "bias" in parts else None,
        activation,
        residual if "residual" in parts else None,
        norm if "norm" in parts else None,
    )
    expected = x64 @ w64 + ("bias" in parts) * bias64
    expected = expected if activation is None else activate(expected, activation)
    expected = expected + ("residual" in parts) * residual64
    size = 1 + math.sqrt(k) * draw.scale**2 + 3 * draw.scale
    if "norm" in parts:
        # Dividing by the deviation of a row enlarges what rounding left in it.
        size *= (1 + draw.scale) / math.sqrt(expected.var(axis=1).min(initial=1) + EPS)
        expected = layer_norm(expected, norm64)
    assert_close(backend, got, expected, size)
    for array, before in [(x, x64), (residual, residual64), (bias, bias64)]:
        assert np.array_equal(backend.to_host(array), before)


def test_a_product_has_no_rows_for_no_tokens(backend: Operators) -> None:
    draw = Numbers(backend, 1, 1.0)
    x, w = draw.array(0, 40)[0], draw.matrix(40, 50, 32)[0]
    assert backend.to_host(backend.linear(x, w, activation="gelu")).shape == (0, 50)


# -- attention ------------------------------------------------------------------------------------


@given(
    numbers,
    LENGTHS,
    st.integers(1, 16),
    st.integers(1, 9),
    st.booleans(),
    st.none() | st.integers(0, 12),
    st.booleans(),
)
@over_random_shapes
def test_attention(
    backend: Operators,
    drawn: tuple[int, float],
    lengths: list[int],
    heads: int,
    half: int,
    has_bias: bool,
    window: int | None,
    has_rotary: bool,
) -> None:
    draw = Numbers(backend, *drawn)
    offsets, sequences = spans(lengths)
    width, longest = 2 * half, max(*lengths, 1)
    q, k, v = (draw.array(offsets[-1], heads * width) for _ in range(3))
    bias, bias64 = draw.array(heads, 2 * longest - 1)
    cosine, sine = draw.array(longest, width), draw.array(longest, width)
    got = backend.attention(
        q[0],
        k[0],
        v[0],
        offsets,
        heads,
        bias if has_bias else None,
        window,
        Rotary(cosine[0], sine[0]) if has_rotary else None,
    )
    expected = np.empty_like(q[1])
    for s, h in itertools.product(sequences, range(heads)):
        cols = slice(h * width, (h + 1) * width)
        expected[s, cols] = attend(
            q[1][s, cols],
            k[1][s, cols],
            v[1][s, cols],
            bias64[h] if has_bias else None,
            window,
            (cosine[1], sine[1]) if has_rotary else None,
        )
    # An error in a score is a relative error in the weights that its exponential gives.
    score = math.sqrt(width) * draw.scale ** (4 if has_rotary else 2)
    assert_close(backend, got, expected, draw.scale * max(1, 4 * score))
    for array, before in (q, k, v):
        assert np.array_equal(backend.to_host(array), before)


def test_a_single_token_attends_to_itself(backend: Operators) -> None:
    draw = Numbers(backend, 2, 1.0)
    (q, _), (k, _), (v, v64) = (draw.array(1, 12) for _ in range(3))
    assert_close(backend, backend.attention(q, k, v, [0, 1], 3), v64)


def test_a_sequence_does_not_see_its_neighbours(backend: Operators) -> None:
    draw = Numbers(backend, 3, 1.0)
    q, k, v = (draw.array(7, 12)[0] for _ in range(3))
    together = backend.to_host(backend.attention(q, k, v, [0, 3, 7], 2))
    alone = backend.to_host(backend.attention(q[3:], k[3:], v[3:], [0, 4], 2))
    np.testing.assert_allclose(together[3:], alone, atol=1e-6)


@given(st.integers(1, 5), st.integers(1, 40), st.sampled_from([1e-3, 1.0, 1e4, 1e30]))
@over_random_shapes
def test_softmax_is_stable(backend: Operators, rows: int, width: int, scale: float) -> None:
    x, x64 = Numbers(backend, rows * width, scale).array(rows, width)
    assert_close(backend, backend.softmax(x), softmax(x64), max(1.0, min(scale, 1e2)))


# -- rows -----------------------------------------------------------------------------------------


@given(numbers, st.integers(0, 30), st.integers(1, 200), WIDTHS, SIDES, st.integers(1, 3))
@over_random_shapes
def test_embed(
    backend: Operators,
    drawn: tuple[int, float],
    n: int,
    vocabulary: int,
    width: int,
    side: int,
    count: int,
) -> None:
    draw = Numbers(backend, *drawn)
    ids = [draw.random.integers(0, vocabulary, n) for _ in range(count)]
    tables = [draw.matrix(vocabulary, width, side) for _ in range(count)]
    got = backend.embed([(i, table) for i, (table, _) in zip(ids, tables, strict=True)])
    expected = sum(table64[i] for i, (_, table64) in zip(ids, tables, strict=True))
    assert_close(backend, got, expected)


def test_embed_normalises_the_sum(backend: Operators) -> None:
    draw = Numbers(backend, 4, 1.0)
    (table, table64), (norm, norm64) = draw.matrix(50, 70, 32), draw.norm(70)
    ids = np.array([49, 0, 31, 32, 32])
    got = backend.embed([(ids, table), (ids[::-1], table)], norm)
    assert_close(backend, got, layer_norm(table64[ids] + table64[ids[::-1]], norm64))


@given(numbers, st.integers(0, 30), st.integers(2, 300))
@over_random_shapes
def test_layer_norm(backend: Operators, drawn: tuple[int, float], n: int, width: int) -> None:
    draw = Numbers(backend, *drawn)
    (x, x64), (norm, norm64) = draw.array(n, width), draw.norm(width)
    size = (1 + draw.scale) ** 2 / math.sqrt(x64.var(axis=1).min(initial=1) + EPS)
    assert_close(backend, backend.layer_norm(x, norm), layer_norm(x64, norm64), size)
    assert np.array_equal(backend.to_host(x), x64)


def test_layer_norm_of_equal_numbers_is_its_bias(backend: Operators) -> None:
    norm, norm64 = Numbers(backend, 5, 1.0).norm(8)
    same = backend.array(np.full((2, 8), 3, np.float32))
    assert_close(backend, backend.layer_norm(same, norm), np.tile(norm64.bias, (2, 1)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_over_the_whole_range_of_numbers(backend: Operators, activation: str) -> None:
    x = np.concatenate([-np.geomspace(1e-30, 1e6, 3000), [0], np.geomspace(1e-30, 1e6, 3000)])
    x = x.astype(np.float32).reshape(-1, 1)
    got = backend.activate(backend.array(x.copy()), activation)
    expected = activate(x.astype(np.float64), activation)
    np.testing.assert_allclose(backend.to_host(got), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_nan_is_not_activated_away(backend: Operators, activation: str) -> None:
    got = backend.activate(backend.array(np.array([[np.nan]], np.float32)), activation)
    assert np.isnan(backend.to_host(got)).all()


def test_an_unknown_activation_is_refused(backend: Operators) -> None:
    with pytest.raises(NotBuilt, match="'swish' is not one of gelu, gelu_tanh, relu"):
        backend.activate(Numbers(backend, 6, 1.0).array(2, 2)[0], "swish")


@given(numbers, LENGTHS, WIDTHS, st.sampled_from(["mean", "cls"]))
@over_random_shapes
def test_pool(
    backend: Operators, drawn: tuple[int, float], lengths: list[int], width: int, how: str
) -> None:
    offsets, sequences = spans(lengths)
    x, x64 = Numbers(backend, *drawn).array(offsets[-1], width)
    expected = np.zeros((len(lengths), width))
    for s, span in enumerate(sequences):
        if lengths[s]:
            expected[s] = x64[span].mean(axis=0) if how == "mean" else x64[span][0]
    assert_close(backend, backend.pool(x, offsets, how), expected)


@given(numbers, st.integers(0, 9), WIDTHS)
@over_random_shapes
def test_normalize(backend: Operators, drawn: tuple[int, float], n: int, width: int) -> None:
    x, x64 = Numbers(backend, *drawn).array(n, width)
    expected = x64 / np.maximum(np.sqrt((x64**2).sum(axis=1, keepdims=True)), 1e-12)
    assert_close(backend, backend.normalize(x), expected)


def test_normalize_keeps_a_zero_row(backend: Operators) -> None:
    zero = backend.array(np.zeros((1, 3), np.float32))
    assert backend.to_host(backend.normalize(zero)).tolist() == [[0, 0, 0]]


def test_vectors_that_were_fetched_are_normalised_where_they_are(backend: Operators) -> None:
    got = backend.normalize(np.array([[3, 4]], np.float32))
    np.testing.assert_allclose(got, [[0.6, 0.8]], atol=1e-7)


# -- blocks and backends --------------------------------------------------------------------------


def test_a_mapped_page_becomes_an_array(backend: Operators) -> None:
    page = memoryview(np.arange(6, dtype=np.float32).tobytes())
    array = backend.page_array(page)
    assert backend.to_host(array).tolist() == [0, 1, 2, 3, 4, 5]


def test_numpy_reads_a_page_in_place() -> None:
    page = memoryview(np.arange(6, dtype=np.float32).tobytes())
    assert np.shares_memory(Operators().page_array(page), np.frombuffer(page, np.float32))


def test_a_bundle_is_its_blocks_one_after_another(backend: Operators) -> None:
    w, w64 = Numbers(backend, 7, 1.0).matrix(96, 32, 32)
    assert np.array_equal(backend.to_host(backend.bundle(w)), w64.ravel())


def test_an_unknown_backend_is_refused_with_those_there_are() -> None:
    with pytest.raises(ServerUnready) as raised:
        choose("tpu")
    assert raised.value.message == "backend 'tpu' is not one of auto, numpy, cpu, gpu"


def test_a_backend_that_cannot_run_says_what_was_tried() -> None:
    reason = reason_missing("gpu")
    if reason is None:
        pytest.skip("this machine has a GPU and CuPy")
    assert reason.startswith("backend 'gpu' is not available: ")
    assert "cupy" in reason.lower()

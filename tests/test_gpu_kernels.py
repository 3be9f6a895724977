"""The CUDA source: it compiles wherever nvcc is, and does in 16 bits what NumPy does in 64."""

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_device import EmulatedOperators, emulated
from test_operators import Norm64, activate, attend, layer_norm, spans

from pageformer.gpu_backend import launches
from pageformer.gpu_backend.sources import ELEMENTS, FILES, kernels, source
from pageformer.udfs.attention import Rotary
from pageformer.udfs.blocks import BlockMatrix
from pageformer.udfs.tasks.edits import LinearEdits, Norm, Term

HALF = ["float16", "bfloat16"]
EPS = 1e-12


@pytest.mark.parametrize("architecture", ["compute_75", "compute_90"])
@pytest.mark.parametrize("file", FILES)
def test_kernels_compile(file: str, architecture: str, tmp_path: Path) -> None:
    if not shutil.which("nvcc"):
        pytest.skip("no nvcc to compile CUDA with")
    written = tmp_path / f"{file}.cu"
    written.write_text(source(file))
    made = tmp_path / f"{file}.ptx"
    command = ["nvcc", "--ptx", "-Werror", "all-warnings", f"-arch={architecture}"]
    subprocess.run([*command, "-o", str(made), str(written)], check=True)
    entries = {line.split()[2].strip("(") for line in made.read_text().splitlines()
               if line.startswith(".visible .entry")}  # fmt: skip
    assert entries == set(kernels(file))


def test_every_file_of_kernels_is_known() -> None:
    folder = Path(__file__).parents[1] / "gpu_backend" / "cuda"
    assert sorted(path.stem for path in folder.glob("*.cu")) == sorted(FILES)


# -- launches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 32, 384, 768, 1024, 1536, 4096, 6144])
def test_a_layer_norm_fits_the_memory_of_its_block(width: int) -> None:
    launch = launches.layer_norm(1000, width, "float32")
    assert launch is not None
    warps = launch.threads // launches.WARP
    assert launch.shared == warps * launches.ROWS_OF_WARP * width * 4 <= launches.SHARED_BYTES
    assert launch.grid[0] * warps * launches.ROWS_OF_WARP >= 1000


@pytest.mark.parametrize(
    "launch",
    [
        launches.layer_norm(5, 6145, "float32"),
        launches.layer_norm(0, 8, "float32"),
        launches.softmax(0, 8, "float32"),
        launches.softmax(8, 0, "float32"),
        launches.activation(0, "float32"),
        launches.attention(0, 12, 64, "float32"),
        launches.attention(9, 12, 129, "float32"),
    ],
)
def test_what_no_kernel_takes_is_not_launched(launch: launches.Launch | None) -> None:
    assert launch is None


@pytest.mark.parametrize(("width", "compiled"), [(1, 32), (32, 32), (33, 64), (64, 64), (96, 128)])
def test_a_head_is_filled_up_to_a_width_that_is_compiled(width: int, compiled: int) -> None:
    launch = launches.attention(7, 12, width, "float16")
    assert launch == ("attention", f"attention_{compiled}_float16", (7, 12), 128, 0)


def test_tiles_cover_every_query_once_and_begin_with_the_longest() -> None:
    tiles = launches.tiles([0, 3, 3, 73])
    assert tiles == [(3, 70, 0), (3, 70, 32), (3, 70, 64), (0, 3, 0)]


def test_every_launch_names_a_kernel_that_there_is() -> None:
    for element in ELEMENTS:
        found = (
            launches.layer_norm(1, 1, element),
            launches.softmax(1, 1, element),
            launches.activation(1, element),
            *(launches.attention(1, 1, width, element) for width in launches.HEAD_WIDTHS),
        )
        assert all(launch and launch.kernel in kernels(launch.file) for launch in found)


# -- half precision -------------------------------------------------------------------------------


class Drawn:
    """Numbers in an element type, and the same in float64."""

    def __init__(self, element: Any) -> None:
        self.operators = emulated(element=element)
        self.random = np.random.default_rng(11)

    def array(self, *shape: int, wide: bool = False) -> tuple[Any, Any]:
        held = self.random.standard_normal(shape).astype(np.float32)
        held = held if wide else held.astype(self.operators.element)
        return self.operators.array(held), held.astype(np.float64)

    def norm(self, width: int) -> tuple[Norm, Norm64]:
        weight, bias = self.array(width, wide=True), self.array(width, wide=True)
        return Norm(weight[0], bias[0], EPS), Norm64(weight[1], bias[1])

    def matrix(self, rows: int, cols: int) -> tuple[BlockMatrix, Any]:
        held = self.random.standard_normal((rows, cols)).astype(np.float32)
        cut = BlockMatrix.from_array(held, 32)
        grid = tuple(tuple(map(self.operators.array, row)) for row in cut.grid)
        return BlockMatrix(grid, rows, cols, 32), held.astype(np.float64)


@pytest.fixture(params=HALF)
def drawn(request: pytest.FixtureRequest) -> Drawn:
    if request.param == "float16":
        return Drawn(np.float16)
    return Drawn(pytest.importorskip("ml_dtypes", reason="NumPy has no bfloat16").bfloat16)


def assert_alike(operators: EmulatedOperators, got: Any, expected: Any) -> None:
    """Compare rows by their angle, as vectors are compared in the end."""
    rows = operators.to_host(got).astype(np.float64)
    cosines = (rows * expected).sum(-1) / np.sqrt((rows**2).sum(-1) * (expected**2).sum(-1))
    assert cosines.min() >= 0.9995


def test_a_layer_norm_of_half_precision(drawn: Drawn) -> None:
    (x, x64), (norm, norm64) = drawn.array(37, 100), drawn.norm(100)
    got = drawn.operators.layer_norm(x, norm)
    assert got.dtype == drawn.operators.element
    assert_alike(drawn.operators, got, layer_norm(x64, norm64))


def test_a_layer_norm_far_from_zero_loses_nothing() -> None:
    drawn = Drawn(np.float32)
    norm, norm64 = drawn.norm(64)
    held = (1e4 + drawn.random.standard_normal((4, 64))).astype(np.float32)
    got = drawn.operators.layer_norm(drawn.operators.array(held), norm)
    assert_alike(drawn.operators, got, layer_norm(held.astype(np.float64), norm64))


@pytest.mark.parametrize("activation", [None, "gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("with_norm", [False, True])
def test_a_linear_map_of_half_precision(
    drawn: Drawn, activation: str | None, with_norm: bool
) -> None:
    (x, x64), (w, w64), (bias, bias64) = drawn.array(9, 70), drawn.matrix(70, 90), drawn.array(
        90, wide=True
    )  # fmt: skip
    (residual, residual64), (norm, norm64) = drawn.array(9, 90), drawn.norm(90)
    got = drawn.operators.linear(x, w, bias, activation, residual, norm if with_norm else None)
    expected = x64 @ w64 + bias64
    expected = (expected if activation is None else activate(expected, activation)) + residual64
    assert got.dtype == drawn.operators.element
    assert_alike(drawn.operators, got, layer_norm(expected, norm64) if with_norm else expected)


@pytest.mark.parametrize("width", [20, 64, 100, 130])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("window", [None, 8])
def test_attention_of_half_precision(
    drawn: Drawn, width: int, with_bias: bool, window: int | None
) -> None:
    heads, (offsets, sequences) = 2, spans([3, 40, 0, 1])
    q, k, v = (drawn.array(offsets[-1], heads * width) for _ in range(3))
    bias, bias64 = drawn.array(heads, 2 * 40 - 1, wide=True)
    got = drawn.operators.attention(
        q[0], k[0], v[0], offsets, heads, bias if with_bias else None, window
    )
    expected = np.empty_like(q[1])
    for s, h in itertools.product(sequences, range(heads)):
        cols = slice(h * width, (h + 1) * width)
        own = bias64[h] if with_bias else None
        expected[s, cols] = attend(q[1][s, cols], k[1][s, cols], v[1][s, cols], own, window, None)
    assert got.dtype == drawn.operators.element
    assert drawn.operators.launched[-1].startswith("attention" if width <= 128 else "softmax")
    assert_alike(drawn.operators, got, expected)


@pytest.mark.parametrize(("window", "seen"), [(None, 4), (6, 3)])
def test_keys_behind_those_that_are_seen_count_nothing(window: int | None, seen: int) -> None:
    drawn, plain = Drawn(np.float32), EmulatedOperators.__mro__[2]
    q, k, v = (drawn.array(45, 64) for _ in range(3))
    arguments = ([0, 5, 45], 2, None, window, None, seen)
    got = drawn.operators.attention(q[0], k[0], v[0], *arguments)
    expected = plain.attention(drawn.operators, q[0], k[0], v[0], *arguments)
    np.testing.assert_allclose(got.held, expected.held, atol=1e-5)


def test_rotary_attention_of_half_precision(drawn: Drawn) -> None:
    offsets, sequences = spans([5, 33])
    q, k, v = (drawn.array(38, 16) for _ in range(3))
    tables = drawn.array(40, 16, wide=True), drawn.array(40, 16, wide=True)
    rotary = Rotary(tables[0][0], tables[1][0])
    got = drawn.operators.attention(q[0], k[0], v[0], offsets, 1, rotary=rotary)
    exact = (tables[0][1], tables[1][1])
    expected = [attend(q[1][s], k[1][s], v[1][s], None, None, exact) for s in sequences]
    assert_alike(drawn.operators, got, np.vstack(expected))


def test_what_tasks_change_is_composed_and_comes_back_narrow(drawn: Drawn) -> None:
    (x, x64), (w, w64) = drawn.array(9, 70), drawn.matrix(70, 90)
    (down, down64), (up, up64) = drawn.array(70, 4, wide=True), drawn.array(4, 90, wide=True)
    terms = [Term(2, 5, LinearEdits(low_rank=(down, up)))]
    got = drawn.operators.linear(x, w, terms=terms)
    expected = x64 @ w64
    expected[2:5] += x64[2:5] @ down64 @ up64
    assert got.dtype == drawn.operators.element
    assert_alike(drawn.operators, got, expected)


def test_rows_wider_than_a_block_s_memory_are_composed(drawn: Drawn) -> None:
    (x, x64), (norm, norm64) = drawn.array(3, 6200), drawn.norm(6200)
    got = drawn.operators.layer_norm(x, norm)
    assert drawn.operators.launched == []
    assert_alike(drawn.operators, got, layer_norm(x64, norm64))


def test_a_matrix_larger_than_the_limit_is_multiplied_block_by_block() -> None:
    drawn = Drawn(np.float32)
    drawn.operators.kept.limit = 1000
    (x, x64), (w, w64) = drawn.array(9, 70), drawn.matrix(70, 90)
    assert_alike(drawn.operators, drawn.operators.linear(x, w), x64 @ w64)
    assert drawn.operators.kept.bytes == 0

"""Operators as UDFs: blocks as values, and stored weights multiplied by a join and a sum."""

import struct
from typing import Any

import numpy as np
import psycopg
import pytest
from safetensors.numpy import load_file

from pageformer.udfs.blocks import BlockMatrix, array_to_block, block_to_array
from pageformer.udfs.operators import Operators


@pytest.fixture
def session(minilm: str) -> Any:
    with psycopg.connect(minilm, autocommit=True) as connection:
        yield connection


def block(session: Any, expression: str, *arguments: object) -> Any:
    return block_to_array(session.execute(f"select {expression}", arguments).fetchone()[0])


def array(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_a_block_is_a_header_and_its_elements() -> None:
    value = array_to_block(np.array([[1, 2]], np.float32))
    assert value == b"pfbk\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00" + struct.pack(
        "<2f", 1, 2
    )


@pytest.mark.parametrize(
    ("form", "data"), [("f16", b"\x00\x3c\x00\xc0"), ("bf16", b"\x80\x3f\x00\xc0")]
)
def test_two_byte_blocks_are_widened(session: Any, form: str, data: bytes) -> None:
    read = block(session, "pageformer_op.block(%s, 1, 2, %s)", form, data)
    assert read.tolist() == [[1, -2]]


def test_arrays_become_blocks_and_come_back(session: Any) -> None:
    query = "select pageformer_op.to_array(pageformer_op.from_array('{{1,2.5},{-3,4}}'))"
    assert session.execute(query).fetchone()[0] == [[1, 2.5], [-3, 4]]


def test_matmul_and_add_are_those_of_numpy(session: Any) -> None:
    a, b, c = array(3, 5), array(5, 7), array(3, 7)
    sent = [array_to_block(m) for m in (a, b, c)]
    got = block(session, "pageformer_op.add(pageformer_op.matmul(%s, %s), %s)", *sent)
    np.testing.assert_allclose(got, a @ b + c, atol=1e-5)


def test_rows_are_those_of_the_forward_pass(session: Any) -> None:
    x, weight, bias = array(4, 6), array(1, 6), array(1, 6)
    sent = array_to_block(x)
    e = np.exp(x.astype(np.float64))
    soft = block(session, "pageformer_op.softmax(%s)", sent)
    np.testing.assert_allclose(soft, e / e.sum(axis=1, keepdims=True), atol=1e-6)
    got = block(
        session, "pageformer_op.layer_norm(%s, %s, %s, 1e-12)",
        sent, array_to_block(weight), array_to_block(bias),
    )  # fmt: skip
    centred = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    np.testing.assert_allclose(got, centred * weight + bias, atol=1e-5)
    np.testing.assert_allclose(
        block(session, "pageformer_op.gelu(%s)", sent),
        Operators().activate(x.copy(), "gelu"),
        atol=1e-7,
    )


def test_elements_are_those_of_numpy(session: Any) -> None:
    a, b, row = array(4, 6), array(4, 6) * 2, array(1, 6)
    sent = {"a": array_to_block(a), "b": array_to_block(b), "row": array_to_block(row)}
    expected = {
        "transpose(%(a)s)": a.T,
        "multiply(%(a)s, %(b)s)": a * b,
        "add_bias(%(a)s, %(row)s)": a + row,
        "scale(%(a)s, 0.125)": a * 0.125,
        "maximum(%(a)s, %(b)s)": np.maximum(a, b),
        "relu(%(a)s)": np.maximum(a, 0),
        "tanh(%(a)s)": np.tanh(a),
        "sigmoid(%(a)s)": 1 / (1 + np.exp(-a)),
        "silu(%(a)s)": a / (1 + np.exp(-a)),
        "gelu_tanh(%(a)s)": Operators().activate(a.copy(), "gelu_tanh"),
    }
    for call, wanted in expected.items():
        row = session.execute(f"select pageformer_op.{call}", sent).fetchone()
        np.testing.assert_allclose(block_to_array(row[0]), wanted, atol=1e-6, err_msg=call)


def parts(session: Any, x: Any, widths: list[int]) -> None:
    """Put the columns of a matrix into the table `part`, cut at these widths."""
    session.execute("create temporary table part (block_col integer, block bytea)")
    for j, right in enumerate(np.cumsum(widths)):
        tile = array_to_block(x[:, right - widths[j] : right])
        session.execute("insert into part values (%s, %s)", [j + 1, tile])


PART = "(select pageformer_op.concat({} order by part.block_col) from part, known)"


@pytest.mark.parametrize("widths", [[7], [3, 3, 1], [1] * 7])
def test_two_passes_over_parts_are_a_softmax_of_the_whole(session: Any, widths: list[int]) -> None:
    x = array(5, 7) * 100  # which would overflow without the maximum
    x[0, 2:5] = -np.inf
    parts(session, x, widths)
    got = block(
        session,
        PART.format("pageformer_op.softmax_part(part.block, known.row_max, known.exp_sum)").replace(
            "known)",
            """(select row_max, pageformer_op.sum(pageformer_op.exp_sum(block, row_max)) as exp_sum
                from part, (select pageformer_op.maximum(pageformer_op.row_max(block)) as row_max
                            from part) m group by row_max) known)""",
        ),
    )
    np.testing.assert_allclose(got, Operators().softmax(x.copy()), atol=1e-6)


@pytest.mark.parametrize("widths", [[7], [3, 3, 1], [1] * 7])
def test_two_passes_over_parts_are_a_layer_norm_of_the_whole(
    session: Any, widths: list[int]
) -> None:
    x, weight, bias = array(5, 7) + 10, array(1, 7), array(2, 7)[:1]
    parts(session, x, widths)
    session.execute(
        "create temporary table known as select"
        " pageformer_op.merge_moments(pageformer_op.row_moments(block)) as moments from part"
    )
    session.execute("alter table part add weight bytea, add bias bytea")
    for j, right in enumerate(np.cumsum(widths)):
        columns = slice(right - widths[j], right)
        values = [array_to_block(weight[:, columns]), array_to_block(bias[:, columns]), j + 1]
        session.execute("update part set weight = %s, bias = %s where block_col = %s", values)
    got = block(
        session,
        PART.format("pageformer_op.layer_norm_part(block, moments, weight, bias, 1e-5)"),
    )
    exact = x.astype(np.float64)
    centred = exact - exact.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt(exact.var(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(got, normed * weight + bias, atol=5e-5)
    bare = PART.format("pageformer_op.layer_norm_part(block, moments, weight, null, 1e-5)")
    np.testing.assert_allclose(block(session, bare), normed * weight, atol=5e-5)


def test_two_passes_over_parts_scale_a_row_to_length_1(session: Any) -> None:
    x = array(3, 7)
    x[1] = 0
    parts(session, x, [4, 3])
    session.execute(
        "create temporary table known as select"
        " pageformer_op.sum(pageformer_op.square_sum(block)) as length from part"
    )
    got = block(session, PART.format("pageformer_op.normalize_part(block, length)"))
    np.testing.assert_allclose(got, Operators().normalize(x), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (4, 6), (5, 7)])
def test_tiles_of_any_matrix_come_together_again(session: Any, shape: tuple[int, int]) -> None:
    x = array(*shape)
    query = """
        select pageformer_op.stack(whole.block order by whole.block_row) from (
            select block_row, pageformer_op.concat(block order by block_col) as block
            from pageformer_op.tile(%s, 4, 3) group by block_row
        ) whole
    """
    row = session.execute(query, [array_to_block(x)]).fetchone()
    np.testing.assert_array_equal(block_to_array(row[0]), x)
    sizes = session.execute(
        "select block_row, block_col, octet_length(block) from pageformer_op.tile(%s, 4, 3)",
        [array_to_block(x)],
    ).fetchall()
    assert len(sizes) == -(-shape[0] // 4) * -(-shape[1] // 3)
    assert sum(size - 16 for *_, size in sizes) == x.size * 4


def test_slices_count_from_1_and_end_with_the_block(session: Any) -> None:
    x = array(4, 6)
    sent = array_to_block(x)
    got = block(session, "pageformer_op.slice(%s, 2, 2, 3, 100)", sent)
    np.testing.assert_array_equal(got, x[1:3, 2:])
    np.testing.assert_array_equal(block(session, "pageformer_op.slice(%s, 4, 1)", sent), x[3:])
    run = block(session, "pageformer_op.run(array[%s, %s], 22, 5)", sent, sent)
    np.testing.assert_array_equal(run, np.concatenate((x.ravel(), x.ravel()))[None, 21:26])


def test_what_is_not_a_number_stays_visible(session: Any) -> None:
    x = np.array([[1, np.nan], [np.inf, 2], [3, 4]], np.float32)
    sent, ones = array_to_block(x), array_to_block(np.ones((3, 2), np.float32))
    for call in ("add(%s, %s)", "multiply(%s, %s)", "maximum(%s, %s)"):
        got = block(session, f"pageformer_op.{call}", sent, ones)
        assert np.isnan(got).tolist() == [[False, True], [False, False], [False, False]]
    rows = np.isnan(block(session, "pageformer_op.softmax(%s)", sent)).all(axis=1)
    assert rows.tolist() == [True, False, False] or rows.tolist() == [True, True, False]
    largest = block(session, "pageformer_op.row_max(%s)", sent)
    np.testing.assert_array_equal(largest, [[np.nan], [np.inf], [4]])


def test_masked_elements_get_nothing_of_a_softmax(session: Any) -> None:
    x, visible = array(2, 3), np.array([[1, 0, 1], [0, 0, 0]], np.float32)
    sent = [array_to_block(x), array_to_block(visible)]
    soft = block(session, "pageformer_op.softmax(pageformer_op.mask(%s, %s))", *sent)
    assert soft[0, 1] == 0
    assert np.isnan(soft[1]).all()  # nothing to look at
    np.testing.assert_allclose(soft[0].sum(), 1, atol=1e-6)


def test_null_makes_null_and_sums_leave_it_out(session: Any) -> None:
    query = "select pageformer_op.matmul(null, %s), pageformer_op.sum(b) from unnest(%s::bytea[]) b"
    one = array_to_block(np.ones((1, 1), np.float32))
    product, total = session.execute(query, [one, [None, one, one, None]]).fetchone()
    assert product is None
    assert block_to_array(total).tolist() == [[2]]
    empty = "select pageformer_op.sum(b), pageformer_op.concat(b) from unnest('{}'::bytea[]) b"
    assert session.execute(empty).fetchone() == (None, None)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("pageformer_op.gelu('\\x00')", "not a block: a block starts with a header of 16 bytes"),
        ("pageformer_op.matmul(b, b)", "matmul of blocks [1, 2] and [1, 2]: shapes differ"),
        ("pageformer_op.add(b, c)", "add of blocks [1, 2] and [2, 1]: shapes differ"),
        ("pageformer_op.add_bias(c, b)", "add_bias of blocks [2, 1] and [1, 2]: shapes differ"),
        ("pageformer_op.exp_sum(b, c)", "exp_sum of blocks [1, 2] and [2, 1]: shapes differ"),
        ("pageformer_op.mask(b, c)", "mask of blocks [1, 2] and [2, 1]: shapes differ"),
        (
            "pageformer_op.layer_norm_part(b, b, b, b, 1)",
            "layer_norm_part of blocks [1, 2] and [1, 2]: shapes differ",
        ),
        (
            "pageformer_op.concat(array[b, c])",
            "concat of blocks [1, 2] and [2, 1]: shapes differ",
        ),
        ("pageformer_op.stack(array[b, c])", "stack of blocks [1, 2] and [2, 1]: shapes differ"),
        ("pageformer_op.concat(array[b, null])", "a block is null"),
        (
            "pageformer_op.slice(b, 2, 1)",
            "rows 2 + 1 and columns 1 + 2147483647 are not in a block [1, 2]",
        ),
        ("(select count(*) from pageformer_op.tile(b, 0, 1))", "tiles of 0 x 1"),
        ("pageformer_op.run(array[b], 2, 2)", "elements 2 + 2 are not among 2"),
        ("pageformer_op.pool(b, 'median')", '"median" is no mode of pooling'),
        ("pageformer_op.rotate(c, 0, 10000, 1)", "a block [2, 1] has no halves"),
        ("pageformer.to_vector(c)", "a block [2, 1] is no vector"),
        ("pageformer_op.from_array('{1,2}')", "a block has two dimensions, this array 1"),
        ("pageformer_op.block('f8', 1, 1, '')", "f8 is not a format"),
    ],
)
def test_what_is_no_block_is_refused(session: Any, expression: str, message: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(
            f"select {expression} from pageformer_op.from_array('{{{{1,2}}}}') b,"
            " pageformer_op.from_array('{{1},{2}}') c"
        )
    assert caught.value.diag.sqlstate == "22023"
    assert caught.value.diag.message_primary == f"pageformer: {message}"


def test_stored_blocks_multiply_by_a_join_and_a_sum(session: Any, minilm_dir: Any) -> None:
    name = "layer.3.feed_forward.up.weight"
    checkpoint = load_file(minilm_dir / "model.safetensors")
    weight = checkpoint["encoder.layer.3.intermediate.dense.weight"].T
    side = session.execute("select block_side from pageformer.version").fetchone()[0]
    x = array(5, weight.shape[0])
    session.execute("create temporary table x (block_col integer, block bytea)")
    for j in range(0, x.shape[1], side):
        tile = array_to_block(x[:, j : j + side])
        session.execute("insert into x values (%s, %s)", [j // side + 1, tile])
    rows = session.execute(
        """
        select pageformer_op.sum(pageformer_op.matmul(x.block, w.block))
        from x join pageformer.weights('minilm') w on w.block_row = x.block_col
        where w.tensor = %s
        group by w.block_col order by w.block_col
        """,
        [name],
    ).fetchall()
    product = np.concatenate([block_to_array(b) for (b,) in rows], axis=1)[:, : weight.shape[1]]
    linear = Operators().linear(x, BlockMatrix.from_array(weight, side))
    np.testing.assert_allclose(product, linear, atol=1e-5)

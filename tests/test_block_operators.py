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


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("pageformer_op.gelu('\\x00')", "not a block: a block starts with a header of 16 bytes"),
        ("pageformer_op.matmul(b, b)", "matmul of blocks [1, 2] and [1, 2]: shapes differ"),
        ("pageformer_op.from_array('{1,2}')", "a block has two dimensions, this array 1"),
        ("pageformer_op.block('f8', 1, 1, '')", "f8 is not a format"),
    ],
)
def test_what_is_no_block_is_refused(session: Any, expression: str, message: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(f"select {expression} from pageformer_op.from_array('{{{{1,2}}}}') b")
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

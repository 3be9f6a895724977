"""The forward pass as SQL over relations: the vectors of `encode`, for every family, by joins."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
import tiny_images
import tiny_late
import tiny_models
from reference.texts import TEXTS

from pageformer.loader.load import load
from pageformer.udfs.blocks import array_to_block, block_to_array

Session = psycopg.Connection[Any]
SOME = ("empty", "short", "paragraph")  # the last has more tokens than a block has rows
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def models(
    module_database: str, minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    """A connection to a database that holds MiniLM, every tiny model and the encoders."""
    folder = tmp_path_factory.mktemp("models")
    with psycopg.connect(module_database, autocommit=True) as connection:
        load(connection, str(minilm_dir), name="minilm")
        for name in [*tiny_models.MODELS, *tiny_models.ENCODERS]:
            load(connection, str(tiny_models.write(name, folder)), name=name)
        connection.execute("set search_path = pageformer, public")
        yield connection


def as_array(vector: str) -> npt.NDArray[Any]:
    return np.array(vector.strip("[]").split(","), np.float32)


def encoded(session: Session, call: str, text: str, model: str) -> npt.NDArray[Any]:
    [[vector]] = session.execute(f"select {call}(%s, %s)::text", (text, model)).fetchall()
    return as_array(vector)


@pytest.mark.parametrize("name", ["minilm", *tiny_models.MODELS])
def test_relations_make_the_vectors_of_encode(models: Session, name: str) -> None:
    for kind in SOME:
        fused, joined = (
            encoded(models, call, TEXTS[kind], name) for call in ("encode", "encode_relational")
        )
        np.testing.assert_allclose(joined, fused, rtol=0, atol=TOLERANCE, err_msg=kind)


@pytest.mark.parametrize("shape", [(2, 10), (1, 1), (3, 70)])
@pytest.mark.parametrize("name", tiny_models.ENCODERS)
def test_relations_run_the_layers_of_encode_tensor(
    models: Session, name: str, shape: tuple[int, int]
) -> None:
    hidden = tiny_models.ENCODERS[name]["hidden_size"]
    tensor = np.random.default_rng(7).standard_normal((*shape, hidden)).tolist()
    fused, joined = (
        models.execute(f"select {call}(%s::real[], %s)", (tensor, name)).fetchall()[0][0]
        for call in ("encode_tensor", "encode_tensor_relational")
    )
    np.testing.assert_allclose(joined, fused, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["minilm", "modernbert-mean", "encoder-paper"])
def test_the_text_of_a_version_can_be_run_as_it_is(models: Session, name: str) -> None:
    [[text]] = models.execute("select encoder_sql(%s)", [name]).fetchall()
    assert "\t" not in text
    assert max(map(len, text.splitlines())) <= 120
    if name == "encoder-paper":
        tensor = "{" + ",".join(["{" + ",".join(["1"] * 64) + "}"] * 3) + "}"
        models.execute(f"prepare forward(real[]) as {text}")
        [[got]] = models.execute(f"execute forward('{{{tensor}}}')").fetchall()
        [[fused]] = models.execute(f"select encode_tensor('{{{tensor}}}', '{name}')").fetchall()
    else:
        rows = models.execute("select id from tokenize('a text', %s) order by index", [name])
        ids = "{" + ",".join(str(id) for (id,) in rows) + "}"
        models.execute(f"prepare forward(integer[], integer) as {text}")
        [[vector]] = models.execute(f"execute forward('{ids}', 0)").fetchall()
        got, fused = as_array(str(vector)), encoded(models, "encode", "a text", name)
    models.execute("deallocate forward")
    np.testing.assert_allclose(got, fused, rtol=0, atol=TOLERANCE)


def explained(session: Session, query: str) -> str:
    lines = session.execute(f"explain (analyze, costs off, timing off) {query}").fetchall()
    return "\n".join(line for (line,) in lines)


STEP = """
    select x.block_row, w.block_col, pageformer_op.sum(pageformer_op.matmul(x.block, w.block)) as y
    from x join pageformer.weight_matrix('minilm', 'layer.0.feed_forward.up.weight') w
        on w.block_row = x.block_col
    group by x.block_row, w.block_col
"""


@pytest.fixture
def x(models: Session) -> npt.NDArray[Any]:
    """The table `x`: 40 rows as blocks of 128 columns."""
    x = np.random.default_rng(1).standard_normal((40, 384)).astype(np.float32)
    models.execute(
        "drop table if exists x; create table x (block_row int, block_col int, block bytea)"
    )
    for j in range(3):
        tile = array_to_block(x[:, 128 * j : 128 * j + 128])
        models.execute("insert into x values (1, %s, %s)", [j + 1, tile])
    models.execute("analyze x, tensor, placement, page, version, model")
    return x


def test_a_join_finds_blocks_by_the_index_on_their_key(models: Session, x: object) -> None:
    plan = explained(models, STEP)
    assert re.search(r"Index (Only )?Scan using placement_pkey on placement", plan)
    assert "Function Scan on weight_grid" in plan
    assert "CTE" not in plan


def test_a_step_runs_in_parallel_with_the_same_result(models: Session, x: object) -> None:
    alone = models.execute(f"select * from ({STEP}) s order by 1, 2").fetchall()
    with models.transaction():
        for setting in (
            "parallel_setup_cost = 0", "parallel_tuple_cost = 0",
            "min_parallel_table_scan_size = 0", "max_parallel_workers_per_gather = 2",
        ):  # fmt: skip
            models.execute(f"set local {setting}")
        models.execute("alter table x set (parallel_workers = 2)")
        plan = explained(models, STEP)
        together = models.execute(f"select * from ({STEP}) s order by 1, 2").fetchall()
    launched = re.search(r"Workers Launched: (\d)", plan)
    assert launched is not None, plan
    assert int(launched[1]) > 0
    for (row, col, one), (*place, other) in zip(alone, together, strict=True):
        assert place == [row, col]
        np.testing.assert_allclose(block_to_array(other), block_to_array(one), atol=1e-5)


def test_weights_are_the_exact_tensors(models: Session) -> None:
    shapes = {
        name: tuple(shape)
        for name, shape in models.execute(
            "select tensor, shape from tensors where model = 'bert-dense'"
        )
        if name != "bundle"
    }
    [[side]] = models.execute("select block_side from model_versions where model = 'bert-dense'")
    found = {name: np.full((shape + shape)[-2:] if len(shape) > 1 else (1, *shape), np.nan)
             for name, shape in shapes.items()}  # fmt: skip
    for tensor, row, col, value in models.execute("select * from weights('bert-dense')"):
        block = block_to_array(value)
        place = found[tensor][(row - 1) * side :, (col - 1) * side :]
        place[: block.shape[0], : block.shape[1]] = block
    assert not any(np.isnan(tensor).any() for tensor in found.values())


def test_unknown_models_and_models_of_something_else_are_told(
    models: Session, tmp_path: Path
) -> None:
    load(models, str(tiny_late.write(next(iter(tiny_late.MODELS)), tmp_path)), name="late")
    load(models, str(tiny_images.write(next(iter(tiny_images.MODELS)), tmp_path)), name="image")
    for call, message in (
        ("encode_relational('a', 'nothing')", "model .nothing. does not exist"),
        ("encoder_sql('nothing')", "model .nothing. does not exist"),
        ("encode_relational('a', 'encoder-paper')", "has no tokenizer"),
        ("encode_relational('a', 'image')", "has no tokenizer"),
        ("encode_relational('a', 'late')", "a vector of every token"),
        ("encode_tensor_relational('{1}', 'encoder-paper')", "a tensor has three dimensions"),
    ):
        with pytest.raises(psycopg.Error, match=message):
            models.execute(f"select {call}")
    assert models.execute("select encode_relational(null, 'minilm')").fetchall() == [(None,)]


def test_a_text_that_is_cut_is_told(models: Session) -> None:
    notices: list[str] = []
    models.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    models.execute("select encode_relational(%s, 'bert-lowercase')", ["long " * 50])
    assert notices == ["an input was cut to the 17 tokens that bert-lowercase takes"]

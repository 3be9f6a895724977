"""A load writes a version once, whole, and only the blocks that are new."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from tiny_files import write_safetensors

from pageformer.errors import (
    DuplicateContent,
    DuplicateName,
    InvalidCheckpoint,
    InvalidInput,
    MissingGrant,
    ServerUnready,
)
from pageformer.loader.checkpoint import read
from pageformer.loader.load import Loaded, load
from pageformer.loader.safetensors_file import read_tensors
from pageformer.udfs.blocks import block_hash, widen

Connection = psycopg.Connection[Any]
TABLES = ("asset", "model", "version", "tensor", "block", "page", "placement")
QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return tiny_models.write("bert-mean", tmp_path)


def change_query(directory: Path, row: int = 0) -> None:
    """Change one number of one weight, so that one block differs."""
    path = directory / "model.safetensors"
    tensors: dict[str, Any] = {
        name: np.array(tensor.array) for name, tensor in read_tensors(path).items()
    }
    tensors[QUERY][row, 0] += 1
    write_safetensors(path, tensors)


def rows(connection: Connection) -> dict[str, int]:
    return {table: one(connection, f"select count(*) from pageformer.{table}") for table in TABLES}


def one(connection: Connection, sql: str, *values: Any) -> Any:
    row = connection.execute(sql.encode(), values).fetchone()
    assert row is not None
    return row[0]


def stored(connection: Connection, tensor: str, label: str = "v1") -> Any:
    """Put a stored tensor together from its blocks, [rows, cols] in float32."""
    shape, grid, side = connection.execute(
        "select t.shape, t.grid, v.block_side from pageformer.tensor t"
        " join pageformer.version v on v.id = t.version_id where t.name = %s and v.label = %s",
        (tensor, label),
    ).fetchall()[0]
    parts = [[block(connection, name, side) for name in names] for names in grid]
    return np.block(parts)[: shape[0], : shape[1]]


def block(connection: Connection, name: bytes, side: int) -> Any:
    form, data, slot = connection.execute(
        "select g.format, g.data, p.slot from pageformer.placement p"
        " join pageformer.page g on g.hash = p.page_hash where p.block_hash = %s",
        (name,),
    ).fetchall()[0]
    size = side * side * (4 if form == "f32" else 2)
    part = data[slot * size : (slot + 1) * size]
    assert block_hash(form, side, side, part) == name
    return widen(part, form).reshape(side, side)


@pytest.mark.parametrize("name", ["bert-mean", "bert-f16", "bert-bf16", "bert-sharded"])
def test_stored_blocks_are_the_checkpoints_weights(
    connection: Connection, tmp_path: Path, name: str
) -> None:
    directory = tiny_models.write(name, tmp_path)
    load(connection, directory, name="m")
    for tensor, weight in read(directory).weights.items():
        elements = widen(weight.array.tobytes(), weight.form)
        if weight.array.ndim == 2:
            assert np.array_equal(stored(connection, tensor), elements.reshape(weight.shape))
        else:
            offset = one(
                connection,
                "select bundle_offset from pageformer.tensor where name = %s",
                tensor,
            )
            bundle = stored(connection, "bundle").reshape(-1)
            assert np.array_equal(bundle[offset : offset + elements.size], elements)


def test_a_version_tells_what_it_is(connection: Connection, bert: Path) -> None:
    loaded = load(connection, bert, name="m")
    checkpoint = read(bert)
    row = connection.execute(
        "select v.label, v.hash, v.config, a.data, a.kind, v.format, v.block_side, v.parameters,"
        " v.parameter_bytes, v.source from pageformer.version v"
        " join pageformer.asset a on a.hash = v.tokenizer_hash"
    ).fetchone()
    assert row == (
        "v1",
        loaded.hash,
        checkpoint.config.to_json(),
        checkpoint.tokenizer,
        "tokenizer",
        "f32",
        32,
        loaded.parameters,
        4 * loaded.parameters,
        str(bert),
    )


def test_loading_the_same_bytes_again_writes_nothing_and_says_so(
    connection: Connection, bert: Path
) -> None:
    first = load(connection, bert, name="m")
    before = rows(connection), one(connection, "select pg_current_wal_insert_lsn()")
    again = load(connection, bert, name="m")
    by_label = load(connection, bert, name="m", version="v1")
    assert (rows(connection), one(connection, "select pg_current_wal_insert_lsn()")) == before
    assert again == by_label
    assert again == dataclasses.replace(
        first, unchanged=True, new_blocks=0, new_pages=0, new_bytes=0
    )
    assert str(again) == "m@v1 has exactly this content already: nothing written"


def test_the_same_bytes_under_another_name_share_every_page(
    connection: Connection, bert: Path
) -> None:
    load(connection, bert, name="m")
    other = load(connection, bert, name="n")
    assert (other.version, other.unchanged, other.deployed) == ("v1", False, True)
    assert (other.new_blocks, other.new_pages, other.new_bytes) == (0, 0, 0)
    assert other.blocks > 0


def test_a_second_version_writes_only_the_blocks_that_differ(
    connection: Connection, bert: Path
) -> None:
    first = load(connection, bert, name="m")
    change_query(bert)
    second = load(connection, bert, name="m")
    assert (second.version, second.new_blocks, second.new_pages) == ("v2", 1, 1)
    assert second.new_bytes == 32 * 32 * 4
    assert one(connection, "select count(*) from pageformer.block") == first.blocks + 1
    difference = stored(connection, "layer.0.attention.query.weight", "v2") - stored(
        connection, "layer.0.attention.query.weight"
    )
    assert np.argwhere(difference).tolist() == [[0, 0]]


def test_the_first_version_is_deployed_and_later_ones_when_asked(
    connection: Connection, bert: Path
) -> None:
    def deployed() -> Any:
        return one(
            connection,
            "select v.label from pageformer.model m join pageformer.version v"
            " on v.id = m.deployed_id",
        )

    assert load(connection, bert, name="m").deployed
    change_query(bert)
    assert not load(connection, bert, name="m").deployed
    assert deployed() == "v1"
    change_query(bert)
    assert load(connection, bert, name="m", deploy=True).deployed
    assert deployed() == "v3"
    again = load(connection, bert, name="m")
    assert (again.unchanged, again.deployed) == (True, True)


def test_a_version_that_is_there_can_be_deployed_by_loading_it(
    connection: Connection, bert: Path
) -> None:
    load(connection, bert, name="m", version="old")
    change_query(bert)
    load(connection, bert, name="m", version="new")
    loaded = load(connection, bert, name="m", deploy=True)
    assert (loaded.version, loaded.unchanged, loaded.deployed) == ("new", True, True)


def test_labels_count_on_from_the_highest(connection: Connection, bert: Path) -> None:
    labels = []
    for label in (None, "v7", "tuned", None):
        labels.append(load(connection, bert, name="m", version=label).version)
        change_query(bert)
    assert labels == ["v1", "v7", "tuned", "v8"]


def test_a_label_with_other_content_is_refused(connection: Connection, bert: Path) -> None:
    load(connection, bert, name="m", version="v1")
    before = rows(connection)
    change_query(bert)
    with pytest.raises(DuplicateName, match="m@v1 exists and has other content"):
        load(connection, bert, name="m", version="v1")
    assert rows(connection) == before


@pytest.mark.parametrize("name", ["", "a b", "m@v1", "a\n", "@"])
def test_a_name_with_a_space_or_an_at_sign_is_refused(
    connection: Connection, bert: Path, name: str
) -> None:
    with pytest.raises(InvalidInput, match="model name"):
        load(connection, bert, name=name)
    with pytest.raises(InvalidInput, match="version name"):
        load(connection, bert, name="m", version=name)


def test_a_checkpoint_that_is_refused_writes_nothing(connection: Connection, bert: Path) -> None:
    path = bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    lsn = one(connection, "select pg_current_wal_insert_lsn()")
    with pytest.raises(InvalidCheckpoint):
        load(connection, bert, name="m")
    assert one(connection, "select pg_current_wal_insert_lsn()") == lsn
    assert set(rows(connection).values()) == {0}


def test_equal_bytes_of_another_format_are_told(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(connection, tiny_models.write("bert-f16", tmp_path), name="m")
    before = rows(connection)
    monkeypatch.setattr("pageformer.loader.safetensors_file.FORMS", {"F16": "bf16"})
    monkeypatch.setattr("pageformer.loader.checkpoint.FORMS", {"F16": "bf16"})
    with pytest.raises(DuplicateContent, match="of another format or block shape") as caught:
        load(connection, tmp_path / "bert-f16", name="n")
    assert caught.value.sqlstate == "23505"
    assert rows(connection) == before


def test_progress_rises_to_the_parameter_bytes(connection: Connection, bert: Path) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(2):
        told.clear()
        loaded = load(connection, bert, name="m", progress=lambda *now: told.append(now))
        done = [now for now, _ in told]
        assert done == sorted(done)
        assert told[-1] == (4 * loaded.parameters, 4 * loaded.parameters)
        assert {total for _, total in told} == {4 * loaded.parameters}


def test_a_load_belongs_to_the_callers_transaction(database: str, bert: Path) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("select 1")
        load(connection, bert, name="m")
        connection.rollback()
        assert set(rows(connection).values()) == {0}


def test_concurrent_loads_queue_and_share_blocks(database: str, bert: Path) -> None:
    loads: list[Loaded] = []

    def run(name: str) -> None:
        with psycopg.connect(database) as connection:
            loads.append(load(connection, bert, name=name))

    threads = [threading.Thread(target=run, args=(f"m{number % 2}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    blocks = loads[0].blocks
    assert sorted(loaded.new_blocks for loaded in loads) == [0, 0, 0, 0, 0, blocks]
    assert sum(not loaded.unchanged for loaded in loads) == 2


def test_a_load_waits_for_the_one_under_way(database: str, bert: Path) -> None:
    with psycopg.connect(database) as first, psycopg.connect(database) as second:
        second.execute("set lock_timeout = '50ms'")
        second.commit()
        first.execute("select 1")
        load(first, bert, name="m")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            load(second, bert, name="n")
        second.rollback()
        first.commit()
        assert load(second, bert, name="n").new_blocks == 0


def test_an_admin_may_load_and_others_are_told_the_grant(
    connection: Connection, bert: Path
) -> None:
    connection.execute("create role loader_admin in role pageformer_admin")
    connection.execute("create role loader_user in role pageformer_user")
    try:
        connection.execute("set role loader_user")
        with pytest.raises(MissingGrant) as caught:
            load(connection, bert, name="m")
        assert caught.value.message == "role loader_user may not load models"
        assert caught.value.hint == "As a superuser: grant pageformer_admin to loader_user"
        connection.execute("set role loader_admin")
        assert load(connection, bert, name="m").deployed
    finally:
        connection.execute("reset role")
        connection.execute("drop role loader_admin, loader_user")


def test_a_database_without_pageformer_is_told(bare_database: str, bert: Path) -> None:
    with (
        psycopg.connect(bare_database) as connection,
        pytest.raises(ServerUnready, match="no pageformer schema") as caught,
    ):
        load(connection, bert, name="m")
    assert caught.value.hint == "Run: pageformer migrate"


def test_minilm_is_stored_in_little_more_than_its_parameters(minilm: str) -> None:
    with psycopg.connect(minilm) as connection:
        parameters = one(connection, "select parameter_bytes from pageformer.version")
        stored_bytes = one(
            connection,
            "select (select sum(octet_length(data)) from pageformer.page)"
            " + (select sum(octet_length(hash)) from pageformer.block)"
            " + (select sum(octet_length(block_hash) + octet_length(page_hash) + 4)"
            "    from pageformer.placement)"
            " + (select sum(pg_column_size(t)) from pageformer.tensor t)",
        )
        relations = one(
            connection,
            "select sum(pg_total_relation_size(name::regclass)) from unnest(%s::text[]) name",
            [f"pageformer.{table}" for table in TABLES],
        )
    assert stored_bytes <= 1.02 * parameters
    assert relations <= 1.06 * parameters


def test_a_model_of_135_kilobytes_takes_that_much(connection: Connection, tmp_path: Path) -> None:
    loaded = load(connection, tiny_models.write("encoder-paper", tmp_path), name="paper")
    assert loaded.new_bytes == 4 * loaded.parameters == 135_168
    assert one(connection, "select sum(octet_length(data)) from pageformer.page") == 135_168

"""`pack` moves blocks, never changes them: readers go on, and a pack that dies has done nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from test_sharing import encoded, moved, share

from pageformer.errors import InvalidInput
from pageformer.loader.load import load
from pageformer.loader.repack import Packed, repack

Connection = psycopg.Connection[Any]


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def models(connection: Connection, tmp_path: Path) -> list[str]:
    """A base, two versions that stand on it as differences, and another model."""
    base = tiny_models.write("bert-mean", tmp_path)
    load(connection, base, name="base")
    for seed in (1, 2):
        share(connection, moved(base, 0.05, seed), "delta")
    load(connection, tiny_models.write("bert-sharded", tmp_path), name="other")
    load(connection, tiny_models.write("bert-f16", tmp_path), name="half")
    rows = connection.execute("select name from pageformer.model order by id").fetchall()
    return [name for (name,) in rows]


def contents(connection: Connection, models: list[str]) -> list[Any]:
    return [
        connection.execute(
            "select * from pageformer.weights(%s) order by 1, 2, 3", [name]
        ).fetchall()
        for name in models
    ]


def pages(connection: Connection) -> set[bytes]:
    return {row[0] for row in connection.execute("select hash from pageformer.page")}


def test_packing_keeps_every_weight_and_every_vector(
    connection: Connection, models: list[str]
) -> None:
    before = contents(connection, models)
    vectors = [encoded(connection, name) for name in models]
    packed = repack(connection)
    assert packed.written
    assert packed.read_after <= packed.read_before
    assert contents(connection, models) == before
    for name, expected in zip(models, vectors, strict=True):
        assert np.array_equal(encoded(connection, name), expected)
        connection.execute("select pageformer.verify(%s)", [name])


def test_packing_twice_changes_nothing(connection: Connection, models: list[str]) -> None:
    first = repack(connection)
    there = pages(connection)
    again = repack(connection)
    assert pages(connection) == there
    assert (again.pages_before, again.pages_after) == (first.pages_after, first.pages_after)


def test_a_dry_run_tells_the_gain_and_writes_nothing(
    connection: Connection, models: list[str]
) -> None:
    there = pages(connection)
    told = repack(connection, dry_run=True)
    assert pages(connection) == there
    assert str(told).startswith("would pack ")
    done = repack(connection)
    assert (told.pages_after, told.bytes_after) == (done.pages_after, len_of(connection))


def len_of(connection: Connection) -> int:
    row = connection.execute("select sum(octet_length(data)) from pageformer.page").fetchone()
    assert row is not None
    return int(row[0])


def test_a_version_reads_no_bytes_of_others_after_packing(
    connection: Connection, tmp_path: Path
) -> None:
    """A version that shares half of another's page reads that half alone."""
    base = tiny_models.write("bert-mean", tmp_path)
    load(connection, base, name="base")
    source = moved(base, 0.0)
    change_last_layer(source)
    load(connection, source, name="changed")
    connection.execute("select pageformer.drop_version('base', 'v1')")
    packed = repack(connection)
    assert packed.read_after == packed.bytes_after < packed.read_before


def change_last_layer(directory: Path) -> None:
    from tiny_files import write_safetensors

    from pageformer.loader.safetensors_file import read_tensors

    path = directory / "model.safetensors"
    tensors: dict[str, Any] = {n: np.array(t.array) for n, t in read_tensors(path).items()}
    for name in tensors:
        if "layer.1" in name:
            tensors[name] = tensors[name] + np.float32(1)
    write_safetensors(path, tensors)


def test_readers_go_on_while_pages_are_moved(
    database: str, connection: Connection, models: list[str]
) -> None:
    expected = encoded(connection, "base")
    stop = threading.Event()
    failed: list[BaseException] = []

    def read() -> None:
        try:
            with psycopg.connect(database, autocommit=True) as reader:
                while not stop.is_set():
                    assert np.array_equal(encoded(reader, "base"), expected)
        except BaseException as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for method in ("greedy-1", "two-stage", "greedy-2"):
        repack(connection, method=method)
    stop.set()
    reader.join()
    assert not failed


def test_a_pack_that_dies_at_any_page_has_changed_nothing(
    database: str, connection: Connection, models: list[str]
) -> None:
    there, before = pages(connection), contents(connection, models)
    total = repack(connection, dry_run=True).pages_after
    for death in range(1, total + 1):
        with psycopg.connect(database) as dying, pytest.raises(psycopg.OperationalError):
            repack(dying, method="greedy-1", progress=killer(connection, dying, death))
        assert pages(connection) == there
    assert contents(connection, models) == before


def killer(connection: Connection, dying: Connection, death: int) -> Any:
    def progress(done: int, total: int) -> None:
        if done == death:
            pid = dying.info.backend_pid
            connection.execute("select pg_terminate_backend(%s, 5000)", [pid])

    return progress


def test_an_empty_database_packs_to_nothing(connection: Connection) -> None:
    assert repack(connection) == Packed(0, 0, 0, 0, 0, 0, True)


def test_an_unknown_method_is_refused(connection: Connection, models: list[str]) -> None:
    with pytest.raises(InvalidInput, match="no packing method 'best'"):
        repack(connection, method="best")

"""Tasks in tables: each array once, nothing twice, gone when nothing has it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models

from pageformer.errors import DuplicateName, InvalidInput, MissingGrant
from pageformer.loader.load import load
from pageformer.loader.tasks.store import Added, Request, write
from pageformer.udfs.tasks.task_array import TaskArray, bits, floats, size, whole

Connection = psycopg.Connection[Any]
CONFIG = '{"kind":"bitfit"}'
TABLES = ("task", "task_part", "task_array", "task_page")


@pytest.fixture
def connection(database: str, tmp_path: Path) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        load(connection, tiny_models.write("bert-mean", tmp_path), name="tiny")
        yield connection


def one(connection: Connection, sql: str, *values: Any) -> Any:
    row = connection.execute(sql.encode(), values).fetchone()
    assert row is not None
    return row[0]


def rows(connection: Connection) -> dict[str, int]:
    return {table: one(connection, f"select count(*) from pageformer.{table}") for table in TABLES}


def arrays(seed: int, count: int = 3) -> dict[str, TaskArray]:
    draw = np.random.RandomState(seed)
    names = [f"layer.{i}.attention.query/bias/difference" for i in range(count)]
    return {name: floats(draw.standard_normal(66)) for name in names}


def add(
    connection: Connection,
    arrays: dict[str, TaskArray],
    name: str = "legal",
    label: str | None = None,
    deploy: bool = False,
) -> Added:
    version = one(connection, "select id from pageformer.version where label = 'v1'")
    request = Request(version, name, label, deploy, "a test")
    return write(connection, request, "bitfit", CONFIG, arrays)


def tasks(connection: Connection, columns: str) -> list[tuple[Any, ...]]:
    query = f"select {columns} from pageformer.tasks order by task, task_version"
    return connection.execute(query.encode()).fetchall()


def read(connection: Connection, task: str) -> dict[str, TaskArray]:
    """Put a task's arrays together from its rows."""
    found = connection.execute(
        "select p.name, a.format, a.shape, a.place, a.bytes, g.data"
        " from pageformer.task t join pageformer.task_part p on p.task_id = t.id"
        " join pageformer.task_array a on a.hash = p.array_hash"
        " join pageformer.task_page g on g.hash = a.page_hash where t.name = %s",
        (task,),
    )
    return {
        name: TaskArray(form, tuple(shape), data[place : place + count])
        for name, form, shape, place, count, data in found
    }


def test_an_array_is_stored_as_its_literal_bytes() -> None:
    assert bits([[True, False, False], [False, False, False], [True, True, True]]).data == (
        b"\xc1\x01"
    )
    assert whole([1, 513], "u16").data == b"\x01\x00\x01\x02"
    assert floats([1.0]).data == b"\x00\x00\x80\x3f"
    assert floats([1.0]).hash.hex().startswith("100e2016")
    assert floats([1.0]).hash != floats([[1.0]]).hash


@pytest.mark.parametrize(
    "array",
    [
        bits(np.random.RandomState(1).rand(7, 11) > 0.5),
        whole(np.arange(70), "u16"),
        whole(np.arange(70).reshape(7, 10), "u32"),
        floats(np.arange(6.0).reshape(2, 3)),
        TaskArray("bf16", (2,), b"\x80\x3f\x00\xc0"),
        TaskArray("f16", (2,), b"\x00\x3c\x00\xc0"),
    ],
)
def test_an_array_reads_back(array: TaskArray) -> None:
    assert len(array.data) == size(array.form, array.shape)
    read = array.read()
    assert read.shape == array.shape
    again = {"bits": bits, "f32": floats}.get(array.form)
    if again:
        assert again(read) == array
    elif array.form.startswith("u"):
        assert whole(read, array.form) == array
    else:
        assert read.tolist() == [1.0, -2.0]


def test_a_task_is_stored_whole(connection: Connection) -> None:
    written = arrays(1, 40) | {"layer.0.attention.query/mask/bits": bits(np.eye(66))}
    added = add(connection, written)
    assert (added.label, added.deployed, added.unchanged) == ("v1", True, False)
    assert read(connection, "legal") == written
    assert rows(connection) == {"task": 1, "task_part": 41, "task_array": 41, "task_page": 1}
    total = sum(len(array.data) for array in written.values())
    full = one(connection, "select parameter_bytes from pageformer.version")
    columns = "model, version, task, task_version, deployed, kind, bytes, own_bytes, full_bytes"
    assert tasks(connection, columns) == [
        ("tiny", "v1", "legal", "v1", True, "bitfit", total, total, full)
    ]


def test_the_same_bytes_again_write_nothing(connection: Connection) -> None:
    first = add(connection, arrays(1))
    before = one(connection, "select pg_current_wal_insert_lsn()")
    again = add(connection, arrays(1))
    assert (again.label, again.unchanged, again.new_bytes) == (first.label, True, 0)
    assert one(connection, "select pg_current_wal_insert_lsn()") == before


def test_another_task_shares_the_arrays_that_are_equal(connection: Connection) -> None:
    add(connection, arrays(1))
    shared = dict(list(arrays(1).items())[:2])
    other = shared | {"embeddings.norm/norm/weight": floats(np.ones(66))}
    added = add(connection, other, name="toxic")
    assert added.new_bytes == 66 * 4
    assert read(connection, "toxic") == other
    assert tasks(connection, "task, bytes, own_bytes") == [
        ("legal", 3 * 264, 264),
        ("toxic", 3 * 264, 264),
    ]
    connection.execute("select pageformer.drop_task('tiny', 'legal')")
    assert read(connection, "toxic") == other
    assert rows(connection) == {"task": 1, "task_part": 3, "task_array": 3, "task_page": 2}
    connection.execute("select pageformer.drop_task('tiny', 'toxic')")
    assert set(rows(connection).values()) == {0}


def test_new_content_is_a_new_version_and_is_deployed_when_asked(connection: Connection) -> None:
    add(connection, arrays(1))
    assert not add(connection, arrays(2)).deployed
    assert add(connection, arrays(3), deploy=True).label == "v3"
    assert tasks(connection, "task_version, deployed") == [
        ("v1", False),
        ("v2", False),
        ("v3", True),
    ]
    with pytest.raises(psycopg.errors.ObjectInUse, match="deployed") as caught:
        connection.execute("select pageformer.drop_task('tiny', 'legal@v3')")
    connection.execute("select pageformer.deploy_task('tiny', 'legal', 'v1')")
    assert "deploy_task('tiny', 'legal', 'v1')" in str(caught.value.diag.message_hint)
    connection.execute("select pageformer.drop_task('tiny@v1', 'legal@v3')")
    assert tasks(connection, "task_version, deployed") == [("v1", True), ("v2", False)]
    connection.execute("select pageformer.drop_task('tiny', 'legal')")
    assert tasks(connection, "task") == []


def test_a_label_keeps_its_content(connection: Connection) -> None:
    add(connection, arrays(1), label="june")
    with pytest.raises(DuplicateName, match="legal@june exists"):
        add(connection, arrays(2), label="june")
    assert add(connection, arrays(1), label="july").label == "july"
    assert rows(connection)["task_array"] == 3


def test_a_bad_name_is_refused(connection: Connection) -> None:
    for name in ("", "a b", "a@b"):
        with pytest.raises(InvalidInput, match="task name"):
            add(connection, arrays(1), name=name)


def test_an_unknown_task_is_told_with_those_that_there_are(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedObject, match='no task "legal"') as caught:
        connection.execute("select pageformer.drop_task('tiny', 'legal')")
    assert "pageformer task add" in str(caught.value.diag.message_hint)
    add(connection, arrays(1))
    with pytest.raises(psycopg.errors.UndefinedObject) as caught:
        connection.execute("select pageformer.drop_task('tiny', 'other')")
    assert caught.value.diag.message_hint == "its tasks: legal@v1"


def test_a_version_stays_while_tasks_edit_it(connection: Connection) -> None:
    add(connection, arrays(1))
    drop = "select pageformer.drop_version('tiny', 'v1')"
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="tasks edit") as caught:
        connection.execute(drop)
    assert "drop_task('tiny@v1', 'legal')" in str(caught.value.diag.message_hint)
    connection.execute("select pageformer.drop_task('tiny@v1', 'legal')")
    connection.execute(drop)


def test_two_that_add_at_once_store_each_array_once(connection: Connection, database: str) -> None:
    def add_one(name: str) -> None:
        with psycopg.connect(database, autocommit=True) as own:
            add(own, arrays(1, 20), name=name)

    threads = [threading.Thread(target=add_one, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(connection) == {"task": 4, "task_part": 80, "task_array": 20, "task_page": 1}


def test_who_may_add_drop_and_see(connection: Connection, database: str) -> None:
    add(connection, arrays(1))
    connection.execute("create role task_user login; create role task_admin login")
    connection.execute("grant pageformer_admin to task_admin")
    try:
        with psycopg.connect(database, user="task_user", autocommit=True) as user:
            assert tasks(user, "task") == []
            for statement in (
                "select pageformer.drop_task('tiny', 'legal')",
                "select * from pageformer.task_page",
                "select * from pageformer.task_array",
                "select * from pageformer.task_part",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    user.execute(statement.encode())
            with pytest.raises(MissingGrant, match="task_user may not add tasks"):
                add(user, arrays(2))
            connection.execute("select pageformer.grant_use('tiny', 'task_user')")
            assert tasks(user, "task") == [("legal",)]
        with psycopg.connect(database, user="task_admin", autocommit=True) as admin:
            add(admin, arrays(2), deploy=True)
            admin.execute("select pageformer.drop_task('tiny', 'legal')")
    finally:
        connection.execute("drop role task_user, task_admin")

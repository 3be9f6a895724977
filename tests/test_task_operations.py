"""Tasks in a project's revisions, on the command line, in a dump, and while others compute."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, create_engine
from test_cli import Run, failed, run
from test_dump import restore
from test_migrations import empty_database

from pageformer.cluster import Cluster
from pageformer.loader.load import load
from pageformer.loader.tasks.add import Source, add
from pageformer.migrations.operations import DeployTask, DropTask, LoadTask

__all__ = ["run"]  # a fixture

SAVED = Path(__file__).parent / "reference" / "tasks"
LORA = SAVED / "peft" / "bert-sequence" / "lora"
HOULSBY = SAVED / "adapters" / "bert-sequence" / "houlsby"
ENCODE = "select pageformer.encode('a text', 'tiny', task => 'legal')::text"
TEXTS = "array(select 'text ' || n from generate_series(1, 3000) n)"

Session = psycopg.Connection[Any]


@pytest.fixture
def tiny(database: str, tmp_path: Path) -> str:
    """A database with a model to add tasks to."""
    with psycopg.connect(database, autocommit=True) as session:
        load(session, tiny_models.write("bert-sequence", tmp_path), name="tiny")
    return database


@pytest.fixture
def session(tiny: str) -> Iterator[Session]:
    with psycopg.connect(tiny, autocommit=True) as session:
        add(session, Source(str(LORA)), model="tiny", name="legal")
        yield session


def rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn) as session:
        return session.execute(query.encode()).fetchall()


# -- revisions ------------------------------------------------------------------------------------


@pytest.fixture
def connection(tiny: str) -> Iterator[Connection]:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(tiny), poolclass=NullPool
    )
    with engine.connect() as connection:
        yield connection


def test_a_task_is_loaded_by_hash_and_dropped_on_the_way_back(
    tiny: str, connection: Connection, session: Session
) -> None:
    [(digest,)] = rows(tiny, "select hash from pageformer.tasks")
    session.execute("select pageformer.drop_task('tiny', 'legal')")
    op: Any = Operations(MigrationContext.configure(connection))
    loaded = LoadTask("tiny", "legal", "june", str(LORA), digest)
    with connection.begin():
        op.invoke(loaded)
        op.invoke(loaded)
    shown = "select task, task_version, deployed, kind from pageformer.tasks"
    assert rows(tiny, shown) == [("legal", "june", True, "lora")]
    moved = LoadTask("tiny", "legal", "june", "nowhere", digest)
    reverse = loaded.reverse()
    assert isinstance(reverse, DropTask)
    assert reverse.reverse() == loaded
    with connection.begin():
        op.invoke(moved)  # what is there needs no files
        op.invoke(reverse)
    assert rows(tiny, shown) == []


def test_files_of_other_content_are_refused_and_nothing_is_kept(
    tiny: str, connection: Connection
) -> None:
    op: Any = Operations(MigrationContext.configure(connection))
    refused = pytest.raises(CommandError, match="and the revision wants 000000000000")
    with connection.begin(), refused:
        op.load_task("tiny", "legal", "v1", source=str(HOULSBY), sha256="0" * 64)
    assert rows(tiny, "select count(*) from pageformer.task_page") == [(0,)]


def test_a_deploy_goes_back_to_the_version_before(
    tiny: str, connection: Connection, session: Session
) -> None:
    add(session, Source(str(HOULSBY)), model="tiny", name="legal")
    op: Any = Operations(MigrationContext.configure(connection))
    deploy = DeployTask("tiny", "legal", "v2", "v1")
    deployed = "select task_version from pageformer.tasks where deployed"
    with connection.begin():
        op.invoke(deploy)
    assert rows(tiny, deployed) == [("v2",)]
    with connection.begin():
        op.invoke(deploy.reverse())
    assert rows(tiny, deployed) == [("v1",)]


def test_offline_the_step_that_adds_is_named_and_the_rest_is_written(tiny: str) -> None:
    output = StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": output}
    )
    op: Any = Operations(context)
    op.load_task("tiny", "legal", "v1", source="tuned", sha256="0" * 64, kind="diff")
    op.deploy_task("tiny", "legal", "v1", previous="v0")
    op.drop_task("tiny", "legal", "v0", source="tuned", sha256="0" * 64)
    script = output.getvalue()
    assert (
        "pageformer task add legal --model tiny --from-checkpoint tuned --kind diff --version v1"
        in script
    )
    assert "select pageformer.deploy_task('tiny', 'legal', 'v1')" in script
    assert "select pageformer.drop_task('tiny', 'legal@v0')" in script
    with psycopg.connect(tiny) as session, pytest.raises(psycopg.Error, match="has no task"):
        session.execute(script.encode())


# -- the command line -----------------------------------------------------------------------------


def test_a_task_from_the_command_line(run: Run, tiny: str) -> None:
    at = ("--model", "tiny", "--dsn", tiny)
    given = ("task", "add", "legal", *at, str(LORA), "--labels", "a,b,c", "--scores", "sigmoid")
    done = run(*given)
    assert done.stdout.startswith("legal@v1 added: "), done.stderr
    answers = rows(tiny, "select label from pageformer.classify('a', 'tiny', task => 'legal')")
    assert sorted(answers) == [("a",), ("b",), ("c",)]
    assert run(*given).stdout == "legal@v1 has exactly this content already: nothing written\n"
    assert "legal@v2 added" in run("task", "add", "legal", *at, str(HOULSBY)).stdout
    listed = run("task", "list", "--dsn", tiny).stdout.splitlines()
    assert listed[0].split("  ")[0] == "task"
    assert [line.split()[:4] for line in listed[1:]] == [
        ["legal@v1", "tiny@v1", "yes", "lora"],
        ["legal@v2", "tiny@v1", "double_seq_bn", listed[2].split()[3]],
    ]
    assert "is legal@v2 now" in run("task", "deploy", "legal", "v2", *at).stdout
    assert "kind           double_seq_bn" in run("task", "show", "legal@v2", *at).stdout
    assert run("task", "drop", "legal@v1", *at).stdout == "dropped legal@v1 of tiny\n"
    assert run("task", "drop", "legal", *at).stdout == "dropped legal of tiny\n"
    assert failed(run("task", "show", "legal", *at), "tiny has no task", "pageformer task list")


def test_what_the_command_line_was_not_told(run: Run, tiny: str, tmp_path: Path) -> None:
    at = ("--model", "tiny", "--dsn", tiny)
    wanted = "give either the directory of an adapter, or --from-checkpoint with --kind"
    assert failed(run("task", "add", "legal", *at), wanted, "pageformer task add")
    assert failed(run("task", "add", "legal", *at, str(tmp_path)), "adapter_config.json", "PEFT")
    same = ("--from-checkpoint", str(tmp_path / "bert-sequence"), "--kind", "diff")
    assert "is equal to tiny@v1" in run("task", "add", "legal", *at, *same).stderr


# -- dumps, statements in flight ------------------------------------------------------------------


def test_a_dump_holds_tasks(cluster: Cluster, tiny: str, session: Session) -> None:
    vector = rows(tiny, ENCODE)
    done = subprocess.run([cluster.bin / "pg_dump", tiny], capture_output=True, check=True)
    restored = empty_database(cluster, "restored_tasks")
    assert restore(cluster, restored, done.stdout) == ""
    assert rows(restored, ENCODE) == vector
    with psycopg.connect(restored, autocommit=True) as other:
        assert add(other, Source(str(LORA)), model="tiny", name="legal").unchanged
        other.execute("select pageformer.drop_task('tiny', 'legal')")
    with psycopg.connect(cluster.dsn_of("postgres"), autocommit=True) as other:
        other.execute("drop database restored_tasks with (force)")


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start work; its answer, or what it raised, stands in the list when it is done."""
    answer: list[Any] = []

    def keep() -> None:
        try:
            answer.append(work())
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=keep)
    thread.start()
    return thread, answer


def test_a_drop_breaks_no_statement_in_flight(tiny: str, session: Session) -> None:
    """It is committed in the middle of a statement, which answers as if nothing had happened."""
    batch = (
        f"select array_agg(v::text) from unnest(pageformer.encode_batch({TEXTS}, 'tiny',"
        " task => 'legal')) v"
    )
    expected = rows(tiny, batch)
    begun = (
        "select count(*) from pg_stat_activity where query like 'select array_agg(v%'"
        " and state = 'active' and pid <> pg_backend_pid()"
    )
    thread, answer = in_thread(lambda: rows(tiny, batch))
    while rows(tiny, begun) == [(0,)] and thread.is_alive():
        pass
    session.execute("select pageformer.drop_task('tiny', 'legal')")
    was_running = thread.is_alive()
    thread.join()
    assert answer == [expected]
    assert was_running
    with pytest.raises(psycopg.Error, match='no task "legal"'):
        session.execute(ENCODE)


def test_encode_waits_for_no_drop_and_no_add(tiny: str, session: Session) -> None:
    """Uncommitted, either holds all its locks; others encode with what was there before."""
    before = rows(tiny, ENCODE)
    with psycopg.connect(tiny) as other:
        other.execute("select pageformer.drop_task('tiny', 'legal')")
        session.execute("set lock_timeout = '2s'")
        assert session.execute(ENCODE.encode()).fetchall() == before
        other.rollback()
        add(other, Source(str(HOULSBY)), model="tiny", name="legal", deploy=True)
        assert session.execute(ENCODE.encode()).fetchall() == before
        other.commit()
    assert session.execute(ENCODE.encode()).fetchall() != before

"""Columns of vectors that follow a model: filled, brought up to date, whatever interrupts it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from noted_writes import DOCUMENTS
from tuned_models import tune

from pageformer.cluster import Cluster
from pageformer.embed import embed
from pageformer.embedded_column import Request, known
from pageformer.errors import InvalidInput, NotBuilt, ServerUnready, UnknownName
from pageformer.loader.load import load

DOC = Request("doc", "body", "embedding", "tiny")
PROGRAM = Path(sys.executable).parent / "pageformer"

Session = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model and a fine-tune of it."""
    folder = tmp_path_factory.mktemp("models")
    first = tiny_models.write("bert-mean", folder)
    return first, tune(first, folder / "tuned")


@pytest.fixture
def session(database: str, models: tuple[Path, Path]) -> Iterator[Session]:
    """A database with two versions of `tiny` and a table of a hundred texts."""
    with psycopg.connect(database, autocommit=True) as session:
        prepare(session, models)
        yield session


def prepare(session: Session, models: tuple[Path, Path]) -> None:
    for directory in models:
        load(session, directory, name="tiny")
    session.execute(DOCUMENTS)
    session.execute("insert into doc select n, 'text number ' || n from generate_series(1, 100) n")


def rows(session: Session, query: str) -> list[Any]:
    return session.execute(query).fetchall()  # type: ignore[arg-type]


def value(session: Session, query: str) -> Any:
    [(answer,)] = rows(session, query)
    return answer


def state(session: Session) -> Any:
    """Tell made_by, texts, missing and stale of the only embedded column."""
    [row] = rows(session, "select made_by, texts, missing, stale from pageformer.embedded_columns")
    return row


def vectors(session: Session) -> list[Any]:
    return rows(session, "select id, embedding::text from doc order by id")


def encoded(session: Session, version: str) -> list[Any]:
    """What the rows should hold, but for the last bits that differ between batches."""
    query = f"select pageformer.encode(body, 'tiny@{version}') <-> embedding from doc"
    return [distance for (distance,) in rows(session, query)]


def written(session: Session) -> list[int]:
    return [id for (id,) in rows(session, "select id from written order by id")]


# -- what it writes -------------------------------------------------------------------------------


def test_every_row_is_written_once_with_the_vector_of_its_text(session: Session) -> None:
    assert embed(session.info.dsn, DOC, batch=30) == 100
    assert written(session) == list(range(1, 101))
    assert max(encoded(session, "v1")) < 1e-5
    assert state(session) == ("v1", 100, 0, 0)
    assert embed(session.info.dsn, DOC) == 0
    assert len(written(session)) == 100


def test_several_workers_write_the_same_bits(session: Session) -> None:
    embed(session.info.dsn, DOC, batch=7)
    alone = vectors(session)
    session.execute("update doc set embedding = null; truncate written")
    assert embed(session.info.dsn, DOC, batch=7, workers=4) == 100
    assert vectors(session) == alone
    assert written(session) == list(range(1, 101))


def test_progress_counts_every_text(session: Session) -> None:
    told: list[tuple[int, int]] = []
    embed(session.info.dsn, DOC, batch=30, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 100), (30, 100), (60, 100), (90, 100), (100, 100)]


def test_a_condition_chooses_rows(session: Session) -> None:
    chosen = Request("doc", "body", "embedding", "tiny", where="doc.id <= 10 and body like '%1'")
    assert embed(session.info.dsn, chosen) == 1
    assert state(session) == ("v1", 100, 99, 0)


def test_rows_without_text_stay_without_vector(session: Session) -> None:
    session.execute("update doc set body = null where id > 4")
    assert embed(session.info.dsn, DOC) == 4
    assert state(session) == ("v1", 4, 0, 0)


def test_a_key_of_several_columns_in_a_schema_with_awkward_names(session: Session) -> None:
    session.execute(
        """
        create schema "My schema";
        create table "My schema"."Doc's" (
            "at" timestamptz, kind varchar(9), key text, "Body" text, "%s {}" vector(96),
            primary key ("at", kind, key)
        );
        insert into "My schema"."Doc's"
        select timestamptz '2024-01-01' + n * interval '1 hour', 'a''"', '{x, NULL}', 'text ' || n
        from generate_series(1, 20) n
        """
    )
    table = '"My schema"."Doc\'s"'
    request = Request(table, "Body", "%s {}", "tiny", follow=True)
    assert embed(session.info.dsn, request, batch=6, workers=2) == 20
    session.execute("set timezone = 'Asia/Tokyo'; set datestyle = 'German'")
    assert state(session) == ("v1", 20, 0, 0)
    session.execute(f"update {table} set \"Body\" = 'b' where \"at\" < '2024-01-01 05:30+00'")  # type: ignore[arg-type]
    assert state(session) == ("v1", 20, 0, 5)
    assert embed(session.info.dsn, request) == 5


def test_a_partitioned_table_is_followed(session: Session) -> None:
    session.execute(
        """
        create table part (id integer primary key, body text, embedding vector)
            partition by range (id);
        create table part_1 partition of part for values from (1) to (10);
        create table part_2 partition of part for values from (10) to (20);
        insert into part select n, 'text ' || n from generate_series(1, 19) n
        """
    )
    request = Request("part", "body", "embedding", "tiny", follow=True)
    assert embed(session.info.dsn, request) == 19
    session.execute("update part set body = 'other' where id in (3, 13)")
    assert embed(session.info.dsn, request) == 2


# -- what is stale --------------------------------------------------------------------------------


def test_after_a_deploy_every_row_is_stale_and_after_a_rollback_none(session: Session) -> None:
    embed(session.info.dsn, DOC)
    first = vectors(session)
    with session.transaction(force_rollback=True):
        session.execute("select pageformer.deploy('tiny', 'v2')")
        assert state(session) == ("v1", 100, 0, 100)
    assert state(session) == ("v1", 100, 0, 0)
    session.execute("select pageformer.deploy('tiny', 'v2')")
    embed(session.info.dsn, Request("doc", "body", "embedding", "tiny", where="id <= 50"))
    assert state(session) == ("v1, v2", 100, 0, 50)
    [request] = known(session)
    assert embed(session.info.dsn, request) == 50
    assert max(encoded(session, "v2")) < 1e-5
    session.execute("select pageformer.deploy('tiny', 'v1')")
    assert embed(session.info.dsn, request) == 100
    assert vectors(session) == first


def test_a_followed_row_is_stale_once_its_text_changes(session: Session) -> None:
    embed(session.info.dsn, Request("doc", "body", "embedding", "tiny", follow=True))
    session.execute("truncate written; update doc set body = body where id < 50")
    assert state(session) == ("v1", 100, 0, 0)
    session.execute("update doc set body = 'changed' where id = 7")
    session.execute("update doc set id = 200 where id = 8")
    session.execute("delete from doc where id = 9; insert into doc values (9, 'new')")
    assert state(session) == ("v1", 100, 1, 2)
    assert embed(session.info.dsn, DOC) == 3
    assert written(session) == [7, 9, 200]


def test_a_change_that_is_rolled_back_is_none(session: Session) -> None:
    embed(session.info.dsn, Request("doc", "body", "embedding", "tiny", follow=True))
    with session.transaction(force_rollback=True):
        session.execute("update doc set body = 'changed'")
        assert state(session) == (None, 100, 0, 100)
    assert state(session) == ("v1", 100, 0, 0)


def test_a_row_that_changes_while_it_is_encoded_gets_the_vector_of_what_it_holds(
    session: Session,
) -> None:
    """The batch waits for a writer's lock, and reads the text that the writer left."""
    follow = Request("doc", "body", "embedding", "tiny", follow=True)
    embed(session.info.dsn, Request("doc", "body", "embedding", "tiny", "id > 3", follow=True))
    with psycopg.connect(session.info.dsn) as writer:
        writer.execute("update doc set body = 'changed' where id = 2")
        working = threading.Thread(target=embed, args=(session.info.dsn, follow))
        working.start()
        while not value(session, "select count(*) from pg_locks where not granted"):
            assert working.is_alive()
        writer.commit()
        working.join()
    assert max(encoded(session, "v1")) < 1e-5
    assert state(session) == ("v1", 100, 0, 0)


def test_another_input_or_model_makes_all_rows_stale(
    session: Session, models: tuple[Path, Path]
) -> None:
    embed(session.info.dsn, DOC)
    session.execute("alter table doc add title text default 'a title'")
    assert embed(session.info.dsn, Request("doc", "title", "embedding", "tiny")) == 100
    load(session, models[1], name="other")
    assert embed(session.info.dsn, Request("doc", "title", "embedding", "other")) == 100
    assert value(session, "select model from pageformer.embedded_columns") == "other"


def test_a_column_that_is_gone_is_not_shown(session: Session) -> None:
    embed(session.info.dsn, DOC)
    session.execute("drop table doc")
    assert rows(session, "select * from pageformer.embedded_columns") == []


# -- dimensions and spaces ------------------------------------------------------------------------


def test_a_version_of_another_dimension_is_not_deployed_over_columns_that_follow(
    session: Session, tmp_path: Path
) -> None:
    session.execute("drop trigger note on doc")
    session.execute("alter table doc alter column embedding type vector(96)")
    embed(session.info.dsn, DOC)
    wide = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 0}
    tiny_models.ENCODERS["wide"] = wide
    load(session, tiny_models.write("wide", tmp_path), name="tiny", version="wide")
    deploys = "select pageformer.deploy('tiny', 'wide')"
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        session.execute(deploys)
    told = refused.value.diag
    assert told.message_primary == (
        "tiny@wide makes vectors of 64 dimensions; columns that follow tiny: "
        "public.doc.embedding vector(96)"
    )
    assert "type vector(64) using null" in str(told.message_hint)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        load(session, tmp_path / "wide", name="tiny", version="wide", deploy=True)
    session.execute("alter table doc alter column embedding type vector(64) using null")
    session.execute(deploys)


def test_same_space_compares_the_versions_that_made_a_column(session: Session) -> None:
    def same(model: str) -> Any:
        return value(session, f"select pageformer.same_space('doc.embedding', '{model}')")

    embed(session.info.dsn, DOC)
    assert (same("tiny"), same("tiny@v1"), same("tiny@v2")) == (True, True, False)
    session.execute("select pageformer.deploy('tiny', 'v2')")
    assert (same("tiny"), same("tiny@v1")) == (False, True)
    embed(session.info.dsn, Request("doc", "body", "embedding", "tiny", where="id = 1"))
    assert (same("tiny"), same("tiny@v1")) == (False, False)
    embed(session.info.dsn, DOC)
    assert (same("tiny"), same("tiny@v1")) == (True, False)
    with pytest.raises(psycopg.errors.UndefinedColumn, match=r"nothing is known of how doc\.body"):
        session.execute("select pageformer.same_space('doc.body', 'tiny')")


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error", "told"),
    [
        (Request("nothing", "body", "embedding", "tiny"), UnknownName, "no table nothing"),
        (Request("doc", "nothing", "embedding", "tiny"), UnknownName, "no column nothing"),
        (Request("doc", "body", "nothing", "tiny"), UnknownName, "no column nothing"),
        (Request("doc", "body", "embedding", "nothing"), UnknownName, 'no model "nothing"'),
        (Request("doc", "body", "embedding", "tiny@v1"), NotBuilt, "tiny@v1 never moves"),
        (Request("doc", "id", "embedding", "tiny"), InvalidInput, "type int4, not text"),
        (Request("doc", "body", "id", "tiny"), InvalidInput, "column id is of type int4"),
        (Request("doc", "body", "made", "tiny"), InvalidInput, "column made is generated"),
        (Request("doc", "body", "short", "tiny"), InvalidInput, r"short is a vector\(3\), and"),
        (Request("keyless", "body", "v", "tiny"), InvalidInput, "keyless has no primary key"),
        (Request("seen", "body", "embedding", "tiny"), InvalidInput, "seen is no table"),
    ],
)
def test_what_cannot_be_embedded_is_told(
    session: Session, request_: Request, error: type[Exception], told: str
) -> None:
    session.execute("alter table doc add short vector(3), add made vector generated always as "
                    "(embedding) stored")  # fmt: skip
    session.execute("create table keyless (body text, v vector); create view seen as table doc")
    with pytest.raises(error, match=told):
        embed(session.info.dsn, request_)
    assert rows(session, "select * from pageformer.embedded_columns") == []


def test_a_column_is_embedded_by_one_at_a_time(session: Session) -> None:
    embed(session.info.dsn, DOC)
    session.execute("select pg_advisory_lock(hashtext('pageformer.embed'), 1)")
    with pytest.raises(InvalidInput, match=r"doc\.embedding is being embedded already"):
        embed(session.info.dsn, DOC)


def test_who_owns_a_table_embeds_it_and_sees_no_others(session: Session, cluster: Cluster) -> None:
    session.execute("create role writer login; create role onlooker login")
    try:
        session.execute("grant all on schema public to writer; grant insert on written to writer")
        session.execute("select pageformer.grant_use('tiny', 'writer')")
        embed(session.info.dsn, DOC)
        session.execute(
            "create table own (like doc including all); alter table own owner to writer"
        )
        session.execute("insert into own select id, body from doc")
        dsn = f"{session.info.dsn} user=writer"
        assert embed(dsn, Request("own", "body", "embedding", "tiny", follow=True)) == 100
        shown = 'select "table", stale from pageformer.embedded_columns'
        with psycopg.connect(dsn, autocommit=True) as writer:
            assert rows(writer, shown) == [("own", 0)]
            writer.execute("update own set body = 'changed' where id = 1")
            assert rows(writer, shown) == [("own", 1)]
            assert value(writer, "select count(*) from pageformer.embedded_row") == 99
            assert writer.execute("delete from pageformer.embedded_column").rowcount == 1
        with psycopg.connect(f"{session.info.dsn} user=onlooker") as onlooker:
            assert rows(onlooker, shown) == []
            assert value(onlooker, "select count(*) from pageformer.embedded_row") == 0
        assert state(session) == ("v1", 100, 0, 0)
    finally:
        session.execute("drop owned by writer, onlooker; drop role writer, onlooker")


# -- interruptions --------------------------------------------------------------------------------


def slow_down(session: Session) -> None:
    """Let each row take as long as a text of some hundred words."""
    session.execute(
        "create or replace function wait() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.05); return new; end $$;"
        "create trigger wait before update of embedding on doc for each row execute function wait()"
    )


def start(dsn: str, *options: str) -> subprocess.Popen[str]:
    arguments = ["--table", "doc", "--column", "body", "--into", "embedding", "--model", "tiny"]
    return subprocess.Popen(
        [PROGRAM, "embed", *arguments, "--batch=2", "--dsn", dsn, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip


def wait_for_rows(session: Session, count: int, working: subprocess.Popen[str]) -> None:
    """Wait until some rows are written; after `slow_down`, the others are not by then."""
    while value(session, "select count(embedding) from doc") < count:
        assert working.poll() is None


def finish(session: Session) -> None:
    """Go on, at full speed, and see that each row was written once and remembered."""
    session.execute("drop trigger if exists wait on doc")
    kept = value(session, "select count(embedding) from doc")
    assert kept == value(session, "select count(*) from pageformer.embedded_row")
    assert embed(session.info.dsn, DOC) == 100 - kept
    assert written(session) == list(range(1, 101))
    assert state(session) == ("v1", 100, 0, 0)


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("workers", [1, 3])
def test_an_interrupted_run_goes_on(session: Session, signal_: int, workers: int) -> None:
    slow_down(session)
    working = start(session.info.dsn, f"--workers={workers}")
    wait_for_rows(session, 6, working)
    os.kill(working.pid, signal_)
    working.communicate()
    if signal_ == signal.SIGINT:
        assert working.returncode == 130
    waiting = "select count(*) from pg_stat_activity where application_name = 'pageformer'"
    while value(session, waiting):
        pass
    finish(session)


def test_a_restart_of_the_server_loses_the_batch_in_flight(
    own_cluster: Cluster, models: tuple[Path, Path]
) -> None:
    with psycopg.connect(own_cluster.dsn, autocommit=True) as session:
        # Test clusters commit without waiting for the log; here the log is what is tested.
        session.execute("alter database pageformer set synchronous_commit = on")
        session.execute("set synchronous_commit = on")
        prepare(session, models)
        slow_down(session)
        working = start(own_cluster.dsn)
        wait_for_rows(session, 6, working)
    own_cluster.stop("immediate")
    _, told = working.communicate()
    assert working.returncode == 1
    assert told.splitlines()[-1] == "hint: run this again: it goes on where it stopped"
    own_cluster.start(own_cluster.site)
    with psycopg.connect(own_cluster.dsn, autocommit=True) as session:
        finish(session)


def test_a_server_that_goes_away_is_told(session: Session) -> None:
    session.execute(
        "create function kill() returns trigger language plpgsql as "
        "$$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;"
        "create trigger kill before update on doc for each row when (new.id = 50) "
        "execute function kill()"
    )
    with pytest.raises(ServerUnready, match="the server went away"):
        embed(session.info.dsn, DOC, batch=20)
    session.execute("drop trigger kill on doc")
    finish(session)


def test_the_command_brings_every_known_column_up_to_date(session: Session) -> None:
    done = start(session.info.dsn, "--follow", "--where", "id > 1").communicate()
    assert done == ("doc.embedding: 99 texts encoded with tiny\n", "")
    session.execute("select pageformer.deploy('tiny', 'v2')")
    stale = subprocess.run(
        [PROGRAM, "embed", "--stale", "--dsn", session.info.dsn],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert stale.stdout == "doc.embedding: 100 texts encoded with tiny\n"
    assert state(session) == ("v2", 100, 0, 0)


def test_a_model_that_goes_tells_of_the_columns_that_follow_it(
    session: Session, database: str
) -> None:
    embed(database, DOC)
    told: list[str | None] = []
    session.add_notice_handler(lambda notice: told.append(notice.message_primary))
    session.execute("select pageformer.drop_version('tiny', 'v2')")
    assert told == []
    session.execute("select pageformer.drop_version('tiny', 'v1')")
    assert told == ["the model goes, and with it what is known of public.doc.embedding"]
    kept = session.execute("select count(*) from doc where embedding is not null").fetchone()
    assert kept == (100,)

"""Installing, taking back and uninstalling: what is there afterwards, and what is left alone.

The schema is compared with `expected_schema.txt`; after a change that is meant, write it anew with
`EXPECTED_SCHEMA=write .venv/bin/python -m pytest tests/test_migrations.py -k expected`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import tiny_models
from conftest import create_database, drop_database
from temporary_cluster import temporary_cluster

from pageformer.cluster import Cluster
from pageformer.errors import ObjectsInUse, RefusedByServer, ServerUnready
from pageformer.loader.load import load
from pageformer.migrations import install, parts

FACTS = Path(__file__).with_name("schema_facts.sql")
EXPECTED = Path(__file__).with_name("expected_schema.txt")


def query(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def facts(dsn: str) -> str:
    with psycopg.connect(dsn, options="-c search_path=pg_catalog") as connection:
        lines = connection.execute(FACTS.read_text()).fetchall()
    return "".join(f"{line}\n" for (line,) in lines)


def dumped(cluster: Cluster, dsn: str) -> list[str]:
    """Dump the schema; `\\restrict` lines hold a random word."""
    done = subprocess.run(
        [cluster.bin / "pg_dump", "--schema-only", dsn], capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.splitlines() if "restrict " not in line]


def names(dsn: str, catalog: str) -> set[object]:
    column = {"pg_extension": "extname", "pg_namespace": "nspname", "pg_roles": "rolname"}[catalog]
    return {name for (name,) in query(dsn, f"select {column} from {catalog}")}


def ours(dsn: str, catalog: str) -> set[object]:
    return {name for name in names(dsn, catalog) if str(name).startswith("pageformer")}


def in_processes(action: str, dsns: list[str]) -> None:
    """Install or uninstall several databases at once."""
    code = f"import sys; from pageformer.migrations import install; install.{action}(sys.argv[1])"
    started = [subprocess.Popen([sys.executable, "-c", code, dsn]) for dsn in dsns]
    assert [process.wait() for process in started] == [0] * len(dsns)


def empty_database(cluster: Cluster, name: str) -> str:
    query(cluster.dsn_of("postgres"), f"create database {name} template template0")
    return cluster.dsn_of(name)


@pytest.fixture(scope="module")
def lone_cluster() -> Iterator[Cluster]:
    """A cluster where no database has Pageformer, so that its roles can come and go."""
    with temporary_cluster() as lone:
        yield lone


@pytest.fixture
def ordinary_role(cluster: Cluster) -> Iterator[str]:
    dsn = cluster.dsn_of("postgres")
    query(dsn, "create role bare_owner login")
    yield "bare_owner"
    query(dsn, "drop role bare_owner")


# -- what an install makes ------------------------------------------------------------------------


def test_an_install_makes_the_expected_schema(bare_database: str) -> None:
    install.upgrade(bare_database)
    found = facts(bare_database)
    if os.environ.get("EXPECTED_SCHEMA") == "write":
        EXPECTED.write_text(found)
    assert found == EXPECTED.read_text()


def test_down_to_base_and_up_again_makes_the_same_schema(database: str) -> None:
    before = facts(database)
    install.downgrade(database, "base")
    left = query(
        database, "select relname from pg_class where relnamespace = 'pageformer'::regnamespace"
    )
    assert left == [("alembic_version",), ("alembic_version_pkc",)]
    assert query(database, "select * from pageformer.alembic_version") == []
    install.upgrade(database)
    assert facts(database) == before


def test_installing_again_changes_nothing(cluster: Cluster, database: str) -> None:
    before = dumped(cluster, database)
    install.upgrade(database)
    assert dumped(cluster, database) == before


def test_offline_sql_through_psql_makes_the_same_schema(
    cluster: Cluster, bare_database: str, database: str
) -> None:
    subprocess.run(
        [cluster.bin / "psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", bare_database],
        input=install.offline_sql(), text=True, check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert dumped(cluster, bare_database) == dumped(cluster, database)
    assert query(bare_database, "table pageformer.setting") == query(
        database, "table pageformer.setting"
    )
    install.upgrade(bare_database)
    assert dumped(cluster, bare_database) == dumped(cluster, database)


def test_pgvector_may_live_in_any_schema(bare_database: str, tmp_path: Path) -> None:
    query(bare_database, "create schema elsewhere; create extension vector schema elsewhere")
    install.upgrade(bare_database)
    with psycopg.connect(bare_database) as connection:
        load(connection, tiny_models.write("bert-mean", tmp_path), name="tiny")
    [(kind, text)] = query(
        bare_database,
        "select pg_typeof(vector)::text, vector::text = "
        "(pageformer.encode_batch(array['a'], 'tiny'))[1]::text "
        "from pageformer.encode('a', 'tiny') vector",
    )
    assert (kind, text) == ("elsewhere.vector", True)
    install.uninstall(bare_database)
    assert names(bare_database, "pg_extension") == {"plpgsql", "vector"}


def test_pgvector_may_live_in_our_schema(bare_database: str) -> None:
    query(bare_database, "create schema pageformer; create extension vector schema pageformer")
    install.upgrade(bare_database)
    install.downgrade(bare_database, "base")
    query(bare_database, "create table doc (embedding pageformer.vector)")
    with pytest.raises(ObjectsInUse, match="extension vector depends on schema pageformer"):
        install.uninstall(bare_database)
    assert query(bare_database, "table doc") == []


def test_two_databases_of_a_cluster_can_be_installed_at_once(lone_cluster: Cluster) -> None:
    dsns = [empty_database(lone_cluster, f"at_once_{number}") for number in range(3)]
    in_processes("upgrade", dsns)
    assert [facts(dsn) for dsn in dsns] == [EXPECTED.read_text()] * 3
    in_processes("uninstall", dsns)
    assert [ours(dsn, "pg_namespace") for dsn in dsns] == [set()] * 3
    assert ours(dsns[0], "pg_roles") == set()


def test_a_failing_install_leaves_nothing(bare_database: str) -> None:
    query(bare_database, "create schema pageformer; create table pageformer.tensor (a integer)")
    with pytest.raises(RefusedByServer, match='relation "tensor" already exists') as raised:
        install.upgrade(bare_database)
    assert raised.value.sqlstate == "42P07"
    assert "pageformer_op" not in names(bare_database, "pg_namespace")
    assert names(bare_database, "pg_extension") == {"plpgsql"}


# -- refusals -------------------------------------------------------------------------------------


def test_an_install_needs_a_superuser(bare_database: str, ordinary_role: str) -> None:
    with pytest.raises(RefusedByServer) as raised:
        install.upgrade(bare_database.replace("postgres@", f"{ordinary_role}@"))
    assert raised.value.sqlstate == "42501"
    assert raised.value.message == "installing Pageformer needs a superuser, and bare_owner is none"
    assert "plpython3u is an untrusted language" in raised.value.hint


@pytest.mark.parametrize(
    ("extension", "package"),
    [("plpython3u", "postgresql-plpython3-{0}"), ("vector", "postgresql-{0}-pgvector")],
)
def test_a_server_without_an_extension_is_told_its_package(
    bare_database: str, monkeypatch: pytest.MonkeyPatch, extension: str, package: str
) -> None:
    # What a server offers is its folder of control files: ask for one that it has not.
    text = parts.script("prepare.sql").replace(f"('{extension}',", "('not_packaged',")
    monkeypatch.setattr(parts, "script", lambda file: text)
    with pytest.raises(RefusedByServer) as raised:
        install.upgrade(bare_database)
    [(version,)] = query(
        bare_database, "select current_setting('server_version_num')::integer / 10000"
    )
    assert raised.value.sqlstate == "0A000"
    assert raised.value.message == "this server does not offer the extension not_packaged"
    assert package.format(version) in raised.value.hint


def test_a_database_of_a_newer_pageformer_is_refused(database: str) -> None:
    query(database, "update pageformer.alembic_version set version_num = '9999'")
    with pytest.raises(ServerUnready, match="9999") as raised:
        install.upgrade(database)
    assert "newer Pageformer" in raised.value.hint


def test_a_server_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ServerUnready, match="connection"):
        install.upgrade(f"host={tmp_path}")


def test_a_database_without_pageformer_has_nothing_to_uninstall(bare_database: str) -> None:
    with pytest.raises(ServerUnready, match="not installed in this database"):
        install.uninstall(bare_database)


# -- uninstalling ---------------------------------------------------------------------------------


def test_an_uninstall_leaves_a_clean_database_and_cluster(lone_cluster: Cluster) -> None:
    dsn = empty_database(lone_cluster, "lone")
    install.upgrade(dsn)
    notes: list[str] = []
    install.uninstall(dsn, note=notes.append)
    assert notes == []
    assert ours(dsn, "pg_namespace") == set()
    assert ours(dsn, "pg_roles") == set()
    assert names(dsn, "pg_extension") == {"plpgsql"}
    install.upgrade(dsn)
    assert facts(dsn) == EXPECTED.read_text()
    install.uninstall(dsn)


def test_an_uninstall_spares_extensions_that_were_there_before(bare_database: str) -> None:
    query(bare_database, "create extension vector")
    install.upgrade(bare_database)
    install.uninstall(bare_database)
    assert names(bare_database, "pg_extension") == {"plpgsql", "vector"}


def test_an_uninstall_spares_the_vectors_that_were_encoded(database: str) -> None:
    query(database, "create table doc (body text, embedding vector(3))")
    query(database, "insert into doc values ('a', '[1,2,3]')")
    notes: list[str] = []
    install.uninstall(database, note=notes.append)
    assert "kept the extension vector: other objects use it" in notes
    assert query(database, "select embedding::text from doc") == [("[1,2,3]",)]


def test_roles_stay_while_another_database_uses_them(cluster: Cluster, database: str) -> None:
    notes: list[str] = []
    install.uninstall(database, note=notes.append)
    roles = {
        "pageformer_owner", "pageformer_admin", "pageformer_reader", "pageformer_user"
    }  # fmt: skip
    assert ours(database, "pg_roles") == roles
    assert set(notes) == {f"kept the role {role}: it is used elsewhere" for role in roles}
    assert facts(cluster.dsn) == EXPECTED.read_text()
    install.upgrade(database)
    assert facts(database) == EXPECTED.read_text()


def test_a_downgrade_does_not_mind_roles_in_another_database(
    cluster: Cluster, database: str
) -> None:
    other = create_database(cluster, "other_user_of_roles")
    query(other, "create table mine (); alter table mine owner to pageformer_owner")
    install.downgrade(database, "base")
    assert query(other, "table mine") == []
    drop_database(cluster, "other_user_of_roles")


DEPENDENTS = {
    "a view": (
        "create view answers as select encode(body, 'm') from doc",
        "view answers depends on function",
    ),
    "a column default": (
        "create table later (embedding vector default encode('a', 'm'))",
        "default value for column embedding of table later depends on function",
    ),
    "an index": (
        "create index by_meaning on doc (encode_pinned(body, 'm@v1'))",
        "index by_meaning depends on function",
    ),
    "a foreign key": (
        "create table follows (model integer references model)",
        "constraint follows_model_fkey on table follows depends on table",
    ),
}


@pytest.mark.parametrize("kind", DEPENDENTS)
def test_an_uninstall_stops_at(kind: str, database: str) -> None:
    statement, told = DEPENDENTS[kind]
    query(database, "create table public.doc (body text)")
    query(database, f"set search_path = public, pageformer; {statement}")
    before = facts(database)
    for take_away in (
        lambda: install.uninstall(database),
        lambda: install.downgrade(database, "base"),
    ):
        with pytest.raises(ObjectsInUse) as raised:
            take_away()
        assert told in raised.value.message
        assert raised.value.sqlstate == "2BP01"
        assert facts(database) == before


def test_a_forced_uninstall_takes_what_depends_on_it_and_no_more(database: str) -> None:
    query(database, "create table doc (body text, vector vector)")
    query(database, "create view answers as select pageformer.encode(body, 'm') from doc")
    query(database, "create view texts as select body from doc")
    install.uninstall(database, force=True)
    assert query(database, "select viewname from pg_views where schemaname = 'public'") == [
        ("texts",)
    ]
    assert query(database, "table doc") == []
    assert ours(database, "pg_namespace") == set()

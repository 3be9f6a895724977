"""`create extension pageformer cascade`: the same database as `pageformer migrate` makes.

The server is one of this module's own, with a folder of extensions that the tests write into.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from conftest import drop_database
from psycopg.errors import DuplicateSchema, ForeignKeyViolation, ObjectNotInPrerequisiteState
from relocated_server import RelocatedCluster, relocated_cluster
from test_migrations import EXPECTED, empty_database, facts, names, ours, query
from tuned_models import tune

from pageformer.embed import embed
from pageformer.embedded_column import Request
from pageformer.errors import ObjectsInUse, ServerUnready
from pageformer.loader.load import load
from pageformer.migrations import extension, install, parts, runs

ROOT = Path(__file__).parents[1]
CLI = Path(sys.executable).parent / "pageformer"
REVISIONS = sorted(known.revision for known in runs.revisions().walk_revisions())
CREATE = "create extension pageformer cascade"
TEXTS = ["", "a", "a longer text, of several words", "naïve 😀 日本語"]
databases = count(1)

# What `facts` leaves out, since servers word it differently: here it is one server.
DEFINITIONS = """
select p.oid::regprocedure::text, pg_get_functiondef(p.oid)
from pg_proc p
where p.pronamespace in ('pageformer'::regnamespace, 'pageformer_op'::regnamespace)
    and p.prokind <> 'a'
union all
select c.oid::regclass::text, case c.relkind
    when 'v' then pg_get_viewdef(c.oid) else pg_get_indexdef(c.oid) end
from pg_class c where c.relnamespace = 'pageformer'::regnamespace and c.relkind in ('v', 'i')
union all
select t.tgrelid::regclass::text, pg_get_triggerdef(t.oid)
from pg_trigger t where not t.tgisinternal
union all
select p.tablename, format('%s %s %s', p.policyname, p.qual, p.with_check) from pg_policies p
union all
select s.name, s.value || s.meaning from pageformer.setting s
order by 1, 2
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RelocatedCluster]:
    """A server that offers the extension."""
    with relocated_cluster() as server:
        extension.write(server.extensions)
        yield server


@pytest.fixture
def empty(server: RelocatedCluster) -> Iterator[str]:
    """The connection string of an empty database."""
    name = f"empty_{next(databases)}"
    yield empty_database(server, name)
    drop_database(server, name)


@pytest.fixture
def extended(empty: str) -> str:
    """The connection string of a database with the extension."""
    query(empty, CREATE)
    return empty


def version(dsn: str) -> object:
    [(found,)] = query(dsn, "select extversion from pg_extension where extname = 'pageformer'")
    return found


def vectors(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as session:
        return session.execute(
            """
            select t, m, pageformer.encode(t, m)::text
            from unnest(%s::text[]) t, unnest(array['tiny', 'tiny@v1', 'tiny@v2']) m
            """,
            [TEXTS],
        ).fetchall()


# -- two ways to the same -------------------------------------------------------------------------


def test_both_routes_give_the_same_schema(server: RelocatedCluster, extended: str) -> None:
    migrated = empty_database(server, "migrated")
    install.upgrade(migrated)
    assert facts(extended) == facts(migrated) == EXPECTED.read_text()
    assert query(extended, DEFINITIONS) == query(migrated, DEFINITIONS)
    revision = "table pageformer.alembic_version"
    assert query(extended, revision) == query(migrated, revision)


def test_everything_belongs_to_the_extension(extended: str) -> None:
    """So that a dump leaves it to the extension, and dropping that leaves nothing."""
    query(extended, "drop extension pageformer")
    assert ours(extended, "pg_namespace") == set()
    assert names(extended, "pg_extension") == {"plpgsql", "plpython3u", "vector"}
    query(extended, CREATE)
    assert facts(extended) == EXPECTED.read_text()


def test_a_dump_carries_the_rows_of_every_table(extended: str) -> None:
    left_out = query(
        extended,
        "select c.relname from pg_class c where c.relnamespace = 'pageformer'::regnamespace "
        "and c.relkind in ('r', 'S') and not c.oid = any("
        "    select unnest(extconfig) from pg_extension where extname = 'pageformer')",
    )
    assert left_out == [("alembic_version",)]


# -- dump and restore -----------------------------------------------------------------------------

OWN_OBJECTS = """
create schema aaa;
create table aaa.doc (id integer primary key, body text, embedding vector);
insert into aaa.doc select n, 'text ' || n from generate_series(1, 9) n;
create index by_meaning on aaa.doc (pageformer.encode_pinned(body, 'tiny@v1'));
create view aaa.encoded as select id, pageformer.encode(body, 'tiny') as vector from aaa.doc;
"""
HELD = {
    "settings": "select name, value from pageformer.setting order by name",
    "grants": "select model_id, role_name from pageformer.model_grant",
    "columns": 'select "table", missing, stale, followed from pageformer.embedded_columns',
    "vectors": "select id, embedding::text from aaa.doc order by id",
    "encoded": "select id, vector::text from aaa.encoded order by id",
    "hashes": "select model, version, deployed, hash from pageformer.model_versions order by 2",
}


@pytest.fixture
def filled(extended: str, tmp_path: Path) -> str:
    """A database with models, a setting, a grant, and objects of a user's own that need them."""
    with psycopg.connect(extended, autocommit=True) as session:
        first = tiny_models.write("bert-mean", tmp_path)
        load(session, first, name="tiny")
        load(session, tune(first, tmp_path / "tuned", half=True), name="tiny", deploy=True)
        session.execute("select pageformer.grant_use('tiny', 'public')")
        session.execute("update pageformer.setting set value = 'numpy' where name = 'backend'")
        session.execute(OWN_OBJECTS)
        assert embed(extended, Request("aaa.doc", "body", "embedding", "tiny", follow=True)) == 9
        session.execute("update aaa.doc set body = 'changed' where id = 5")
    return extended


def in_order() -> list[str]:
    """Return the steps of docs/operations.md that restore models first."""
    recipe = (ROOT / "docs" / "operations.md").read_text()
    [steps] = re.findall(r"(?<=```sh\n)(?:pg_restore .*\n)+(?=```)", recipe)
    return str(steps).splitlines()


@pytest.mark.parametrize("way", ["plain", "section by section"])
def test_a_dump_carries_models_and_what_is_known_of_columns(
    server: RelocatedCluster, filled: str, tmp_path: Path, way: str
) -> None:
    restored, file = empty_database(server, f"restored_{next(databases)}"), tmp_path / "dump"

    def run(program: str, *arguments: str | Path) -> str:
        command = [server.bin / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    if way == "plain":
        run("pg_dump", filled, f"--file={file}")
        run("psql", "-Xqv", "ON_ERROR_STOP=1", restored, "-f", file)
    else:
        run("pg_dump", "-Fc", filled, f"--file={file}")
        assert " ACL pageformer " not in run("pg_restore", "--list", file)
        for step in in_order():
            run(*step.replace("=copy dump", f"={restored}").split(), file)

    assert vectors(restored) == vectors(filled)
    for name, held in HELD.items():
        assert query(restored, held) == query(filled, held), name
    assert query(restored, DEFINITIONS) == query(filled, DEFINITIONS)
    assert facts(restored) == EXPECTED.read_text()
    with psycopg.connect(restored, autocommit=True) as session:
        load(session, tiny_models.write("bert-cased", tmp_path), name="tiny")  # takes a new number
    assert embed(restored, Request("aaa.doc", "body", "embedding", "tiny")) == 1


def test_a_model_deploys_a_version_of_its_own(filled: str) -> None:
    """Foreign keys both ways would leave pg_dump without an order: triggers hold one of them."""
    with pytest.raises(ForeignKeyViolation, match='model "tiny" has no version of id 77'):
        query(filled, "update pageformer.model set deployed_id = 77")
    with pytest.raises(ForeignKeyViolation, match='version "v2" is deployed'):
        query(filled, "delete from pageformer.version where label = 'v2'")


# -- updates --------------------------------------------------------------------------------------


def offer_old(server: RelocatedCluster, revision: str, surface: str) -> str:
    """Write the files of an older package, with other functions, and return its version."""
    old = f"{revision}.old{next(databases)}"
    written = [
        parts.script("extension_first.sql"), parts.script("prepare.sql"),
        runs.as_sql(None, revision), surface, parts.script("extension_last.sql"),
    ]  # fmt: skip
    (server.extensions / f"pageformer--{old}.sql").write_text("\n".join(written))
    (server.extensions / f"pageformer--{old}--{revision}.sql").write_text(extension.LEAVE)
    return old


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_update_gives_the_schema_of_an_install(
    server: RelocatedCluster, empty: str, revision: str
) -> None:
    old = offer_old(server, revision, "")
    query(empty, f"create extension pageformer version '{old}' cascade")
    query(empty, "update pageformer.setting set value = 'numpy' where name = 'backend'")
    query(empty, "alter extension pageformer update")
    assert version(empty) == extension.version()
    assert facts(empty) == EXPECTED.read_text()
    chosen = "select value from pageformer.setting where name = 'backend'"
    assert query(empty, chosen) == [("numpy",)]


def test_migrate_answers_with_an_update(server: RelocatedCluster, empty: str) -> None:
    """Functions change without a revision."""
    changed = parts.surface().replace("models that are loaded", "models")
    old = offer_old(server, runs.newest(), changed)
    query(empty, f"create extension pageformer version '{old}' cascade")
    for _again in range(2):
        done = subprocess.run(
            [CLI, "migrate", "--dsn", empty], capture_output=True, text=True, check=True
        )
        assert done.stdout == f"installed: version {extension.version()} of the extension\n"
    assert version(empty) == extension.version()
    source = "select prosrc ~ 'models that are loaded' from pg_proc where proname = 'find_model'"
    assert query(empty, source) == [(True,)]


def test_an_extension_goes_to_its_newest_version_only(extended: str) -> None:
    for go in (install.upgrade, install.downgrade):
        with pytest.raises(ServerUnready, match="goes to its newest version only"):
            go(extended, "0002")
    assert facts(extended) == EXPECTED.read_text()


def test_a_database_of_a_newer_extension_is_refused(server: RelocatedCluster, empty: str) -> None:
    newer = "9999.12345678"
    text = (server.extensions / f"pageformer--{extension.version()}.sql").read_text()
    (server.extensions / f"pageformer--{newer}.sql").write_text(text)
    query(empty, f"create extension pageformer version '{newer}' cascade")
    with pytest.raises(ServerUnready, match=f"lead the extension pageformer from {newer} to"):
        install.upgrade(empty)


def test_a_server_without_the_new_files_is_told_how_to_write_them(
    server: RelocatedCluster, empty: str, tmp_path: Path
) -> None:
    old = offer_old(server, REVISIONS[-1], parts.surface())
    query(empty, f"create extension pageformer version '{old}' cascade")
    file = server.extensions / f"pageformer--{extension.version()}.sql"
    away = [path.rename(tmp_path / path.name) for path in server.extensions.glob(
        f"pageformer--*{extension.version()}.sql")]  # fmt: skip
    try:
        with pytest.raises(ServerUnready, match="the server does not offer version") as raised:
            install.upgrade(empty)
    finally:
        for path in away:
            path.rename(file.with_name(path.name))
    assert raised.value.hint.endswith("pageformer extension")


# -- refusals, and the way out --------------------------------------------------------------------


def test_a_database_that_was_migrated_is_left_alone(empty: str) -> None:
    install.upgrade(empty)
    with pytest.raises(DuplicateSchema, match="has a schema pageformer already") as raised:
        query(empty, CREATE)
    assert "pageformer migrate" in str(raised.value.diag.message_hint)
    assert facts(empty) == EXPECTED.read_text()


def test_a_server_whose_python_lacks_the_package_says_so(
    server: RelocatedCluster, empty: str, tmp_path: Path
) -> None:
    server.stop()
    server.start(tmp_path)
    try:
        with pytest.raises(ObjectNotInPrerequisiteState) as raised:
            query(empty, CREATE)
    finally:
        server.stop()
        server.start(server.site)
    told = raised.value.diag
    assert "cannot import Pageformer: No module named 'pageformer'" in str(told.message_primary)
    assert "pageformer migrate --site FOLDER" in str(told.message_hint)
    assert names(empty, "pg_extension") == {"plpgsql"}


def test_an_uninstall_drops_the_extension(extended: str) -> None:
    query(extended, "create view answers as select pageformer.encode('a', 'm')")
    with pytest.raises(ObjectsInUse, match="view answers depends on function"):
        install.uninstall(extended)
    assert facts(extended) == EXPECTED.read_text()
    install.uninstall(extended, force=True)
    assert ours(extended, "pg_namespace") == set()
    assert "pageformer" not in names(extended, "pg_extension")


# -- the command ----------------------------------------------------------------------------------


def test_the_command_writes_files_that_the_server_may_read(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"umask 077; {CLI} extension --into {tmp_path}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"pageformer {extension.version()} in {tmp_path}\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == extension.files()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [CLI, "extension", "--into", tmp_path / "none"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot write into {tmp_path}/none: No such file")


def test_installed_servers_look_where_the_command_writes(server: RelocatedCluster) -> None:
    shared: Any = query(
        server.dsn_of("postgres"), "select setting from pg_config where name = 'SHAREDIR'"
    )
    assert server.extensions == Path(shared[0][0]) / "extension"

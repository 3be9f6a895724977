"""A dump holds the models: restored anywhere, it gives the same vectors, bit for bit."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from conftest import create_database, drop_database
from temporary_cluster import temporary_cluster
from test_migrations import EXPECTED, empty_database, facts

from pageformer.cluster import Cluster
from pageformer.embed import embed
from pageformer.embedded_column import Request
from pageformer.loader.load import load
from pageformer.migrations import install

ROOT = Path(__file__).parents[1]
TEXTS = ["", "a", "a longer text, of several words", "naïve 😀 日本語"]

# Objects of a user's own that call the model, in a schema that is dumped before pageformer.
OWN_OBJECTS = """
create schema aaa;
create table aaa.doc (
    body text, embedding public.vector default pageformer.encode('a default', 'tiny')
);
insert into aaa.doc (body) values ('some text'), ('another text');
create index by_meaning on aaa.doc (pageformer.encode_pinned(body, 'tiny@v1'));
create view aaa.encoded as select body, pageformer.encode(body, 'tiny') as vector from aaa.doc;
create materialized view aaa.kept as select * from aaa.encoded;
"""


@pytest.fixture(scope="module")
def source(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with two versions of a model, a grant, and objects that use the model."""
    dsn = create_database(cluster, "dumped")
    folder = tmp_path_factory.mktemp("models")
    with psycopg.connect(dsn, autocommit=True) as session:
        for name in ("bert-mean", "bert-f16"):
            load(session, tiny_models.write(name, folder), name="tiny")
        session.execute("select pageformer.grant_use('tiny', 'public')")
        session.execute(OWN_OBJECTS)
    yield dsn
    drop_database(cluster, "dumped")


@pytest.fixture(scope="module")
def dump(cluster: Cluster, source: str) -> bytes:
    command = [cluster.bin / "pg_dump", source]
    return subprocess.run(command, capture_output=True, check=True).stdout


def restore(cluster: Cluster, dsn: str, dump: bytes, *, stop: bool = True) -> str:
    """Run a dump through psql and return what it complained of."""
    command = [cluster.bin / "psql", "--no-psqlrc", "--quiet", f"-vON_ERROR_STOP={int(stop)}", dsn]
    done = subprocess.run(command, input=dump, capture_output=True, check=True)
    return done.stderr.decode()


def vectors(dsn: str, user: str = "postgres") -> list[Any]:
    """Encode in every way; a float4 as text reads back as the same bits."""
    with psycopg.connect(dsn, user=user) as session:
        row = session.execute(
            """
            select pageformer.encode_batch(%(texts)s::text[], 'tiny')::text,
                pageformer.encode_batch(%(texts)s::text[], 'tiny@v2')::text,
                (select array_agg(pageformer.encode(t, 'tiny')::text) from unnest(%(texts)s) t),
                pageformer.encode_pinned('a', 'tiny@v1')::text,
                (select array_agg(e.embedding::text) from pageformer.encode_tokens('a', 'tiny') e)
            """,
            {"texts": TEXTS},
        ).fetchone()
    assert row
    return list(row)


def own_objects(dsn: str) -> list[Any]:
    with psycopg.connect(dsn) as session:
        session.execute("set enable_seqscan = off")
        return session.execute(
            """
            select d.body, d.embedding::text, e.vector::text, k.vector::text, (
                select count(*) from aaa.doc same
                where pageformer.encode_pinned(same.body, 'tiny@v1') = e.vector
            )
            from aaa.doc d join aaa.encoded e using (body) join aaa.kept k using (body) order by 1
            """
        ).fetchall()


def test_a_dump_restored_beside_gives_the_same_vectors(
    cluster: Cluster, source: str, dump: bytes
) -> None:
    restored = empty_database(cluster, "restored")
    assert restore(cluster, restored, dump) == ""
    assert vectors(restored) == vectors(source)
    assert own_objects(restored) == own_objects(source)
    assert facts(restored) == EXPECTED.read_text()
    drop_database(cluster, "restored")


def test_a_parallel_restore_gives_the_same_vectors_section_by_section(
    cluster: Cluster, source: str, tmp_path: Path
) -> None:
    """Sections, because an index that encodes would not wait for the pages by itself."""
    file = tmp_path / "dump"
    subprocess.run([cluster.bin / "pg_dump", "-Fc", f"--file={file}", source], check=True)
    restored = empty_database(cluster, "restored_in_parallel")
    command = [cluster.bin / "pg_restore", "--jobs=2", "--exit-on-error", "-d", restored, file]
    for section in ("pre-data", "data", "post-data"):
        subprocess.run([*command, f"--section={section}"], check=True)
    assert vectors(restored) == vectors(source)
    assert own_objects(restored) == own_objects(source)
    drop_database(cluster, "restored_in_parallel")


def test_a_restored_database_migrates_loads_and_drops(
    cluster: Cluster, source: str, dump: bytes, tmp_path: Path
) -> None:
    restored = empty_database(cluster, "restored_to_use")
    restore(cluster, restored, dump)
    install.upgrade(restored)
    with psycopg.connect(restored, autocommit=True) as session:
        assert load(session, tiny_models.write("bert-mean", tmp_path), name="tiny").unchanged
        load(session, tiny_models.write("bert-cased", tmp_path), name="tiny")
        session.execute("select pageformer.drop_version('tiny', 'v2')")
    with psycopg.connect(restored) as session:
        versions = session.execute("select version from pageformer.model_versions").fetchall()
    assert sorted(versions) == [("v1",), ("v3",)]
    drop_database(cluster, "restored_to_use")


def test_a_dump_restored_elsewhere_with_its_roles_gives_the_same_vectors(
    cluster: Cluster, source: str, dump: bytes
) -> None:
    command = [cluster.bin / "pg_dumpall", "--roles-only", f"--dbname={source}"]
    roles = subprocess.run(command, capture_output=True, check=True).stdout
    with temporary_cluster() as other:
        restore(other, other.dsn_of("postgres"), roles, stop=False)  # postgres exists already
        restored = empty_database(other, "restored")
        assert restore(other, restored, dump) == ""
        assert vectors(restored) == vectors(source)
        assert own_objects(restored) == own_objects(source)
        assert facts(restored) == EXPECTED.read_text()


def test_a_dump_restored_without_its_roles_encodes_and_migrating_mends_the_rest(
    source: str, dump: bytes
) -> None:
    with temporary_cluster() as other:
        restored = empty_database(other, "restored")
        complaints = restore(other, restored, dump, stop=False).splitlines()
        assert complaints
        assert all(re.search('ERROR:  role "pageformer_', line) for line in complaints)
        assert vectors(restored) == vectors(source)
        assert own_objects(restored) == own_objects(source)
        with psycopg.connect(restored) as session:
            session.execute("create role anybody login")
        install.upgrade(restored)
        assert facts(restored) == EXPECTED.read_text()
        assert vectors(restored, user="anybody") == vectors(source)


def test_a_generated_column_is_restored_after_the_pages_it_needs(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Schema aaa sorts before pageformer: a plain restore would compute it without a model."""
    dsn = create_database(cluster, "generated")
    with psycopg.connect(dsn, autocommit=True) as session:
        load(session, tiny_models.write("bert-mean", tmp_path), name="tiny")
        session.execute(
            "create schema aaa; create table aaa.doc (body text, embedding vector "
            "generated always as (pageformer.encode_pinned(body, 'tiny@v1')) stored);"
            "insert into aaa.doc values ('a text'), ('another text')"
        )
    held = "select body, embedding::text from aaa.doc order by body"
    with psycopg.connect(dsn) as session:
        before = session.execute(held).fetchall()
    file = tmp_path / "dump"
    subprocess.run([cluster.bin / "pg_dump", "-Fc", f"--file={file}", dsn], check=True)
    drop_database(cluster, "generated")

    at_once = empty_database(cluster, "restored_at_once")
    subprocess.run([cluster.bin / "pg_restore", "-d", at_once, file], capture_output=True)
    with psycopg.connect(at_once) as session:
        assert session.execute(held).fetchall() == []
    drop_database(cluster, "restored_at_once")

    restored = empty_database(cluster, "restored_in_order")
    recipe = (ROOT / "docs" / "operations.md").read_text()
    [steps] = re.findall(r"(?<=```sh\n)(?:pg_restore .*\n)+(?=```)", recipe)
    for step in steps.splitlines():
        words = step.replace("=copy dump", f"={restored}").split()
        command = [cluster.bin / words[0], "--exit-on-error", *words[1:], file]
        subprocess.run(command, check=True)
    with psycopg.connect(restored) as session:
        assert session.execute(held).fetchall() == before
    drop_database(cluster, "restored_in_order")


def test_a_restored_column_is_as_fresh_as_it_was(cluster: Cluster, tmp_path: Path) -> None:
    dsn = create_database(cluster, "followed")
    with psycopg.connect(dsn, autocommit=True) as session:
        load(session, tiny_models.write("bert-mean", tmp_path), name="tiny")
        session.execute(
            "create schema zzz; create table zzz.doc (id integer primary key, body text, v vector);"
            "insert into zzz.doc select n, 'text ' || n from generate_series(1, 9) n"
        )
        request = Request("zzz.doc", "body", "v", "tiny", where="id > 2", follow=True)
        assert embed(dsn, request) == 7
        session.execute("update zzz.doc set body = 'changed' where id = 5")
    done = subprocess.run([cluster.bin / "pg_dump", dsn], capture_output=True, check=True)
    restored = empty_database(cluster, "restored_followed")
    assert restore(cluster, restored, done.stdout) == ""
    drop_database(cluster, "followed")
    with psycopg.connect(restored, autocommit=True) as session:
        session.execute("update zzz.doc set body = 'changed' where id = 6")
        shown = session.execute('select "table", missing, stale from pageformer.embedded_columns')
        assert shown.fetchall() == [("zzz.doc", 2, 2)]
    assert embed(restored, Request("zzz.doc", "body", "v", "tiny")) == 4
    drop_database(cluster, "restored_followed")

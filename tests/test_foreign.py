"""Rows on other servers are encoded there, by the commands of docs/scaling.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from conftest import create_database, drop_database
from psycopg.conninfo import conninfo_to_dict
from test_docs import ROOT, blocks

from pageformer.cluster import Cluster
from pageformer.loader.load import load

PAGE = ROOT / "docs" / "scaling.md"
THERE, HERE, CITUS = blocks(PAGE, "pgsql")


@pytest.fixture
def other(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """A database with the model and rows of its own."""
    dsn = create_database(cluster, "foreign_b")
    with psycopg.connect(dsn, autocommit=True) as session:
        load(session, tiny_models.write("bert-mean", tmp_path), name="minilm")
        session.execute("create table doc (id integer, body text, embedding vector)")
        session.execute("insert into doc select n, 'text ' || n from generate_series(1, 5) n")
        session.execute(THERE.encode())
        session.execute("alter database foreign_b set search_path = public, pageformer")
    yield dsn
    drop_database(cluster, "foreign_b")


def remote_sql(session: psycopg.Connection[Any], query: str) -> str:
    plan = session.execute(f"explain (verbose, costs off) {query}".encode()).fetchall()
    [line] = [line for (line,) in plan if "Remote SQL" in line]
    return str(line).partition("Remote SQL: ")[2]


def test_a_foreign_server_encodes_its_own_rows(database: str, other: str) -> None:
    place = conninfo_to_dict(other)
    setup = HERE.replace("host 'b', dbname 'app'", f"host '{place['host']}', port "
                         f"'{place['port']}', dbname '{place['dbname']}'")  # fmt: skip
    with psycopg.connect(database, autocommit=True) as session:
        session.execute(setup.replace("user 'app'", "user 'postgres'").encode())
        rows = [line.split("|") for line in PAGE.read_text().splitlines() if "FROM public" in line]
        assert len(rows) == 2
        for _, query, shown, *_ in rows:
            assert remote_sql(session, query.strip(" `")) == shown.strip(" `")
        found = session.execute("select embedding::text from doc_b_encoded order by id").fetchall()
    with psycopg.connect(other) as there:
        encoded = "select pageformer.encode(body, 'minilm')::text from doc order by id"
        assert found == there.execute(encoded.encode()).fetchall()


def test_citus_distributes_texts_and_copies_models(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as session:
        available = "select from pg_available_extensions where name = 'citus'"
        if not session.execute(available.encode()).fetchall():
            pytest.skip("Citus is not installed on this server")
        session.execute("create extension citus")
        session.execute("create table doc (id integer primary key, body text, embedding vector)")
        session.execute(CITUS.encode())

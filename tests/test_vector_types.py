"""The smaller vector types find, through their indexes, what exact search finds."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import tiny_models

from pageformer.loader.load import load

COUNT, QUERIES = 600, 20
NONZEROS = 60  # of a sparse vector
BIT = "binary_quantize(embedding)::bit(384)"
SETUP = f"""
    create temp table doc as
    select objoid::text as name, embedding::vector(384), words::sparsevec(451)
    from (select distinct on (description) objoid, description from pg_description
          order by description limit {COUNT}) d,
        lateral (select encode(d.description, 'minilm') as embedding) e,
        lateral (select encode_sparse(d.description, 'bert-sparse', {NONZEROS}) as words) w;
    create index on doc using hnsw (embedding vector_cosine_ops);
    create index on doc using hnsw ((embedding::halfvec(384)) halfvec_cosine_ops);
    create index on doc using hnsw (({BIT}) bit_hamming_ops);
    create index on doc using hnsw (words sparsevec_ip_ops);
"""
EXACT = "select array(select ctid::text from doc order by embedding <=> %s::vector limit 10)"
EXACT_SPARSE = """
    select array(select ctid::text from doc order by words <#> %s::sparsevec(451) limit 10)
"""
BY_INDEX = {
    "vector": "select array(select ctid::text from doc order by embedding <=> %s::vector limit 10)",
    "halfvec": """
        select array(select ctid::text from doc
                     order by embedding::halfvec(384) <=> %s::halfvec(384) limit 10)
    """,
    "bit": f"""
        select array(
            select id from (
                select ctid::text as id, embedding from doc
                order by {BIT} <~> binary_quantize(%s::vector(384))::bit(384) limit 100
            ) candidate order by embedding <=> %s::vector limit 10)
    """,
    "sparsevec": EXACT_SPARSE,
}


@pytest.fixture(scope="module")
def session(
    module_database: str, minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[psycopg.Connection]:
    """A session with descriptions in a table of its own, and with every index."""
    sparse = tiny_models.write("bert-sparse", tmp_path_factory.mktemp("models"))
    with psycopg.connect(module_database, autocommit=True) as connection:
        load(connection, str(minilm_dir), name="minilm")
        load(connection, str(sparse), name="bert-sparse")
        connection.execute("set search_path = pg_temp, public, pageformer")
        connection.execute("set hnsw.ef_search = 120")
        connection.execute(SETUP)
        yield connection


@pytest.mark.parametrize(
    ("kind", "least"), [("vector", 0.95), ("halfvec", 0.95), ("bit", 0.9), ("sparsevec", 0.9)]
)
def test_an_index_finds_what_exact_search_finds(
    session: psycopg.Connection, kind: str, least: float
) -> None:
    column = "words" if kind == "sparsevec" else "embedding"
    chosen = f"select {column}::text from doc order by name limit %s"
    queries = session.execute(chosen, [QUERIES])  # type: ignore[arg-type]
    exactly = EXACT_SPARSE if kind == "sparsevec" else EXACT
    found = 0
    for (query,) in queries.fetchall():
        with session.transaction():
            session.execute("set local enable_indexscan = off")
            [exact] = session.execute(exactly, [query]).fetchall()
        with session.transaction():
            session.execute("set local enable_seqscan = off")
            sql = BY_INDEX[kind]
            arguments = [query] * sql.count("%s")
            plan = session.execute(f"explain {sql}", arguments).fetchall()
            assert any("Index Scan" in line for (line,) in plan)
            [answer] = session.execute(sql, arguments).fetchall()
        found += len({*exact[0]} & {*answer[0]})
    assert found / (10 * QUERIES) >= least

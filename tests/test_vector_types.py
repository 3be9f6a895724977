"""The smaller vector types find, through their indexes, what exact search finds."""

from collections.abc import Iterator

import psycopg
import pytest

COUNT, QUERIES = 600, 20
BIT = "binary_quantize(embedding)::bit(384)"
SETUP = f"""
    create temp table doc as
    select objoid::text as name, embedding::vector(384)
    from (select distinct on (description) objoid, description from pg_description
          order by description limit {COUNT}) d,
        lateral (select encode(d.description, 'minilm') as embedding) e;
    create index on doc using hnsw (embedding vector_cosine_ops);
    create index on doc using hnsw ((embedding::halfvec(384)) halfvec_cosine_ops);
    create index on doc using hnsw (({BIT}) bit_hamming_ops);
"""
EXACT = "select array(select ctid::text from doc order by embedding <=> %s::vector limit 10)"
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
}


@pytest.fixture(scope="module")
def session(minilm: str) -> Iterator[psycopg.Connection]:
    """A session with descriptions in a table of its own, and with all three indexes."""
    with psycopg.connect(minilm, autocommit=True) as connection:
        connection.execute("set search_path = pg_temp, public, pageformer")
        connection.execute("set hnsw.ef_search = 120")
        connection.execute(SETUP)
        yield connection


@pytest.mark.parametrize(("kind", "least"), [("vector", 0.95), ("halfvec", 0.95), ("bit", 0.9)])
def test_an_index_finds_what_exact_search_finds(
    session: psycopg.Connection, kind: str, least: float
) -> None:
    queries = session.execute("select embedding::text from doc order by name limit %s", [QUERIES])
    found = 0
    for (query,) in queries.fetchall():
        with session.transaction():
            session.execute("set local enable_indexscan = off")
            [exact] = session.execute(EXACT, [query]).fetchall()
        with session.transaction():
            session.execute("set local enable_seqscan = off")
            sql = BY_INDEX[kind]
            arguments = [query] * sql.count("%s")
            plan = session.execute(f"explain {sql}", arguments).fetchall()
            assert any("Index Scan" in line for (line,) in plan)
            [answer] = session.execute(sql, arguments).fetchall()
        found += len({*exact[0]} & {*answer[0]})
    assert found / (10 * QUERIES) >= least

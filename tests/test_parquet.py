"""Files of texts become files with vectors."""

import subprocess
from pathlib import Path

import numpy as np
import psycopg
import pytest
from test_cli import PROGRAM

from pageformer.errors import InvalidInput
from pageformer.scaling import parquet

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
TEXTS = [None if n % 10 == 3 else f"text number {n}" for n in range(50)]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    file = tmp_path / "docs.parquet"
    pq.write_table(pyarrow.table({"id": list(range(50)), "body": TEXTS}), file)
    return file


def test_a_file_gets_the_vectors_of_its_texts(docs: Path, minilm: str) -> None:
    target = docs.with_name("vectors.parquet")
    command = [PROGRAM, "embed", "--from", docs, "--into", target, "--model", "minilm"]
    told = subprocess.run(
        [*command, "--batch", "50", "--dsn", minilm], check=True, capture_output=True, text=True
    )
    assert told.stdout == f"{target}: 50 texts encoded with minilm\n"
    found = pq.read_table(target).to_pydict()
    assert (found["id"], found["body"]) == (list(range(50)), TEXTS)
    with psycopg.connect(minilm) as session:
        query = "select v::real[] from unnest(pageformer.encode_batch(%s::text[], 'minilm')) v"
        wanted = [vector for (vector,) in session.execute(query.encode(), [TEXTS]).fetchall()]
    assert len(found["embedding"]) == len(wanted)
    for ours, theirs in zip(found["embedding"], wanted, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or np.array_equal(np.float32(ours), np.float32(theirs))
    assert sorted(path.name for path in docs.parent.iterdir()) == ["docs.parquet", target.name]


def test_what_cannot_be_read_is_told(docs: Path, minilm: str) -> None:
    target = docs.with_name("vectors.parquet")
    for column, told in (("title", "no column title"), ("id", "id is int64, not text")):
        with pytest.raises(InvalidInput, match=told):
            parquet.embed(minilm, docs, target, "minilm", column=column)
    for place, told in (
        (docs, "is the file that is read"),
        (docs.parent, "is a folder"),
        (docs.parent / "nowhere" / "vectors.parquet", "there is no folder"),
    ):
        with pytest.raises(InvalidInput, match=told):
            parquet.embed(minilm, docs, place, "minilm")
    docs.write_text("no file of that kind")
    with pytest.raises(InvalidInput, match="cannot be read"):
        parquet.embed(minilm, docs, target, "minilm")
    assert not target.exists()


def test_a_file_and_a_table_are_not_embedded_at_once(docs: Path, minilm: str) -> None:
    command = [PROGRAM, "embed", "--from", docs, "--into", "v.parquet", "--model", "minilm"]
    told = subprocess.run(
        [*command, "--table", "doc", "--dsn", minilm], check=False, capture_output=True, text=True
    )
    assert "--from is of a file" in told.stderr

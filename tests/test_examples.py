"""The scripts of `examples/` work as they stand there, through psql."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import create_database, drop_database
from tuned_models import tune

from pageformer.cluster import Cluster
from pageformer.loader.load import load

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def two_versions(
    cluster: Cluster, minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database with MiniLM as v1, deployed, and a fine-tune of it as v2."""
    dsn = create_database(cluster, "examples")
    tuned = tune(minilm_dir, tmp_path_factory.mktemp("models") / "tuned")
    with psycopg.connect(dsn) as session:
        load(session, minilm_dir, name="minilm")
        load(session, tuned, name="minilm")
    yield dsn
    drop_database(cluster, "examples")


def psql(cluster: Cluster, dsn: str, example: str, **variables: str) -> list[str]:
    options = [f"--set={name}={value}" for name, value in variables.items()]
    done = subprocess.run(
        [
            cluster.bin / "psql", "-XqAt", "--set=ON_ERROR_STOP=1", *options,
            f"--file={EXAMPLES / example}", dsn,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if line]


def test_semantic_search(cluster: Cluster, two_versions: str) -> None:
    assert psql(cluster, two_versions, "semantic_search.sql") == [
        "Boil the pasta in salted water until it is firm to the bite."
    ]


def test_two_versions_are_compared_on_the_same_rows(cluster: Cluster, two_versions: str) -> None:
    names = {"model": "minilm", "old": "v1", "new": "v2"}
    old, new = psql(cluster, two_versions, "compare_versions.sql", **names)
    for line, label in ((old, "v1"), (new, "v2")):
        version, questions, rank = line.split("|")
        assert (version, questions) == (label, "3")
        assert 0.3 < float(rank) <= 1


def test_a_version_that_is_tried_and_taken_back_leaves_nothing(
    cluster: Cluster, two_versions: str
) -> None:
    told = psql(cluster, two_versions, "rollback.sql", model="minilm", new="v2")
    assert told == ["minilm is v2 in this transaction", "t", "t"]


def test_every_example_is_tested() -> None:
    tested = Path(__file__).read_text()
    for example in EXAMPLES.iterdir():
        assert f'"{example.name}"' in tested

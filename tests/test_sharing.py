"""Versions that are alike share blocks or differences, within a bound that is kept."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from tiny_files import write_safetensors
from tuned_models import tune_part

from pageformer.errors import InvalidCheckpoint, InvalidInput, NotBuilt
from pageformer.loader import checkpoint
from pageformer.loader.evaluation import model_of
from pageformer.loader.load import Loaded, load
from pageformer.loader.safetensors_file import read_tensors
from pageformer.loader.sharing import Sharing, sharing
from pageformer.udfs import encoder
from pageformer.udfs.blocks import block_to_array
from pageformer.udfs.operators import Operators
from pageformer.udfs.tokenizer import Tokenizer

Connection = psycopg.Connection[Any]
TEXTS = ["a text", "another, longer text of more words", "", "naïve 😀 日本語"]


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def base(connection: Connection, tmp_path: Path) -> Path:
    """A model that is loaded as `base`."""
    directory = tiny_models.write("bert-mean", tmp_path)
    load(connection, directory, name="base")
    return directory


def moved(base: Path, part: float, seed: int = 0) -> Path:
    """Copy a model, every tensor moved by a part of its own size, as a fine-tune moves it."""
    directory = base.parent / f"moved-{part}-{seed}"
    directory.mkdir()
    for file in base.iterdir():
        if file.is_file():
            (directory / file.name).write_bytes(file.read_bytes())
        else:
            (directory / file.name).mkdir()
            for inner in file.iterdir():
                (directory / file.name / inner.name).write_bytes(inner.read_bytes())
    random = np.random.default_rng(seed)
    path = directory / "model.safetensors"
    tensors: dict[str, Any] = {n: np.array(t.array) for n, t in read_tensors(path).items()}
    for name, tensor in tensors.items():
        noise = random.normal(0, part * float(tensor.std()), tensor.shape)
        tensors[name] = (tensor + noise).astype(tensor.dtype)
    write_safetensors(path, tensors)
    return directory


def share(connection: Connection, source: Path, rung: str, bound: float = 0.005) -> Loaded:
    name = f"{source.name}-{rung}"
    return load(connection, source, name=name, sharing=sharing(rung, bound, None))


def encoded(connection: Connection, model: str, call: str = "encode") -> np.ndarray[Any, Any]:
    rows = [
        connection.execute(f"select pageformer.{call}(%s, %s)::real[]", [text, model]).fetchone()
        for text in TEXTS
    ]
    return np.array([row[0] for row in rows if row], np.float32)


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / lengths).min())


def test_a_delta_version_encodes_as_base_plus_delta(connection: Connection, base: Path) -> None:
    """`weights` adds base and difference block by block; from these the vectors must follow."""
    source = moved(base, 0.05)
    loaded = share(connection, source, "delta")
    assert loaded.outcome is not None
    assert loaded.outcome.delta > 0
    load(connection, source, name="whole")
    stored, whole = encoded(connection, loaded.model), encoded(connection, "whole")
    assert cosine(stored, whole) > 0.99
    assert np.abs(stored - computed(connection, loaded.model, source)).max() <= 1e-5
    joined = encoded(connection, loaded.model, "encode_relational")
    assert np.abs(stored - joined).max() <= 1e-5


def computed(connection: Connection, model: str, source: Path) -> np.ndarray[Any, Any]:
    """Encode by the forward pass over whole tensors, made of what `weights(model)` tells."""
    read = checkpoint.read(source)
    whole = {name: np.zeros(weight.shape, np.float32) for name, weight in read.weights.items()}
    [[side]] = connection.execute(
        "select block_side from pageformer.model_versions where model = %s", [model]
    )
    cursor = connection.execute("select * from pageformer.weights(%s)", [model], binary=True)
    for tensor, row, col, value in cursor:
        block = block_to_array(value)
        matrix = np.atleast_2d(whole[tensor])
        matrix[(row - 1) * side :, (col - 1) * side :][: len(block), : block.shape[1]] = block
    data = read.tokenizer
    assert data is not None
    tokenizer = Tokenizer(lambda: data, read.config.max_length)
    batch = encoder.join([tokenizer.encode(text).ids for text in TEXTS])
    return encoder.encode(model_of(read.config, whole, Operators()), batch, lambda: None)


def test_random_weights_end_whole_with_the_bound_intact(connection: Connection, base: Path) -> None:
    stranger = tiny_models.write("bert-sharded", base.parent)
    for rung in ("approximate", "delta"):
        loaded = share(connection, stranger, rung)
        assert loaded.outcome is not None
        assert loaded.outcome.loss.dropped == 0
        assert (loaded.outcome.replaced, loaded.outcome.delta) == (0, 0)


@pytest.mark.parametrize("rung", ["approximate", "delta"])
def test_the_bound_holds_and_is_stored(connection: Connection, base: Path, rung: str) -> None:
    before = encoded(connection, "base")
    loaded = share(connection, moved(base, 0.05), rung, bound=0.02)
    row = connection.execute(
        "select rung, measure, dropped, max_drop, inputs, blocks_replaced + blocks_delta as shared"
        " from pageformer.deduplications where model = %s",
        [loaded.model],
    ).fetchone()
    assert row is not None
    assert row[:2] == (rung, "cosine")
    assert row[2] <= row[3] == 0.02
    assert row[4] == 200
    assert row[5] > 0
    assert np.array_equal(before, encoded(connection, "base"))


def test_a_bound_of_nothing_is_kept(connection: Connection, base: Path) -> None:
    loaded = share(connection, moved(base, 0.05), "approximate", bound=0)
    assert loaded.outcome is not None
    assert loaded.outcome.loss.dropped <= 0
    assert loaded.outcome.kept > 0


def test_differences_outlive_the_version_that_they_stand_on(
    connection: Connection, base: Path
) -> None:
    loaded = share(connection, moved(base, 0.05), "delta")
    before = encoded(connection, loaded.model)
    connection.execute("select pageformer.drop_version('base', 'v1')")
    assert np.array_equal(encoded(connection, loaded.model), before)
    connection.execute("select pageformer.verify(%s)", [loaded.model])
    connection.execute("select pageformer.drop_version(%s, 'v1')", [loaded.model])
    for table in ("block", "page", "placement"):
        count = connection.execute(f"select count(*) from pageformer.{table}".encode()).fetchone()
        assert count == (0,)


def test_concurrent_loads_of_like_versions_both_succeed_and_share(
    database: str, connection: Connection, base: Path
) -> None:
    sources = [moved(base, 0.05, seed) for seed in (1, 2)]
    done: list[Loaded] = []

    def run(source: Path) -> None:
        with psycopg.connect(database) as own:
            done.append(share(own, source, "delta"))

    threads = [threading.Thread(target=run, args=[source]) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2
    assert all(loaded.outcome and loaded.outcome.delta > 0 for loaded in done)


def test_the_one_block_that_breaks_the_bound_is_kept_and_no_other(
    connection: Connection, base: Path
) -> None:
    """All blocks move by nearly nothing, one by so much that the bound breaks without it."""
    source = moved(base, 1e-4)
    path = source / "model.safetensors"
    tensors: dict[str, Any] = {n: np.array(t.array) for n, t in read_tensors(path).items()}
    block = tensors["encoder.layer.0.attention.output.dense.weight"][:32, :32]
    block += np.random.default_rng(1).normal(0, 0.15 * float(block.std()), block.shape)
    write_safetensors(path, tensors)
    unbound = share(connection, source, "approximate", bound=1)
    assert unbound.new_blocks == 0
    loaded = share(connection, source, "approximate", bound=1e-5)
    assert loaded.outcome is not None
    assert (loaded.outcome.kept, loaded.new_blocks) == (1, 1)
    differing = connection.execute(
        "select * from pageformer.diff('base', %s)", [f"{loaded.model}@{loaded.version}"]
    ).fetchall()
    assert [row[:3] for row in differing] == [("layer.0.attention.output.weight", 1, 1)]


def test_a_version_that_shares_nine_tenths_writes_one_tenth(
    connection: Connection, minilm_dir: Path, tmp_path: Path
) -> None:
    whole = load(connection, minilm_dir, name="minilm")
    moved_bytes = tune_part(minilm_dir, tmp_path / "tuned", 0.1)
    tuned = load(connection, tmp_path / "tuned", name="minilm")
    assert moved_bytes <= tuned.new_bytes <= 1.01 * moved_bytes
    assert 0.09 < tuned.new_bytes / whole.new_bytes < 0.101


def test_sharing_is_told_by_a_view_and_differences_by_diff(
    connection: Connection, base: Path
) -> None:
    source = moved(base, 0.0)
    path = source / "model.safetensors"
    tensors: dict[str, Any] = {n: np.array(t.array) for n, t in read_tensors(path).items()}
    tensors["encoder.layer.0.attention.self.query.weight"][0, 0] += 1
    write_safetensors(path, tensors)
    load(connection, source, name="changed")
    differing = connection.execute("select * from pageformer.diff('base', 'changed')").fetchall()
    assert [row[:3] for row in differing] == [("layer.0.attention.query.weight", 1, 1)]
    assert 0 < differing[0][3] < 1
    row = connection.execute(
        "select bytes - shared_bytes, own_bytes, shared_blocks > 0"
        " from pageformer.sharing where model = 'changed' and other_model = 'base'"
    ).fetchone()
    assert row is not None
    assert row[0] == row[1] > 0
    assert row[2]


def labelled(folder: Path, lines: list[str]) -> Path:
    path = folder / "examples.tsv"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_labelled_texts_need_a_head(connection: Connection, base: Path, tmp_path: Path) -> None:
    file = labelled(tmp_path, [f"text {i}\tyes" for i in range(30)])
    with pytest.raises(InvalidCheckpoint, match="has no classification head"):
        load(connection, moved(base, 0.05), name="x", sharing=Sharing("delta", 0.005, file))


def test_scored_pairs_are_measured_by_rank(
    connection: Connection, base: Path, tmp_path: Path
) -> None:
    file = labelled(tmp_path, [f"text {i}\tword {i * 7 % 11}\t{i % 5}" for i in range(60)])
    loaded = load(connection, moved(base, 0.02), name="x", sharing=Sharing("delta", 0.05, file))
    assert loaded.outcome is not None
    assert loaded.outcome.measure == "spearman"
    assert loaded.outcome.loss.inputs == 30
    assert loaded.outcome.loss.dropped <= 0.05


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a"] * 5, "has 5 examples, too few"),
        (["a\tb"] * 30 + ["c"], "line 31 of .* has 1 fields, the first has 2"),
        (["a\tb\tc"] * 30, "'c' is no score"),
        (["a\tb\t1\t2"] * 30, "line 1 of .* has 4 fields"),
    ],
)
def test_examples_that_cannot_be_used_are_told(
    connection: Connection, base: Path, tmp_path: Path, lines: list[str], said: str
) -> None:
    file = labelled(tmp_path, lines)
    with pytest.raises(InvalidInput, match=said):
        load(connection, base, name="x", sharing=Sharing("delta", 0.005, file))


def test_a_rung_or_bound_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="there is no rung 'lossy'"):
        sharing("lossy", 0.005, None)
    with pytest.raises(InvalidInput, match="the bound on the drop is 5"):
        sharing("delta", 5, None)
    assert sharing("exact", 0.005, None) is None


def test_a_model_of_tensors_cannot_be_measured(connection: Connection, tmp_path: Path) -> None:
    source = tiny_models.write("encoder-paper", tmp_path)
    with pytest.raises(NotBuilt, match="takes tensors"):
        share(connection, source, "delta")


def test_the_commands_of_the_guide_work(
    database: str, connection: Connection, base: Path, tmp_path: Path
) -> None:
    def run(*arguments: str) -> str:
        command = [Path(sys.executable).with_name("pageformer"), *arguments, "--dsn", database]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    texts = labelled(tmp_path, [f"text {i} of several" for i in range(40)])
    said = run(
        "load", str(moved(base, 0.05)), "--name", "tuned", "--dedup", "delta",
        "--max-drop", "0.01", "--evaluate", str(texts),
    )  # fmt: skip
    assert "on 20 inputs that only checked the choice" in said
    assert run("pack", "--dry-run").startswith("would pack ")
    assert run("pack").startswith("packed ")
    assert "layer.0.attention.query.weight" in run("diff", "base", "tuned@v1")
    page = tmp_path / "report.html"
    assert run("report", str(page)).strip() == str(page)
    assert "tuned@v1" in page.read_text()

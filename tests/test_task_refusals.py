"""An adapter that is broken, or does more than is computed, is refused by name."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from conftest import create_database, drop_database
from tiny_files import write_safetensors

from pageformer.cluster import Cluster
from pageformer.errors import InvalidTask, UnknownName
from pageformer.loader.load import load
from pageformer.loader.safetensors_file import read_tensors
from pageformer.loader.tasks.add import Source, add

SAVED = Path(__file__).parent / "reference" / "tasks"
LORA = "peft/bert-sequence/lora"
QUERY = "base_model.model.bert.encoder.layer.0.attention.self.query"
HOULSBY = "adapters/bert-sequence/houlsby"
DOWN = "bert.encoder.layer.0.attention.output.adapters.legal.adapter_down.0.weight"
WEIGHTS = {"peft": "adapter_model.safetensors", "adapters": "adapter.safetensors"}

Connection = psycopg.Connection[Any]
Tensors = dict[str, Any]


@pytest.fixture(scope="module")
def connection(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder = tmp_path_factory.mktemp("bases")
    dsn = create_database(cluster, "task_refusals")
    with psycopg.connect(dsn, autocommit=True) as connection:
        for base in ("bert-sequence", "bert-cls-normalized", "roberta-sequence"):
            load(connection, tiny_models.write(base, folder), name=base)
        yield connection
    drop_database(cluster, "task_refusals")


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a saved task, to break it."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(SAVED / name, tmp_path / "task"))

    return copy


def refusal(connection: Connection, directory: Path, model: str = "bert-sequence") -> str:
    """Add a task that is refused; nothing of it is kept."""
    with pytest.raises(InvalidTask) as caught:
        add(connection, Source(str(directory)), model=model, name="broken")
    counts = connection.execute(
        "select count(*) from pageformer.task union all select count(*) from pageformer.task_page"
    )
    assert counts.fetchall() == [(0,), (0,)]
    return f"{caught.value.message} | {caught.value.hint}"


def set_keys(directory: Path, file: str = "adapter_config.json", **keys: Any) -> None:
    path = directory / file
    content = json.loads(path.read_text())
    inner = content.get("config", content)
    inner.update(keys)
    path.write_text(json.dumps(content))


def change(directory: Path, edit: Callable[[Tensors], Any]) -> None:
    """Change the tensors of an adapter."""
    [path] = [directory / f for f in WEIGHTS.values() if (directory / f).exists()]
    tensors: Tensors = {n: np.array(t.array) for n, t in read_tensors(path).items()}
    edit(tensors)
    write_safetensors(path, tensors)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"use_qalora": True}, "use_qalora = True: expected False or None"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"bias": "some"}, "bias = 'some'"),
        ({"peft_type": "VERA"}, "peft_type = 'VERA': expected 'LORA'"),
        ({"task_type": "CAUSAL_LM"}, "task_type = 'CAUSAL_LM'"),
        ({"of_next_year": 7}, "of_next_year = 7: a key that is not known"),
        ({"use_rslora": "yes"}, "use_rslora = 'yes': expected true or false"),
        ({"r": 0}, "r = 0: expected a number above 0"),
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"lora_alpha": 1e60}, "attention.query/low_rank/up would have NaN or infinity"),
    ],
)
def test_a_key_of_peft_that_is_not_followed(
    connection: Connection, copied: Callable[[str], Path], keys: Any, told: str
) -> None:
    directory = copied(LORA)
    set_keys(directory, **keys)
    assert told in refusal(connection, directory)


def test_dora_of_embeddings(connection: Connection, copied: Callable[[str], Path]) -> None:
    directory = copied("peft/bert-mean/lora-embeddings")
    set_keys(directory, use_dora=True)
    told = refusal(connection, directory)
    assert "use_dora = True: embeddings.word_embeddings is a table of embeddings" in told


@pytest.mark.parametrize("family", ["modernbert", "mpnet"])
def test_a_prefix_for_attention_that_tells_distances(
    connection: Connection, tmp_path: Path, family: str
) -> None:
    base = f"{family}-sequence"
    load(connection, tiny_models.write(base, tmp_path), name=base)
    told = refusal(connection, SAVED / "peft/bert-sequence/prefix", base)
    assert f"peft_type = 'PREFIX_TUNING': attention of family {family} tells how far" in told


def test_a_key_at_its_default_and_an_empty_one_of_next_year_do_no_harm(
    connection: Connection, copied: Callable[[str], Path]
) -> None:
    directory = copied(LORA)
    set_keys(directory, of_next_year=None, use_bdlora=None, lora_dropout=0.3)
    added = add(connection, Source(str(directory)), model="bert-sequence", name="fine")
    assert added.arrays > 0
    connection.execute("select pageformer.drop_task('bert-sequence', 'fine')")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"inv_adapter": "nice"}, "inv_adapter = 'nice'"),
        ({"phm_layer": True}, "phm_layer = True"),
        ({"use_gating": True}, "use_gating = True"),
        ({"non_linearity": "mish"}, "non_linearity = 'mish': expected one of"),
        ({"architecture": "reft"}, "architecture = 'reft'"),
        ({"reduction_factor": {"1": 2}}, "reduction_factor"),
        ({"reduction_factor": 8}, "adapter_down.0.weight has shape [6, 96], expected [12, 96]"),
        ({"leave_out": 1}, "leave_out = 1: expected a list"),
        ({"of_next_year": 7}, "of_next_year = 7: a key that is not known"),
    ],
)
def test_a_key_of_adapters_that_is_not_followed(
    connection: Connection, copied: Callable[[str], Path], keys: Any, told: str
) -> None:
    directory = copied(HOULSBY)
    set_keys(directory, **keys)
    assert told in refusal(connection, directory)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"head_type": "question_answering"}, "head_type = 'question_answering'"),
        ({"activation_function": "mish"}, "activation_function = 'mish'"),
        ({"num_labels": 4}, "heads.legal.4.weight has shape [3, 96], expected [4, 96]"),
        ({"layers": 3}, "heads.legal.4.weight has shape [3, 96]"),
        ({"of_next_year": 7}, "of_next_year = 7"),
    ],
)
def test_a_key_of_a_head_that_is_not_followed(
    connection: Connection, copied: Callable[[str], Path], keys: Any, told: str
) -> None:
    directory = copied(HOULSBY)
    set_keys(directory, "head_config.json", **keys)
    assert told in refusal(connection, directory)


def test_another_rank_than_the_config_says(
    connection: Connection, copied: Callable[[str], Path]
) -> None:
    directory = copied(LORA)
    set_keys(directory, r=8)
    told = refusal(connection, directory)
    assert "layer.0.attention.self.query.lora_A.weight has shape [4, 96], expected [8, 96]" in told


@pytest.mark.parametrize("part", ["lora_A.weight", "lora_B.weight"])
def test_half_a_pair(connection: Connection, copied: Callable[[str], Path], part: str) -> None:
    directory = copied(LORA)
    change(directory, lambda tensors: tensors.pop(f"{QUERY}.{part}"))
    told = refusal(connection, directory)
    assert "adapter_model.safetensors lacks" in told
    assert f"attention.self.query.{part}" in told


def test_a_target_module_that_the_file_lacks(
    connection: Connection, copied: Callable[[str], Path]
) -> None:
    directory = copied(LORA)
    for part in ("lora_A.weight", "lora_B.weight"):
        change(directory, lambda tensors, part=part: tensors.pop(f"{QUERY}.{part}"))
    told = refusal(connection, directory)
    assert "lacks the target modules: encoder.layer.0.attention.self.query" in told


@pytest.mark.parametrize(("name", "key"), [(LORA, f"{QUERY}.lora_A.weight"), (HOULSBY, DOWN)])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_is_none(
    connection: Connection, copied: Callable[[str], Path], name: str, key: str, number: float
) -> None:
    directory = copied(name)
    change(directory, lambda tensors: tensors[key].__setitem__((0, 0), number))
    assert f"has NaN or infinity in: {key}" in refusal(connection, directory)


def test_a_tensor_that_nothing_takes(connection: Connection, copied: Callable[[str], Path]) -> None:
    for name in (LORA, HOULSBY):
        directory = copied(name)
        change(directory, lambda tensors: tensors.update({"strange.weight": np.ones((2, 2))}))
        assert "has no place for: strange.weight" in refusal(connection, directory)
        shutil.rmtree(directory)


@pytest.mark.parametrize("name", [LORA, "peft/bert-sequence/ln", "peft/bert-sequence/prefix"])
def test_an_adapter_of_another_model(connection: Connection, name: str) -> None:
    """Three layers where the adapter has two; and other names altogether."""
    told = refusal(connection, SAVED / name, "bert-cls-normalized")
    assert "layer.2" in told or "prompt_embeddings has shape [5, 384], expected [5, 576]" in told


def test_an_adapter_of_another_width(connection: Connection, copied: Callable[[str], Path]) -> None:
    directory = copied(LORA)
    key = f"{QUERY}.lora_A.weight"
    change(directory, lambda tensors: tensors.update({key: tensors[key][:, :64]}))
    told = refusal(connection, directory)
    assert "lora_A.weight has shape [4, 64], expected [4, 96]" in told
    assert "made for another model" in told


def test_a_bottleneck_that_the_file_lacks(
    connection: Connection, copied: Callable[[str], Path]
) -> None:
    directory = copied("adapters/bert-sequence/channel")
    set_keys(directory, leave_out=[])
    assert "lacks the bottlenecks at: layer.0.feed_forward" in refusal(connection, directory)


@pytest.mark.parametrize(
    ("name", "safe", "pickled"),
    [
        (LORA, "adapter_model.safetensors", "adapter_model.bin"),
        (HOULSBY, "adapter.safetensors", "pytorch_adapter.bin"),
        (HOULSBY, "model_head.safetensors", "pytorch_model_head.bin"),
    ],
)
def test_a_pickled_file_is_refused_with_the_line_that_converts_it(
    connection: Connection, copied: Callable[[str], Path], name: str, safe: str, pickled: str
) -> None:
    directory = copied(name)
    (directory / safe).rename(directory / pickled)
    told = refusal(connection, directory)
    assert f"{pickled} is pickled" in told
    assert "weights_only=True" in told
    assert f"{safe}" in told


def test_a_directory_without_an_adapter(connection: Connection, tmp_path: Path) -> None:
    assert "has no adapter_config.json" in refusal(connection, tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "neither peft_type nor config" in refusal(connection, tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    assert "cannot be read as JSON" in refusal(connection, tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "there is no file" in refusal(connection, tmp_path)


def test_a_version_that_is_not_there(connection: Connection) -> None:
    for model in ("nothing", "bert-sequence@v9"):
        with pytest.raises(UnknownName, match="does not exist") as caught:
            add(connection, Source(str(SAVED / LORA)), model=model, name="lost")
        assert "bert-sequence@v1" in caught.value.hint


def test_a_head_whose_first_layer_is_nowhere(
    connection: Connection, tmp_path: Path, copied: Callable[[str], Path]
) -> None:
    directory = tiny_models.write("bert-words", tmp_path)
    load(connection, directory, name="moved")
    directory.rename(tmp_path / "elsewhere")
    name = "peft/bert-words/lora-pooler-of-base"
    told = refusal(connection, SAVED / name, "moved")
    assert "needs pooler.dense.weight, which neither it nor moved@v1 has" in told
    assert "--base" in told
    source = Source(str(SAVED / name), base=str(tmp_path / "elsewhere"))
    assert add(connection, source, model="moved", name="found").deployed
    other = Source(str(SAVED / name), base=str(tiny_models.write("bert-tokens", tmp_path)))
    with pytest.raises(InvalidTask, match="does not hold what moved@v1 was loaded from"):
        add(connection, other, model="moved", name="lost")
    connection.execute("select pageformer.drop_task('moved', 'found')")


def test_labels_of_another_number(connection: Connection) -> None:
    from pageformer.loader.tasks.head import Wishes

    source = Source(str(SAVED / LORA), wishes=Wishes(["yes", "no"]))
    with pytest.raises(InvalidTask, match="2 labels were named, and the head has 3"):
        add(connection, source, model="bert-sequence", name="named")

"""Tiny random models of late interaction, as three libraries save them."""

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import tiny_heads
import tiny_models
from tiny_files import Json, write_json, write_safetensors
from tiny_weights import HIDDEN

TOKENS: Json = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
CLASSIC: Json = {"strategy": "fixed", "attend": False, "token": None, "length": 20}
# Words of the tiny vocabulary that become markers, as a trained model has some.
MARKED = ("##Y", "##P")


@dataclass(frozen=True)
class TinyLateModel:
    """Describe one model directory."""

    family: str
    seed: int
    saved_by: Literal["sentence-transformers", "PyLate", "Stanford"] = "sentence-transformers"
    transformer: Json = field(default_factory=dict)
    mask: Json = field(default_factory=dict)
    prompts: Json = field(default_factory=lambda: {"query": "[Q] ", "document": "[D] "})
    widths: tuple[int, ...] = (24,)  # of Dense modules
    normalized: bool = True
    settings: Json = field(default_factory=dict)


MODELS: dict[str, TinyLateModel] = {
    "late-bert": TinyLateModel(
        "bert",
        601,
        transformer={"query_expansion": CLASSIC, "document_length": 40},
        mask={"skiplist_words": [*string.punctuation], "skiplist_tasks": ["document"]},
    ),
    "late-modernbert": TinyLateModel(
        "modernbert",
        602,
        transformer={
            "query_expansion": {**CLASSIC, "strategy": "min", "length": 9, "token": "[SEP]"},
            "query_length": 15,
        },
        mask={"skiplist_words": [",", ".", "the"], "skiplist_tasks": ["query", "document"]},
        prompts={},
        widths=(40, 17),
        normalized=False,
    ),
    "late-roberta": TinyLateModel(
        "roberta",
        603,
        transformer={"query_expansion": CLASSIC},
        mask={"skiplist_words": [], "keep_only_token_ids": [*range(5, 300)]},
    ),
    "late-mpnet": TinyLateModel("mpnet", 604, transformer={"query_expansion": CLASSIC}),
    "late-deberta": TinyLateModel(
        "deberta-v2", 605, transformer={"query_expansion": {**CLASSIC, "attend": True}}
    ),
    "late-plain": TinyLateModel(
        "albert", 606, transformer={"query_length": 12, "document_length": 30}, widths=()
    ),
    "pylate-bert": TinyLateModel(
        "bert",
        607,
        "PyLate",
        prompts={"query": "find: "},
        settings={
            "query_prefix": "[Q] ",
            "document_prefix": "[D] ",
            "query_length": 18,
            "document_length": 50,
            "attend_to_expansion_tokens": False,
            "skiplist_words": None,
            "do_query_expansion": True,
        },
    ),
    "pylate-modernbert": TinyLateModel(
        "modernbert",
        608,
        "PyLate",
        prompts={},
        settings={
            "query_prefix": "",
            "document_prefix": "search: ",
            "query_length": 30,
            "document_length": 60,
            "attend_to_expansion_tokens": True,
            "skiplist_words": ["!", "?"],
            "do_query_expansion": False,
        },
    ),
    "stanford-bert": TinyLateModel(
        "bert", 609, "Stanford", settings={"query_maxlen": 16, "doc_maxlen": 44}
    ),
}


def write(name: str, folder: Path) -> Path:
    """Write the model `name` into a folder of that name and return it."""
    model, directory = MODELS[name], folder / name
    prefix = tiny_heads.PREFIXES[model.family]
    plain = tiny_models.TinyModel(model.family, model.seed, pooling=None, prefix=prefix)
    directory.mkdir(parents=True)
    tiny_models.write_model(directory, plain)
    draw = np.random.RandomState(model.seed)
    if model.saved_by == "Stanford":
        write_stanford(directory, model, plain, draw.standard_normal((24, HIDDEN)) * 0.3)
        return directory
    kinds = write_modules(directory, model, draw)
    write_json(directory / "modules.json", kinds)
    write_settings(directory, model)
    return directory


def write_modules(directory: Path, model: TinyLateModel, draw: np.random.RandomState) -> list[Json]:
    """Write the modules behind the encoder, and list them all."""
    own = model.saved_by == "sentence-transformers"
    dense = "sentence_transformers.base.modules.dense.Dense" if own else "pylate.models.Dense.Dense"
    kinds = [("", "sentence_transformers.models.Transformer")]
    inputs = HIDDEN
    for width in model.widths:
        kinds.append((f"{len(kinds)}_Dense", dense))
        biased = width != model.widths[-1]
        settings = {"in_features": inputs, "out_features": width, "bias": biased}
        activation = {"activation_function": "torch.nn.modules.linear.Identity"}
        config = {**settings, **activation, **(TOKENS if own else {"use_residual": False})}
        write_json(directory / kinds[-1][0] / "config.json", config)
        tensors = {"linear.weight": draw.standard_normal((width, inputs)) * 0.05}
        if biased:
            tensors["linear.bias"] = draw.standard_normal(width)
        write_safetensors(directory / kinds[-1][0] / "model.safetensors", tensors)
        inputs = width
    if own:
        kinds.append(
            (f"{len(kinds)}_MultiVectorMask", f"{MULTI}.multi_vector_mask.MultiVectorMask")
        )
        write_json(directory / kinds[-1][0] / "config.json", model.mask)
    if own and model.normalized:
        kinds.append((f"{len(kinds)}_Normalize", "sentence_transformers.base.modules.Normalize"))
        write_json(directory / kinds[-1][0] / "config.json", TOKENS)
    return [
        {"idx": i, "name": str(i), "path": path, "type": kind}
        for i, (path, kind) in enumerate(kinds)
    ]


MULTI = "sentence_transformers.multi_vector_encoder.modules"


def write_settings(directory: Path, model: TinyLateModel) -> None:
    """Write the settings of the encoder and of the model."""
    own = model.saved_by == "sentence-transformers"
    transformer: Json = {"transformer_task": "feature-extraction"} if own else {}
    limit = {} if own else {"max_seq_length": 99, "do_lower_case": False}
    write_json(
        directory / "sentence_bert_config.json", {**transformer, **limit, **model.transformer}
    )
    settings: Json = {
        "model_type": "MultiVectorEncoder" if own else "ColBERT",
        "prompts": model.prompts,
        "default_prompt_name": None,
        "similarity_fn_name": None if own else "MaxSim",
        **model.settings,
    }
    write_json(directory / "config_sentence_transformers.json", settings)
    if settings.get("query_prefix"):
        rename_words(directory, dict(zip(MARKED, ("[Q] ", "[D] "), strict=True)), added=True)


def write_stanford(
    directory: Path, model: TinyLateModel, plain: tiny_models.TinyModel, projection: object
) -> None:
    """Put the projection among the encoder's tensors, and the settings into artifact.metadata."""
    _, vocabulary = tiny_models.tokenizer_of(plain)
    tensors = {**tiny_models.tensors_of(plain, vocabulary), "linear.weight": np.array(projection)}
    write_safetensors(directory / "model.safetensors", tensors)
    config = json.loads((directory / "config.json").read_text())
    write_json(directory / "config.json", {**config, "architectures": ["HF_ColBERT"]})
    (directory / "artifact.metadata").write_text(json.dumps(model.settings))
    rename_words(directory, dict(zip(MARKED, ("[unused0]", "[unused1]"), strict=True)))


def rename_words(directory: Path, names: Mapping[str, str], added: bool = False) -> None:
    """Give words of the vocabulary other names; added: list them as tokens that were added."""
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    words = tokenizer["model"]["vocab"]
    for old, new in names.items():
        words[new] = words.pop(old)
        if added:
            flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": False}
            token = {"id": words[new], "content": new, "normalized": True, **flags}
            tokenizer["added_tokens"].append(token)
    write_json(path, tokenizer)

"""Write model files byte by byte: safetensors, a sharded index, sentence-transformers' JSON.

Written here and not by the libraries, so that tests do not depend on what these write today.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Json = dict[str, Any]
Step = tuple[str, Json, dict[str, tuple[int, ...]]]  # kind, settings, tensors
Array = npt.NDArray[Any]
Format = Literal["F32", "F16", "BF16"]


def write_json(path: Path, content: Json | list[Json]) -> None:
    """Write JSON, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def write_safetensors(path: Path, tensors: Mapping[str, Array], format: Format = "F32") -> None:
    """Write a safetensors file: length of the header, header, bytes. Integers stay I64."""
    header: Json = {"__metadata__": {"format": "pt"}}
    chunks: list[bytes] = []
    end = 0
    for name, tensor in tensors.items():
        kind = "I64" if tensor.dtype == np.int64 else format
        chunks.append(encoded(tensor, kind))
        start, end = end, end + len(chunks[-1])
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def encoded(tensor: Array, kind: str) -> bytes:
    """Encode a tensor little-endian; bfloat16 is the upper half of float32, rounded to even."""
    if kind == "BF16":
        bits = tensor.astype("<f4").view("<u4").astype(np.uint64)
        return (
            ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16))
            .astype("<u2")
            .tobytes()
        )
    return tensor.astype({"F32": "<f4", "F16": "<f2", "I64": "<i8"}[kind]).tobytes()


def write_shards(directory: Path, tensors: Mapping[str, Array], format: Format, count: int) -> None:
    """Write `count` safetensors files and the index that says which holds what."""
    places: dict[str, str] = {}
    names = list(tensors)
    for shard in range(count):
        file = f"model-{shard + 1:05d}-of-{count:05d}.safetensors"
        held = {name: tensors[name] for name in names[shard::count]}
        write_safetensors(directory / file, held, format)
        places.update(dict.fromkeys(held, file))
    total = sum(tensor.size for tensor in tensors.values())
    write_json(
        directory / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))},
    )


def write_sentence_files(
    directory: Path,
    hidden: int,
    pooling: str,
    normalized: bool,
    transformer: Json,
    sentence: Json,
) -> None:
    """Write modules.json and what it names, in the older of its two dialects."""
    parts = ["Transformer", "Pooling", *(["Normalize"] if normalized else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules: list[Json] = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{part}"}
        for i, (part, path) in enumerate(zip(parts, paths, strict=False))
    ]
    write_json(directory / "modules.json", modules)
    write_json(directory / "sentence_bert_config.json", transformer)
    write_json(directory / "config_sentence_transformers.json", sentence)
    write_json(
        directory / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": hidden,
            **{key: mode in pooling.split("+") for key, mode in OLD_MODES.items()},
        },
    )


def write_rank_files(directory: Path, settings: Json) -> None:
    """Write the one module of a cross-encoder, and its settings."""
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    write_json(directory / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": kind}])
    transformer: Json = {
        "transformer_task": "sequence-classification",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        "module_output_name": "scores",
    }
    write_json(directory / "sentence_bert_config.json", transformer)
    path = directory / "config_sentence_transformers.json"
    write_json(path, {"model_type": "CrossEncoder", **settings})


def write_sparse_files(directory: Path, pooling: str) -> None:
    """Write the modules of a SPLADE model."""
    base = "sentence_transformers.sparse_encoder.models"
    kinds = [("", "MLMTransformer"), ("1_SpladePooling", "SpladePooling")]
    modules: list[Json] = [
        {"idx": i, "name": str(i), "path": path, "type": f"{base}.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    write_json(directory / "modules.json", modules)
    settings = {"pooling_strategy": pooling, "activation_function": "relu"}
    write_json(directory / "1_SpladePooling" / "config.json", settings)
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": 128})
    sparse = {"model_type": "SparseEncoder", "prompts": {"query": "query: "}}
    write_json(directory / "config_sentence_transformers.json", sparse)


OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def write_steps(directory: Path, steps: Sequence[Step], seed: int) -> None:
    """Add modules behind pooling to modules.json: what they are, their settings, their weights."""
    modules = json.loads((directory / "modules.json").read_text())
    draw = np.random.RandomState(seed)
    for kind, settings, shapes in steps:
        number = len(modules)
        folder = directory / f"{number}_{kind}"
        write_json(folder / "config.json", settings)
        if shapes:
            tensors = {name: draw.standard_normal(shape) * 0.3 for name, shape in shapes.items()}
            write_safetensors(folder / "model.safetensors", tensors)
        type = f"sentence_transformers.models.{kind}"
        modules.append({"idx": number, "name": str(number), "path": folder.name, "type": type})
    write_json(directory / "modules.json", modules)


def write_new_sentence_files(
    directory: Path,
    hidden: int,
    pooling: str,
    normalized: bool,
    include_prompt: bool = True,
    sentence: Json | None = None,
) -> None:
    """Write the same in the newer dialect, of sentence-transformers 6."""
    base = "sentence_transformers"
    types = [
        ("", f"{base}.base.modules.transformer.Transformer"),
        ("1_Pooling", f"{base}.sentence_transformer.modules.pooling.Pooling"),
        *([("2_Normalize", f"{base}.base.modules.normalize.Normalize")] if normalized else []),
    ]
    modules: list[Json] = [
        {"idx": i, "name": str(i), "path": path, "type": type}
        for i, (path, type) in enumerate(types)
    ]
    write_json(directory / "modules.json", modules)
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    write_json(
        directory / "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": text},
            "module_output_name": "token_embeddings",
        },
    )
    write_json(
        directory / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
            **(sentence or {}),
        },
    )
    write_json(
        directory / "1_Pooling" / "config.json",
        {
            "embedding_dimension": hidden,
            "pooling_mode": pooling.split("+") if "+" in pooling else pooling,
            "include_prompt": include_prompt,
        },
    )

"""Tiny random vision transformers, written as transformers and sentence-transformers save them."""

from dataclasses import dataclass, field
from pathlib import Path

from tiny_files import Json, write_json, write_safetensors
from tiny_weights import HEADS, HIDDEN, WIDE, Shapes, linear, norm, random_tensors

PROCESSOR: Json = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 1 / 255,
}


@dataclass(frozen=True)
class TinyImageModel:
    """Describe one model directory."""

    seed: int
    size: tuple[int, int]
    patch: tuple[int, int]
    layers: int = 2
    labels: int = 0
    config: Json = field(default_factory=dict)
    processor: Json = field(default_factory=dict)
    pooling: str = ""  # of sentence-transformers, then normalised; "": no such files


MODELS: dict[str, TinyImageModel] = {
    "vit-odd": TinyImageModel(
        501,
        size=(30, 37),
        patch=(7, 9),
        config={"hidden_act": "gelu_new"},
        processor={
            "resample": 3,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
    ),
    "vit-labels": TinyImageModel(
        502, size=(32, 32), patch=(8, 8), labels=5, config={"qkv_bias": False}
    ),
    "vit-raw": TinyImageModel(
        503,
        size=(24, 16),
        patch=(4, 4),
        layers=3,
        processor={"do_normalize": False, "resample": 0, "rescale_factor": 1 / 127.5},
    ),
    # More patches than a block has rows.
    "vit-many": TinyImageModel(505, size=(36, 48), patch=(3, 4)),
    "vit-deep": TinyImageModel(504, size=(27, 27), patch=(9, 9), layers=12, pooling="mean"),
}


def write(name: str, folder: Path) -> Path:
    """Write the model `name` into a folder of that name and return it."""
    directory, model = folder / name, MODELS[name]
    write_json(directory / "config.json", config_of(model))
    height, width = model.size
    size = {"size": {"height": height, "width": width}}
    write_json(directory / "preprocessor_config.json", {**PROCESSOR, **size, **model.processor})
    prefix = "vit." if model.labels else ""
    tensors = random_tensors(((prefix + n, shape) for n, shape in shapes(model)), model.seed)
    tensors.update(random_tensors(head_shapes(model), model.seed + 1))
    write_safetensors(directory / "model.safetensors", tensors)
    if model.pooling:
        write_sentence_files(directory, model.pooling)
    return directory


def config_of(model: TinyImageModel) -> Json:
    """Describe the architecture as its config class saves it."""
    square = model.size[0] == model.size[1]
    labels = {str(i): f"label {i}" for i in range(model.labels)}
    return {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification" if labels else "ViTModel"],
        "hidden_size": HIDDEN,
        "num_hidden_layers": model.layers,
        "num_attention_heads": HEADS,
        "intermediate_size": WIDE,
        "image_size": model.size[0] if square else [*model.size],
        "patch_size": model.patch[0] if square else [*model.patch],
        **({"id2label": labels} if labels else {}),
        **model.config,
    }


def shapes(model: TinyImageModel) -> Shapes:
    """Name the tensors of ViT."""
    (height, width), (high, wide) = model.size, model.patch
    yield "embeddings.cls_token", (1, 1, HIDDEN)
    yield "embeddings.position_embeddings", (1, (height // high) * (width // wide) + 1, HIDDEN)
    yield "embeddings.patch_embeddings.projection.weight", (HIDDEN, 3, high, wide)
    yield "embeddings.patch_embeddings.projection.bias", (HIDDEN,)
    for layer in range(model.layers):
        at = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            projection = linear(f"{at}.attention.attention.{part}", HIDDEN, HIDDEN)
            biased = model.config.get("qkv_bias", True)
            yield from (t for t in projection if biased or not t[0].endswith(".bias"))
        yield from linear(f"{at}.attention.output.dense", HIDDEN, HIDDEN)
        yield from linear(f"{at}.intermediate.dense", WIDE, HIDDEN)
        yield from linear(f"{at}.output.dense", HIDDEN, WIDE)
        yield from norm(f"{at}.layernorm_before")
        yield from norm(f"{at}.layernorm_after")
    yield from norm("layernorm")


def head_shapes(model: TinyImageModel) -> Shapes:
    """Name the tensors behind the encoder: a classifier, or a pooler that is not used."""
    if model.labels:
        yield from linear("classifier", model.labels, HIDDEN)
    else:
        yield from linear("pooler.dense", HIDDEN, HIDDEN)


def write_sentence_files(directory: Path, pooling: str) -> None:
    """Write modules.json and what it names, as sentence-transformers 6 does for images."""
    kinds = {
        "": "base.modules.transformer.Transformer",
        "1_Pooling": "sentence_transformer.modules.pooling.Pooling",
        "2_Normalize": "base.modules.normalize.Normalize",
    }
    modules: list[Json] = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    write_json(directory / "modules.json", modules)
    states = {"method": "forward", "method_output_name": "last_hidden_state"}
    transformer: Json = {
        "transformer_task": "feature-extraction",
        "modality_config": {"image": states},
        "module_output_name": "token_embeddings",
    }
    write_json(directory / "sentence_bert_config.json", transformer)
    settings: Json = {"embedding_dimension": HIDDEN, "pooling_mode": pooling}
    write_json(directory / "1_Pooling" / "config.json", {**settings, "include_prompt": True})
    model: Json = {"model_type": "SentenceTransformer", "prompts": {"query": "", "document": ""}}
    write_json(directory / "config_sentence_transformers.json", model)

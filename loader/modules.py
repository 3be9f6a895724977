"""What sentence-transformers makes of an encoder's output: pooling, normalising, prompts, limits.

Follows sentence-transformers 6.2 in what each file means, in the format of version 6 and in the
older one. A module, mode or setting that the forward pass does not have is refused by name.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.json_file import Json, read_json, read_object, read_object_if_present
from pageformer.loader.late_interaction import is_late, read_late, read_stanford
from pageformer.loader.pipeline import Pipeline, read_settings, read_transformer
from pageformer.loader.steps import check_settings, read_step, refused

SPARSE = ("MLMTransformer", "SpladePooling")
TYPE = re.compile(
    r"(?:pylate\.models|sentence_transformers\.(?:models|base\.modules|"
    r"(?:sentence_transformer|sparse_encoder|multi_vector_encoder)\.(?:modules|models)))"
    r"(?:\.\w+)?\.(\w+)"
)
PLAIN = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
KINDS = (*PLAIN, *SPARSE, "MultiVectorMask")
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

RANK_ACTIVATIONS = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "none",
}
OLD_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_pipeline(directory: Path) -> Pipeline:
    """Read the module files of a directory; without `modules.json` it is mean pooling alone.

    Raises InvalidCheckpoint that names the module, mode or setting that stops it.
    """
    path = directory / "modules.json"
    if not path.exists():
        return read_stanford(directory) or Pipeline(directory)
    modules = [_module(path, entry) for entry in _entries(path)]
    kinds = [kind for kind, _ in modules]
    settings = read_object_if_present(directory / "config_sentence_transformers.json")
    if is_late(settings, kinds):
        return read_late(directory, [(kind, directory / folder) for kind, folder in modules])
    if kinds == ["Transformer"]:
        return _cross_encoder(directory, directory / modules[0][1])
    if kinds in (["Transformer", "SpladePooling"], [*SPARSE]):
        return _sparse_encoder(directory, *(directory / folder for _, folder in modules))
    if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & {*kinds[2:]}:
        raise InvalidCheckpoint(
            f"{path} has the modules {', '.join(kinds)}, expected Transformer, Pooling "
            "and perhaps Dense, LayerNorm or Normalize"
        )
    folders = [directory / subfolder for _, subfolder in modules]
    read = [read_step(*module) for module in zip(kinds[2:], folders[2:], strict=True)]
    steps = [step for step in read if step is not None]
    normalized = bool(steps) and steps[-1].entry["kind"] == "normalize"
    max_length, lowercase = read_transformer(folders[0])
    pooling, include_prompt = _pooling(folders[1] / "config.json")
    return Pipeline(
        folder=folders[0],
        pooling=pooling,
        include_prompt=include_prompt,
        steps=tuple(steps[:-1] if normalized else steps),
        normalized=normalized,
        is_embedding=True,
        max_length=max_length,
        lowercase=lowercase,
        **read_settings(directory / "config_sentence_transformers.json"),
    )


def _cross_encoder(directory: Path, folder: Path) -> Pipeline:
    """Read a Transformer alone: a cross-encoder, or an encoder whose tokens are averaged."""
    path = directory / "config_sentence_transformers.json"
    settings = read_object_if_present(path)
    ranks = settings.get("model_type") == "CrossEncoder"
    max_length, lowercase = read_transformer(folder, "sequence-classification" if ranks else None)
    model = read_settings(path, "CrossEncoder") if ranks else {}
    return Pipeline(
        folder,
        max_length=max_length,
        lowercase=lowercase,
        activation=settings.get("activation_fn"),
        prompts=model.get("prompts", {}),
        default_prompt_name=model.get("default_prompt_name"),
    )


def _sparse_encoder(directory: Path, folder: Path, pooling: Path) -> Pipeline:
    """Read a model of SPLADE's kind."""
    path = pooling / "config.json"
    settings = read_object(path)
    known: dict[str, tuple[Any, ...]] = {
        "pooling_strategy": ("max", "sum"),
        "activation_function": ("relu", "log1p_relu"),
    }
    check_settings(path, settings, known)
    max_length, lowercase = read_transformer(folder, "fill-mask")
    model = read_settings(directory / "config_sentence_transformers.json", "SparseEncoder")
    return Pipeline(
        folder,
        max_length=max_length,
        lowercase=lowercase,
        sparse={
            "pooling": settings.get("pooling_strategy", "max"),
            "activation": settings.get("activation_function", "relu"),
        },
        prompts=model["prompts"],
        default_prompt_name=model["default_prompt_name"],
    )


def rank_activation(pipeline: Pipeline, raw: Json, labels: int) -> str:
    """Tell what a cross-encoder makes scores of logits with: sigmoid, or none.

    Raises InvalidCheckpoint that names another activation.
    """
    saved = raw.get("sentence_transformers") or {}
    names = (pipeline.activation, saved.get("activation_fn"))
    name = next((n for n in names if n), raw.get("sbert_ce_default_activation_function"))
    if name is None:
        return "sigmoid" if labels == 1 else "none"
    if name not in RANK_ACTIVATIONS:
        raise refused(pipeline.folder, "activation_fn", name, tuple(RANK_ACTIVATIONS))
    return RANK_ACTIVATIONS[name]


def _entries(path: Path) -> list[Json]:
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidCheckpoint(f"{path} does not hold a list of modules")
    return entries


def _module(path: Path, entry: Json) -> tuple[str, str]:
    """Read one module's kind and folder."""
    kind, folder = entry.get("type"), entry.get("path", "")
    found = TYPE.fullmatch(str(kind))
    if found is None or found[1] not in KINDS:
        raise InvalidCheckpoint(
            f"{path} has a module of type {kind!r}, expected one of {', '.join(KINDS)}",
            hint="Pageformer loads only models that it computes exactly.",
        )
    if not isinstance(folder, str) or _leaves(folder):
        raise InvalidCheckpoint(f"{path} has a module outside its directory: {folder!r}")
    if entry.get("kwargs"):
        raise refused(path, "kwargs", entry["kwargs"], ([],))
    return found[1], folder


def _leaves(folder: str) -> bool:
    path = PurePosixPath(folder)
    return path.is_absolute() or ".." in path.parts


def _pooling(path: Path) -> tuple[str, bool]:
    """Read the modes, joined by +, and whether a prompt is pooled too."""
    settings = read_object(path)
    modes = _pooling_modes(settings)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise InvalidCheckpoint(
            f"{path} has pooling mode {' + '.join(map(str, modes))}, expected {', '.join(MODES)}",
            hint="Pageformer loads only models that it computes exactly.",
        )
    return "+".join(modes), bool(settings.get("include_prompt", True))


def _pooling_modes(settings: Json) -> list[Any]:
    """Read the modes: named since version 5.4, switched on one by one before."""
    named = settings.get("pooling_mode")
    if named is not None:
        return list(named) if isinstance(named, list) else [named]
    modes = [mode for key, mode in OLD_POOLING.items() if settings.get(key)]
    return modes or ["mean"]

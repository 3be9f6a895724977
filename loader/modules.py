"""What sentence-transformers makes of an encoder's output: pooling, normalising, prompts, limits.

Follows sentence-transformers 6.2 in what each file means, in the format of version 6 and in the
older one. A module, mode or setting that the forward pass does not have is refused by name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.json_file import Json, read_json, read_object, read_object_if_present
from pageformer.loader.steps import Step, check_settings, read_step, refused

SPARSE = ("MLMTransformer", "SpladePooling")
TYPE = re.compile(
    r"sentence_transformers\.(models|base\.modules|(?:sentence_transformer|sparse_encoder)\."
    r"(?:modules|models))(\.\w+)?\.(\w+)"
)
KINDS = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout", *SPARSE)
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

# In the order in which sentence-transformers looks for the settings of its Transformer module.
TRANSFORMER_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
TEXT_MODALITY = {"method": "forward", "method_output_name": "last_hidden_state"}
HEAD_OUTPUT = {"method": "forward", "method_output_name": "logits"}

# Settings that change a vector, each with the values that do not.
TRANSFORMER_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings", "scores"),
    "processing_kwargs": ({}, None),
    "query_length": (None,),
    "document_length": (None,),
    "query_expansion": (None,),
    "tokenizer_name_or_path": (None,),
    "config_args": ({}, None),
    "config_kwargs": ({}, None),
}
MODEL_ARGUMENTS = {"torch_dtype", "dtype", "attn_implementation", "add_pooling_layer"}


@dataclass(frozen=True)
class Pipeline:
    """Describe what stands around an encoder; the defaults are those of a plain directory."""

    folder: Path  # where the encoder's own files are
    pooling: str = "mean"
    include_prompt: bool = True
    steps: tuple[Step, ...] = ()
    normalized: bool = False
    truncate_dim: int = 0
    is_embedding: bool = False  # what modules.json makes of it, whatever else it could do
    activation: str | None = None  # that a cross-encoder makes its scores with
    sparse: Json = field(default_factory=dict)  # how SPLADE pools
    max_length: int | None = None  # None: the tokenizer's
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None


def read_pipeline(directory: Path) -> Pipeline:
    """Read the module files of a directory; without `modules.json` it is mean pooling alone.

    Raises InvalidCheckpoint that names the module, mode or setting that stops it.
    """
    path = directory / "modules.json"
    if not path.exists():
        return Pipeline(directory)
    modules = [_module(path, entry) for entry in _entries(path)]
    kinds = [kind for kind, _ in modules]
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
    max_length, lowercase = _transformer(folders[0])
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
        **_model_settings(directory / "config_sentence_transformers.json"),
    )


def _cross_encoder(directory: Path, folder: Path) -> Pipeline:
    """Read a Transformer alone: a cross-encoder, or an encoder whose tokens are averaged."""
    path = directory / "config_sentence_transformers.json"
    settings = read_object_if_present(path)
    kind = "sequence-classification" if settings.get("model_type") == "CrossEncoder" else None
    max_length, lowercase = _transformer(folder, kind)
    activation = settings.get("activation_fn")
    return Pipeline(folder, max_length=max_length, lowercase=lowercase, activation=activation)


def _sparse_encoder(directory: Path, folder: Path, pooling: Path) -> Pipeline:
    """Read a model of SPLADE's kind."""
    path = pooling / "config.json"
    settings = read_object(path)
    known: dict[str, tuple[Any, ...]] = {
        "pooling_strategy": ("max", "sum"),
        "activation_function": ("relu", "log1p_relu"),
    }
    check_settings(path, settings, known)
    max_length, lowercase = _transformer(folder, "fill-mask")
    model = _model_settings(directory / "config_sentence_transformers.json", "SparseEncoder")
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
    if found is None or found[3] not in KINDS:
        raise InvalidCheckpoint(
            f"{path} has a module of type {kind!r}, expected one of {', '.join(KINDS)}",
            hint="Pageformer loads only models that it computes exactly.",
        )
    if not isinstance(folder, str) or _leaves(folder):
        raise InvalidCheckpoint(f"{path} has a module outside its directory: {folder!r}")
    if entry.get("kwargs"):
        raise refused(path, "kwargs", entry["kwargs"], ([],))
    return found[3], folder


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


def _transformer(folder: Path, task: str | None = None) -> tuple[int | None, bool]:
    """Read the limit in tokens (None: the tokenizer's) and whether texts are lowercased.

    task: what the module does, where it is not to give states.
    """
    path = next((folder / n for n in TRANSFORMER_FILES if (folder / n).exists()), None)
    if path is None:
        return None, False
    settings = read_object(path)
    harmless = {**TRANSFORMER_HARMLESS, **({"transformer_task": (task,)} if task else {})}
    output = HEAD_OUTPUT if task else TEXT_MODALITY
    check_settings(path, settings, harmless)
    modality = settings.get("modality_config", {"text": output})
    if output not in (modality.get("text"), modality.get("image")):
        raise refused(path, "modality_config", modality, ({"text": output},))
    _check_arguments(path, settings, ("model_args", "model_kwargs"), MODEL_ARGUMENTS)
    tokenizer = _check_arguments(
        path, settings, ("tokenizer_args", "processor_kwargs"), {"model_max_length"}
    )
    limit = tokenizer.get("model_max_length", settings.get("max_seq_length"))
    return _limit(path, limit), bool(settings.get("do_lower_case", False))


def _check_arguments(path: Path, settings: Json, keys: Iterable[str], known: set[str]) -> Json:
    """Return the arguments found under the old or the new key, refusing those not known."""
    found: Json = {}
    for key in keys:
        arguments = settings.get(key) or {}
        for name in arguments:
            if name not in known | {"trust_remote_code"}:
                raise refused(path, f"{key}.{name}", arguments[name], ("nothing",))
        found.update(arguments)
    return found


def _limit(path: Path, limit: Any) -> int | None:
    if limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit > 0):
        return limit
    raise InvalidCheckpoint(f"{path} has max_seq_length = {limit!r}, expected a number of tokens")


def _model_settings(path: Path, kind: str = "SentenceTransformer") -> Json:
    """Read prompts, the default one's name, and how many dimensions are kept."""
    settings = read_object_if_present(path)
    check_settings(path, settings, {"model_type": (kind,)})
    found = settings.get("prompts") or {}
    prompts = {name: prompt if prompt is not None else "" for name, prompt in found.items()}
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise InvalidCheckpoint(
            f"{path} has default_prompt_name = {default!r}, which is not among its prompts"
        )
    kept = settings.get("truncate_dim")
    if kept is not None and (not isinstance(kept, int) or isinstance(kept, bool) or kept < 1):
        raise refused(path, "truncate_dim", kept, ("a number of dimensions",))
    return {
        "prompts": prompts,
        "default_prompt_name": default,
        "truncate_dim": kept or 0,
    }

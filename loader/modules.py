"""What sentence-transformers makes of an encoder's output: pooling, normalising, prompts, limits.

Follows sentence-transformers 6.2 in what each file means, in the format of version 6 and in the
older one. A module, mode or setting that the forward pass does not have is refused by name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.json_file import Json, read_json, read_object, read_object_if_present

PREFIX = "sentence_transformers."
TYPES = {
    f"{PREFIX}models.Transformer": "Transformer",
    f"{PREFIX}base.modules.transformer.Transformer": "Transformer",
    f"{PREFIX}base.modules.Transformer": "Transformer",
    f"{PREFIX}models.Pooling": "Pooling",
    f"{PREFIX}sentence_transformer.modules.pooling.Pooling": "Pooling",
    f"{PREFIX}sentence_transformer.modules.Pooling": "Pooling",
    f"{PREFIX}models.Normalize": "Normalize",
    f"{PREFIX}base.modules.normalize.Normalize": "Normalize",
    f"{PREFIX}base.modules.Normalize": "Normalize",
    f"{PREFIX}sentence_transformer.modules.normalize.Normalize": "Normalize",
    f"{PREFIX}sentence_transformer.modules.Normalize": "Normalize",
}
SEQUENCES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])

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

# Settings that change a vector, each with the values that do not.
TRANSFORMER_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings",),
    "processing_kwargs": ({}, None),
    "query_length": (None,),
    "document_length": (None,),
    "query_expansion": (None,),
    "tokenizer_name_or_path": (None,),
    "config_args": ({}, None),
    "config_kwargs": ({}, None),
}
MODEL_ARGUMENTS = {"torch_dtype", "dtype", "attn_implementation", "add_pooling_layer"}
NORMALIZE_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "module_input_name": ("sentence_embedding",),
    "module_output_name": ("sentence_embedding", None),
}
MODEL_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("SentenceTransformer",),
    "truncate_dim": (None,),
}


@dataclass(frozen=True)
class Pipeline:
    """Describe what stands around an encoder; the defaults are those of a plain directory."""

    folder: Path  # where the encoder's own files are
    pooling: Literal["mean", "cls"] = "mean"
    normalized: bool = False
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
    if kinds not in SEQUENCES:
        raise InvalidCheckpoint(
            f"{path} has the modules {', '.join(kinds)}, expected Transformer, Pooling "
            "and perhaps Normalize"
        )
    folders = {kind: directory / subfolder for kind, subfolder in modules}
    if "Normalize" in folders:
        _check_normalize(folders["Normalize"] / "config.json")
    max_length, lowercase = _transformer(folders["Transformer"])
    prompts, default_prompt_name = _prompts(directory / "config_sentence_transformers.json")
    return Pipeline(
        folder=folders["Transformer"],
        pooling=_pooling(folders["Pooling"] / "config.json"),
        normalized="Normalize" in folders,
        max_length=max_length,
        lowercase=lowercase,
        prompts=prompts,
        default_prompt_name=default_prompt_name,
    )


def _entries(path: Path) -> list[Json]:
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidCheckpoint(f"{path} does not hold a list of modules")
    return entries


def _module(path: Path, entry: Json) -> tuple[str, str]:
    """Read one module's kind and folder."""
    kind, folder = entry.get("type"), entry.get("path", "")
    if kind not in TYPES:
        known = ", ".join(dict.fromkeys(TYPES.values()))
        raise InvalidCheckpoint(
            f"{path} has a module of type {kind!r}, expected one of {known}",
            hint="Pageformer loads only models that it computes exactly.",
        )
    if not isinstance(folder, str) or _leaves(folder):
        raise InvalidCheckpoint(f"{path} has a module outside its directory: {folder!r}")
    if entry.get("kwargs"):
        raise _refused(path, "kwargs", entry["kwargs"], ([],))
    return TYPES[kind], folder


def _leaves(folder: str) -> bool:
    path = PurePosixPath(folder)
    return path.is_absolute() or ".." in path.parts


def _pooling(path: Path) -> Literal["mean", "cls"]:
    settings = read_object(path)
    if settings.get("include_prompt", True) is not True:
        raise _refused(path, "include_prompt", settings["include_prompt"], (True,))
    modes = _pooling_modes(settings)
    if modes == ["mean"]:
        return "mean"
    if modes == ["cls"]:
        return "cls"
    raise InvalidCheckpoint(
        f"{path} has pooling mode {' + '.join(map(str, modes))}, expected mean or cls",
        hint="Pageformer loads only models that it computes exactly.",
    )


def _pooling_modes(settings: Json) -> list[Any]:
    """Read the modes: named since version 5.4, switched on one by one before."""
    named = settings.get("pooling_mode")
    if named is not None:
        return list(named) if isinstance(named, list) else [named]
    modes = [mode for key, mode in OLD_POOLING.items() if settings.get(key)]
    return modes or ["mean"]


def _check_normalize(path: Path) -> None:
    _check(path, read_object_if_present(path), NORMALIZE_HARMLESS)


def _transformer(folder: Path) -> tuple[int | None, bool]:
    """Read the limit in tokens (None: the tokenizer's) and whether texts are lowercased."""
    path = next((folder / n for n in TRANSFORMER_FILES if (folder / n).exists()), None)
    if path is None:
        return None, False
    settings = read_object(path)
    _check(path, settings, TRANSFORMER_HARMLESS)
    modality = settings.get("modality_config", {"text": TEXT_MODALITY})
    if modality.get("text") != TEXT_MODALITY:
        raise _refused(path, "modality_config", modality, ({"text": TEXT_MODALITY},))
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
                raise _refused(path, f"{key}.{name}", arguments[name], ("nothing",))
        found.update(arguments)
    return found


def _limit(path: Path, limit: Any) -> int | None:
    if limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit > 0):
        return limit
    raise InvalidCheckpoint(f"{path} has max_seq_length = {limit!r}, expected a number of tokens")


def _prompts(path: Path) -> tuple[dict[str, str], str | None]:
    settings = read_object_if_present(path)
    _check(path, settings, MODEL_HARMLESS)
    found = settings.get("prompts") or {}
    prompts = {name: prompt if prompt is not None else "" for name, prompt in found.items()}
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise InvalidCheckpoint(
            f"{path} has default_prompt_name = {default!r}, which is not among its prompts"
        )
    return prompts, default


def _check(path: Path, settings: Json, harmless: Mapping[str, tuple[Any, ...]]) -> None:
    for key, values in harmless.items():
        if key in settings and settings[key] not in values:
            raise _refused(path, key, settings[key], values)


def _refused(path: Path, key: str, value: Any, expected: Iterable[Any]) -> InvalidCheckpoint:
    wanted = " or ".join(str(choice) for choice in expected)
    return InvalidCheckpoint(
        f"{path} has {key} = {value!r}, expected {wanted}",
        hint="Pageformer loads only models that it computes exactly.",
    )

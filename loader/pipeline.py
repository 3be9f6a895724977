"""What stands around an encoder, and how sentence-transformers' own files tell of its texts.

Follows sentence-transformers 6.2 in what each setting means.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.json_file import Json, read_object, read_object_if_present
from pageformer.loader.steps import Step, check_settings, refused

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
    late: Json = field(default_factory=dict)  # how ColBERT's queries and documents differ
    markers: tuple[str, ...] = ()  # prompts that begin with a token of the vocabulary
    max_length: int | None = None  # None: the tokenizer's
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None


def read_transformer(
    folder: Path, task: str | None = None, known: Iterable[str] = ()
) -> tuple[int | None, bool]:
    """Read the limit in tokens (None: the tokenizer's) and whether texts are lowercased.

    task: what the module does, where it is not to give states. known: settings that the caller
    sees to.
    """
    path = next((folder / n for n in TRANSFORMER_FILES if (folder / n).exists()), None)
    if path is None:
        return None, False
    settings = read_object(path)
    harmless = {**TRANSFORMER_HARMLESS, **({"transformer_task": (task,)} if task else {})}
    output = HEAD_OUTPUT if task else TEXT_MODALITY
    check_settings(path, settings, {k: v for k, v in harmless.items() if k not in known})
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


def read_settings(path: Path, kind: str = "SentenceTransformer") -> Json:
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

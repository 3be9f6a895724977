"""Models that make a vector of every token (ColBERT; Khattab and Zaharia 2020).

Three kinds of directory: of sentence-transformers' MultiVectorEncoder, of PyLate, and of Stanford's
colbert-ai. All mean here what sentence-transformers 6.2 makes of them.
"""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.families import Source
from pageformer.loader.json_file import Json, read_object, read_object_if_present
from pageformer.loader.pipeline import Pipeline, read_settings, read_transformer
from pageformer.loader.safetensors_file import read_tensors
from pageformer.loader.steps import TOKENS, Step, check_settings, read_step, refused
from pageformer.udfs.config import Config

OWN, PYLATE = "MultiVectorEncoder", "ColBERT"  # model_type
SETTINGS = ("query_length", "document_length", "query_expansion")
PREFIXES = {"query": "query_prefix", "document": "document_prefix"}
PYLATE_KEYS = {
    *(*SETTINGS, *PREFIXES.values(), "skiplist_words", "do_query_expansion"),
    *("attend_to_expansion_tokens", "attend_to_mask_tokens"),
}
EXPANDED = 32  # tokens of a query where nothing else is said
HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "similarity_fn_name": (None, "maxsim", "MaxSim", "cosine", "dot"),
    "truncate_dim": (None,),
}


def is_late(settings: Json, kinds: Sequence[str]) -> bool:
    """Tell whether modules and settings are of a model that makes a vector of every token."""
    named = settings.get("model_type") in (OWN, PYLATE)
    return named or "MultiVectorMask" in kinds or "query_prefix" in settings


def read_late(directory: Path, modules: Sequence[tuple[str, Path]]) -> Pipeline:
    """Read the modules and settings of sentence-transformers or PyLate.

    Raises InvalidCheckpoint that names the module or setting that stops it.
    """
    path = directory / "config_sentence_transformers.json"
    settings, kinds = read_object_if_present(path), [kind for kind, _ in modules]
    check_settings(path, settings, HARMLESS)
    pylate = settings.get("model_type", PYLATE) != OWN and "MultiVectorMask" not in kinds
    _check_order(directory / "modules.json", kinds, pylate)
    folder, masks = modules[0][1], [path for kind, path in modules if kind == "MultiVectorMask"]
    steps = [step for kind, path in modules[1:] if (step := _step(kind, path)) is not None]
    normalizes = pylate or any(step.entry["kind"] == "normalize" for step in steps)
    max_length, lowercase = read_transformer(folder, known=SETTINGS)
    saved = read_object_if_present(folder / "sentence_bert_config.json")
    lengths = {**_pylate_lengths(settings), **{k: saved[k] for k in SETTINGS if k in saved}}
    if pylate:
        words = settings.get("skiplist_words")
        skipped: Json = {"skip": list(string.punctuation) if words is None else words}
    else:
        skipped = _mask(masks[0] / "config.json") if masks else {}
    if lengths.get("query_expansion") and not masks and not pylate:
        raise refused(folder, "query_expansion", lengths["query_expansion"], ("MultiVectorMask",))
    model = read_settings(path, str(settings.get("model_type", OWN)))
    prefixes = {task: settings.get(key) or "" for task, key in PREFIXES.items() if key in settings}
    return Pipeline(
        folder,
        pooling="none",
        steps=tuple(step for step in steps if step.entry["kind"] != "normalize"),
        normalized=normalizes,
        is_embedding=True,
        late={**lengths, **skipped},
        markers=tuple(prefixes.values()),
        max_length=max_length,
        lowercase=lowercase,
        prompts=_prompts(model["prompts"], prefixes),
        default_prompt_name=model["default_prompt_name"],
    )


def read_stanford(directory: Path) -> Pipeline | None:
    """Read what colbert-ai saves: an encoder with `linear.weight`; None for other directories."""
    raw = read_object_if_present(directory / "config.json")
    if "HF_ColBERT" not in (raw.get("architectures") or []):
        return None
    metadata = read_object_if_present(directory / "artifact.metadata")
    ids = {"query": ("query_token_id", "[unused0]"), "document": ("doc_token_id", "[unused1]")}
    prompts = {task: f"{metadata.get(key) or name} " for task, (key, name) in ids.items()}
    masked = metadata.get("mask_punctuation", True)
    return Pipeline(
        directory,
        pooling="none",
        steps=(_stanford_projection(directory),),
        normalized=True,
        is_embedding=True,
        late={
            "document_length": metadata.get("doc_maxlen"),
            "query_expansion": {
                "strategy": "fixed",
                "attend": bool(metadata.get("attend_to_mask_tokens")),
                "length": metadata.get("query_maxlen") or EXPANDED,
            },
            "skip": list(string.punctuation) if masked else [],
        },
        markers=tuple(prompts.values()),
        prompts=prompts,
    )


def _stanford_projection(directory: Path) -> Step:
    tensor = read_tensors(directory / "model.safetensors").get("linear.weight")
    if tensor is None:
        raise InvalidCheckpoint(f"{directory} is an HF_ColBERT without tensor linear.weight")
    entry = {"kind": "dense", "width": tensor.array.shape[0], "activation": None}
    sources = {"weight": Source("linear.weight", "linear")}
    return Step(directory, entry, sources, among_encoder=True)


def _check_order(path: Path, kinds: Sequence[str], pylate: bool) -> None:
    behind = {"Dense"} if pylate else {"Dense", "MultiVectorMask", "Normalize"}
    once = all(kinds.count(kind) <= 1 for kind in ("MultiVectorMask", "Normalize"))
    last = [kind for kind in kinds if kind != "MultiVectorMask"][-1:]
    normalized_last = "Normalize" not in kinds or last == ["Normalize"]
    if kinds[0] != "Transformer" or {*kinds[1:]} - behind or not (once and normalized_last):
        raise InvalidCheckpoint(
            f"{path} has the modules {', '.join(kinds)}, expected Transformer, Dense, "
            "MultiVectorMask and Normalize",
            hint="Pageformer loads only models that it computes exactly.",
        )


def _step(kind: str, folder: Path) -> Step | None:
    """Read a module that works on tokens; None for the mask."""
    if kind == "Normalize":
        path = folder / "config.json"
        settings = read_object_if_present(path)
        named = {"module_input_name": None, **settings}
        check_settings(path, named, {"module_input_name": (TOKENS,)})
    return read_step(kind, folder, TOKENS)


def _mask(path: Path) -> Json:
    """Read which tokens have no vector."""
    settings = read_object(path)
    tasks = settings.get("skiplist_tasks")
    return {
        "skip": settings.get("skiplist_words") or [],
        "skip_tasks": [tasks] if isinstance(tasks, str) else tasks,
        "keep": settings.get("keep_only_token_ids"),
    }


def _pylate_lengths(settings: Json) -> Json:
    """Translate PyLate's settings into those of sentence-transformers."""
    if not PYLATE_KEYS & settings.keys():
        return {}
    found = {k: settings[k] for k in SETTINGS if settings.get(k) is not None}
    if "query_expansion" in settings or settings.get("do_query_expansion") is False:
        return {**found, "query_expansion": settings.get("query_expansion")}
    attend = settings.get("attend_to_expansion_tokens", settings.get("attend_to_mask_tokens"))
    length = found.pop("query_length", EXPANDED)
    return {**found, "query_expansion": {"strategy": "fixed", "attend": attend, "length": length}}


def _prompts(saved: Mapping[str, str], prefixes: Mapping[str, str]) -> dict[str, str]:
    """Put PyLate's prefixes in front of prompts; both kinds of text have a prompt, empty or not."""
    prompts = {"query": "", "document": "", **saved}
    for task, prefix in prefixes.items():
        prompts[task] = prefix + prompts[task].removeprefix(prefix)
    return prompts


def resolved(pipeline: Pipeline, config: Config, positions: int, tokenizer: bytes) -> Json:
    """Turn words into ids and lengths into limits: what the server needs of late interaction.

    Raises InvalidCheckpoint that names a setting which this model cannot follow.
    """
    library, late, folder = Tokenizer.from_str(tokenizer.decode()), pipeline.late, pipeline.folder
    expansion = _expansion(folder, late.get("query_expansion"), library, config)
    document = late.get("document_length") or config.max_length
    query = late.get("query_length") or config.max_length
    if expansion:
        length = expansion["length"]
        query = length if expansion.pop("fixed") else max(query, length)
    for key, limit in (("query_length", query), ("document_length", document)):
        least = library.num_special_tokens_to_add(False) + 1
        if not isinstance(limit, int) or not least <= limit <= positions:
            raise refused(folder, key, limit, (f"{least} to {positions} tokens",))
    skipped = {library.token_to_id(word) for word in late.get("skip", ())}
    return {
        "lengths": {"query": query, "document": document},
        "expansion": expansion,
        "skip": sorted(id for id in skipped if id is not None),
        "skip_tasks": late.get("skip_tasks") or ["document"],
        "keep": late.get("keep") or [],
    }


def _expansion(folder: Path, found: Any, library: Tokenizer, config: Config) -> Json:
    """Read what short queries are filled up with; {}: they are not."""
    if not found:
        return {}
    known = {"strategy": ("fixed", "min"), "attend": (True, False, None)}
    check_settings(folder / "query_expansion", {"strategy": None, **found}, known)
    if unknown := found.keys() - {*known, "token", "length"}:
        raise refused(folder, f"query_expansion.{min(unknown)}", found[min(unknown)], ("nothing",))
    if config.relative_span and not found.get("attend"):
        raise refused(folder, "query_expansion.attend", False, ("true for DeBERTa",))
    token = found.get("token") or _mask_token(library)
    id = None if token is None else library.token_to_id(token)
    if id is None:
        raise refused(folder, "query_expansion.token", token, ("a token of the vocabulary",))
    length = found.get("length")
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise refused(folder, "query_expansion.length", length, ("a number of tokens",))
    fixed = found["strategy"] == "fixed"
    return {"length": length, "attend": bool(found.get("attend")), "token": id, "fixed": fixed}


def _mask_token(library: Tokenizer) -> str | None:
    """Find the token that stands for a missing word."""
    added = (token.content for token in library.get_added_tokens_decoder().values())
    return next((token for token in added if token.strip("[]<>").lower() == "mask"), None)

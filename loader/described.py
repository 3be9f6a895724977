"""What a directory says beside its `config.json`, added to the config that its family made."""

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.image_file import read_image_settings
from pageformer.loader.json_file import Json, read_object_if_present
from pageformer.loader.late_interaction import resolved
from pageformer.loader.modules import rank_activation
from pageformer.loader.pipeline import Pipeline
from pageformer.udfs.config import Config

UNLIMITED = 10**20  # transformers writes 10^30 for a tokenizer without a limit


def described(config: Config, pipeline: Pipeline, raw: Json, tokenizer: bytes | None) -> Config:
    """Add to the architecture what the directory says about pooling, limits and prompts.

    tokenizer: as it is stored, which knows the ids of words. Raises InvalidCheckpoint that names
    the file and the key of what cannot be followed.
    """
    if not config.vocabulary and not config.image:
        return config
    behind = config._replace(
        modules=[step.entry for step in pipeline.steps],
        normalized=pipeline.normalized,
        truncate_dim=pipeline.truncate_dim,
        head=_head(config, pipeline, raw),
    )
    if tokenizer is None:
        return _of_images(behind, pipeline)
    texts = _of_texts(behind, pipeline, raw)
    if not pipeline.late:
        return texts
    return texts._replace(late=resolved(pipeline, texts, _usable(texts), tokenizer))


def _of_texts(config: Config, pipeline: Pipeline, raw: Json) -> Config:
    _refuse_generators(raw)
    return config._replace(
        pooling=pipeline.pooling,
        include_prompt=pipeline.include_prompt,
        max_length=_max_length(config, pipeline),
        prompts=pipeline.prompts,
        default_prompt_name=pipeline.default_prompt_name,
    )


def _of_images(config: Config, pipeline: Pipeline) -> Config:
    """Keep the class token, which ViTs are trained by, unless a Pooling says otherwise."""
    settings = read_image_settings(pipeline.folder, config.image)
    pooling = pipeline.pooling if pipeline.is_embedding else config.pooling
    return config._replace(pooling=pooling, image={**config.image, **settings})


def _head(config: Config, pipeline: Pipeline, raw: Json) -> Json:
    """Complete the head by what sentence-transformers says of its scores or its sparse vectors."""
    if pipeline.sparse:
        if config.head.get("task") != "words":
            raise InvalidCheckpoint("modules.json has a SpladePooling, but no head predicts words")
        return {**config.head, "sparse": pipeline.sparse}
    if config.head.get("task") == "sequence":
        return {**config.head, "rank": rank_activation(pipeline, raw, len(config.head["labels"]))}
    return config.head


def _max_length(config: Config, pipeline: Pipeline) -> int:
    """Compute the limit in tokens as sentence-transformers does, within the usable positions.

    Its settings come first; else the tokenizer's limit, at most as many as there are positions.
    RoBERTa's first positions stand for padding: sentence-transformers fails past the rest.
    """
    limit = pipeline.max_length
    if limit is None:
        settings = read_object_if_present(pipeline.folder / "tokenizer_config.json")
        limit = settings.get("model_max_length", settings.get("max_len")) or UNLIMITED
    return min(int(limit), _usable(config))


def _usable(config: Config) -> int:
    """Count the positions that tokens can have."""
    unusable = 0 if config.padding_id is None else config.padding_id + 1
    return config.positions - unusable


def _refuse_generators(raw: Json) -> None:
    """Refuse what sentence-transformers would pool by the last token."""
    architectures = raw.get("architectures") or [""]
    if architectures[0].endswith("ForCausalLM") and raw.get("is_causal", True):
        raise InvalidCheckpoint(
            f"config.json has architectures = {architectures!r}, which generates text",
            hint="Pageformer loads encoders.",
        )

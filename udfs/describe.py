"""Everything that a user must know of a version to make its vectors elsewhere."""

from collections.abc import Iterator, Mapping
from typing import Any

from pageformer.udfs import backends, spi, versions
from pageformer.udfs.config import Config


@spi.boundary
def describe(model: str | None) -> list[tuple[str, str]]:
    """Return (property, value) rows of a version."""
    resolved = versions.resolve(model)
    config = versions.ready(resolved).config
    [row] = spi.as_owner(lambda: spi.rows("describe", resolved.id))
    settings = versions.settings(resolved)
    return [
        ("model", resolved.model),
        ("version", resolved.label),
        ("hash", resolved.hash.hex()),
        *of_config(config),
        ("tokenizer sha256", row["tokenizer"] or "none"),
        ("stored as", row["format"]),
        ("parameters", str(row["parameters"])),
        ("source", row["source"]),
        *((name, settings[name]) for name in ("backend", "compute") if name in settings),
    ]


@spi.boundary
def computed_here(model: str | None) -> str:
    """Return in what the deployed version is computed here where the setting is `auto`."""
    resolved = versions.resolve(model)
    [row] = spi.as_owner(lambda: spi.rows("version", resolved.id))
    backend = spi.as_owner(versions.read_settings)["backend"]
    return backends.computed(backend, Config.from_json(row["config"]), "auto")


def of_config(config: Config) -> Iterator[tuple[str, str]]:
    """Tell what the config says, leaving out what does not apply."""
    yield "family", config.family
    yield "layers", str(config.layers)
    yield "dimension", str(config.dimension)
    if not config.vocabulary and not config.image:
        return
    if config.image:
        yield from of_image(config.image)
    else:
        yield "longest input in tokens", str(config.max_length)
    yield "pooling", config.pooling
    if not config.include_prompt:
        yield "prompt", "not pooled"
    if config.late:
        yield from of_late(config.late)
    for i, module in enumerate(config.modules, start=1):
        settings = (f"{key} {value}" for key, value in module.items() if key != "kind")
        yield f"module {i}", ", ".join([module["kind"], *settings])
    yield "normalized", "yes" if config.normalized else "no"
    for name, prompt in sorted(config.prompts.items()):
        yield f"prompt {name}", repr(prompt)
    yield "default prompt", config.default_prompt_name or "none"
    if config.head:
        yield "head", config.head["task"]
        if "labels" in config.head:
            yield "labels", ", ".join(config.head["labels"])


def of_late(late: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tell what becomes of queries and documents where every token has a vector."""
    for task, limit in late["lengths"].items():
        yield f"{task} in tokens", f"at most {limit}"
    if late["expansion"]:
        filled = "filled up to {length} with token {token}, attended {attend}"
        yield "short queries", filled.format(**late["expansion"])
    if late["skip"]:
        yield (
            "tokens without a vector",
            f"{len(late['skip'])} in each {', '.join(late['skip_tasks'])}",
        )


def of_image(image: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tell what an image is made into."""
    height, width = image["size"]
    yield "image", f"{height} x {width} pixels in patches of {' x '.join(map(str, image['patch']))}"
    resample = image["resample"]
    yield "resized", "no" if resample is None else f"by Pillow's filter {resample}"
    yield "pixels times", str(image["scale"] or 1)
    for name in ("mean", "std"):
        yield f"pixels' {name}", str(image[name] or "none")

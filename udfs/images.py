"""What the SQL functions of images call: vectors, and labels with their scores."""

from pageformer.errors import NotBuilt
from pageformer.udfs import spi, threads, versions
from pageformer.udfs.config import Config
from pageformer.udfs.encoding import Options
from pageformer.udfs.version import Version
from pageformer.udfs.versions import Resolved

with threads.kept_out():  # NumPy, which texts do without
    from pageformer.udfs import composed, encoder, heads, pixels


@spi.boundary
def encode_image(
    image: bytes | None,
    model: str | None,
    dimensions: int | None,
    normalized: bool | None,
    task: str | None,
) -> str | None:
    """Encode one image as SQL's text for a vector; null for null."""
    if image is None:
        return None
    version = ready(model, Options(task=task, dimensions=dimensions).without_task())
    patches = pixels.patches(image, version.config.image)
    pooled = encoder.encode_images(version.model, patches[None], spi.pulse)
    vectors = version.model.operators.to_host(pooled)
    [vector] = composed.told(version.model, vectors, dimensions, normalized)
    return vector


@spi.boundary
def classify_image(
    image: bytes | None, model: str | None, task: str | None
) -> list[tuple[str, float]]:
    """Return (label, score) of every label, the likeliest first."""
    if image is None:
        return []
    version = ready(model, Options(task=task).without_task())
    head = version.config.head
    if not head:
        raise NotBuilt(
            f"{model} does not have a head that classifies images",
            hint="a head is loaded where config.json names it in architectures",
        )
    patches = pixels.patches(image, version.config.image)
    logits = heads.image_logits(version.model, patches[None], spi.pulse)
    [scores] = heads.scored(logits, head["scores"]).tolist()
    rows = zip(head["labels"], scores, strict=True)
    return sorted(rows, key=lambda row: -row[1])


def ready(model: str | None, options: Options) -> Version:
    """Make a model ready; raise NotBuilt unless it takes images."""
    resolved = versions.resolve(model)
    version = versions.ready(resolved)
    expected(resolved, version.config)
    options.check(version.config)
    return version


def expected(resolved: Resolved, config: Config) -> None:
    """Raise NotBuilt unless a model takes images."""
    if not config.image:
        raise NotBuilt(
            f"{resolved.model} does not take images",
            hint="load a ViT, or call pageformer.encode(input, model) with a text",
        )

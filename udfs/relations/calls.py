"""What the SQL functions of relational encoding call: write the text of a version, and run it.

No page is mapped here: the text reads blocks by joins, with the rights of the role that asks.
"""

from functools import cached_property, lru_cache, partial

from pageformer.udfs import threads

with threads.kept_out():
    from pageformer.errors import NotBuilt
    from pageformer.udfs import encoding, images, pixels, server, spi, versions
    from pageformer.udfs.config import Config
    from pageformer.udfs.encoding import Options
    from pageformer.udfs.relations import encoder_sql as forward
    from pageformer.udfs.relations.steps import Plan
    from pageformer.udfs.tokenizer import Tokenizer
    from pageformer.udfs.version import read_tokenizer
    from pageformer.udfs.versions import Resolved

Tensor = list[list[list[float]]]


class Written:
    """Hold what encoding by relations takes of a version: config, tokenizer, texts of SQL."""

    def __init__(self, id: int, name: str) -> None:
        [row] = spi.rows("version", id)
        self.config = Config.from_json(row["config"])
        self._tokenizer_hash: bytes | None = row["tokenizer_hash"]
        self._name, self._side = name, row["block_side"]
        self._tensors = frozenset(tensor["name"] for tensor in spi.rows("tensors", id))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer.

        Raises NotBuilt for a model that takes images or tensors, not text.
        """
        if self._tokenizer_hash is None:
            raise NotBuilt(
                "this model has no tokenizer: it encodes images or tensors, not text",
                hint="call pageformer.encode_image_relational(image, model) or "
                "pageformer.encode_tensor_relational(tensor, model)",
            )
        read = partial(read_tokenizer, spi.rows, self._tokenizer_hash)
        return Tokenizer(read, self.config.max_length)

    @cached_property
    def of_text(self) -> str:
        """Return the text that makes a vector of token ids."""
        return forward.encode_text(self._plan)

    @cached_property
    def of_image(self) -> str:
        """Return the text that makes a vector of an image's patches."""
        return forward.encode_image(self._plan)

    @cached_property
    def of_tensor(self) -> str:
        """Return the text that runs the layers over a tensor."""
        return forward.encode_tensor(self._plan)

    @property
    def _plan(self) -> Plan:
        return Plan(self.config, self._name, self._side, self._tensors)


def written(model: str | None, text: str | None = None) -> tuple[Resolved, Written]:
    """Resolve a model, and write its texts or remember them."""
    resolved = versions.resolve(model, text)
    return resolved, _written(resolved.id, resolved.hash, f"{resolved.model}@{resolved.label}")


@lru_cache(maxsize=8)
def _written(id: int, hash: bytes, name: str) -> Written:
    return Written(id, name)


@spi.boundary
def encoder_sql(model: str | None) -> str:
    """Return the forward pass of a version as one text of SQL.

    It makes the vector of a text or of an image where `encode` or `encode_image` does; else it runs
    the layers over a tensor.
    """
    _, found = written(model)
    config = found.config
    if config.image:
        return found.of_image
    return found.of_text if config.vocabulary and not config.late else found.of_tensor


@spi.boundary
def encode(input: str | None, model: str | None) -> str | None:
    """Encode one text by relations; null for null."""
    if input is None:
        return None
    (resolved, version), options = written(model, input), Options()
    if version.config.late:
        raise NotBuilt(
            "this model makes a vector of every token, not one of a text",
            hint="call pageformer.encode_tokens(input, model, prompt_name => 'document')",
        )
    tokens = version.tokenizer.encode(
        encoding.prompted(version.config, input, options), options.truncate
    )
    server.tell_cuts(resolved, version, [tokens.cut])
    skip = encoding.not_pooled(version, options)
    [row] = spi.run(version.of_text, ("integer[]", "integer"), tokens.ids, skip)
    vector: str = row["embedding"]
    return vector


@spi.boundary
def encode_image(image: bytes | None, model: str | None) -> str | None:
    """Encode one image by relations; null for null."""
    if image is None:
        return None
    resolved, version = written(model)
    images.expected(resolved, version.config)
    patches = pixels.patches(image, version.config.image)
    [row] = spi.run(version.of_image, ("real[]",), patches.tolist())
    vector: str = row["embedding"]
    return vector


@spi.boundary
def encode_tensor(tensor: Tensor | None, model: str | None) -> Tensor | None:
    """Run the layers by relations over `[batch, sequence, hidden]`."""
    if tensor is None:
        return None
    _, version = written(model)
    [row] = spi.run(version.of_tensor, ("real[]",), tensor)
    states: Tensor = row["tensor"]
    return states

"""Texts to vectors in a process of our own, from the pages of a version that is in a database."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pageformer.errors import UnknownName
from pageformer.scaling.item import Encoded
from pageformer.serving.database import Database, NotThere
from pageformer.serving.database import open_version as opened
from pageformer.udfs import encoding
from pageformer.udfs.encoding import LocalEncoder, Options
from pageformer.udfs.tokenizer import Tokens
from pageformer.udfs.version import Version

OPTIONS = Options()


@dataclass(frozen=True)
class TextEncoder:
    """Compute as `encode_batch` does, to the same bits."""

    version: Version
    encoder: LocalEncoder

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Encode texts in order."""
        tokens: list[Tokens] = []

        def sequences() -> Iterator[list[int]]:
            for text in texts:
                prompted = encoding.prompted(self.version.config, text, OPTIONS)
                tokens.append(self.version.tokenizer.encode(prompted, OPTIONS.truncate))
                yield tokens[-1].ids

        skip = encoding.not_pooled(self.version, OPTIONS)
        vectors = self.encoder.vectors(sequences(), None, None, undisturbed, skip)
        return Encoded(vectors, sum(token.cut for token in tokens))


def open_version(dsn: str, hash: bytes, compute: str, *, alone: bool) -> TextEncoder:
    """Open a version over a connection that is closed again; its pages are this machine's then.

    alone: compute in the caller's thread, beside others that do so. Raises MissingGrant where the
    role may not read weights, UnknownName where there is no such version, ServerUnready.
    """
    database = Database(dsn, "pageformer embed")
    place = database.place()
    try:
        version = opened(database, place, hash, place.backend, compute)
    except NotThere as error:
        raise UnknownName(
            f"there is no version {hash.hex()[:12]}", hint="pageformer models"
        ) from error
    if version.config.vocabulary:
        version.tokenizer.read()
    return TextEncoder(version, version.encoder.alone() if alone else version.encoder)


def undisturbed() -> None:
    """Compute on: a worker has nobody else to heed."""

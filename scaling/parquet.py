"""Texts of a Parquet file to a Parquet file with their vectors."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pageformer import client
from pageformer.embed import Progress
from pageformer.errors import InvalidInput, NotBuilt, UnknownName
from pageformer.scaling import actors
from pageformer.scaling.plan import QUERIES
from pageformer.scaling.text_encoder import TextEncoder, open_version

OUTPUT = "embedding"


@dataclass(frozen=True)
class Texts:
    """Hold the texts of one batch of rows, and its place in the file."""

    number: int
    texts: Sequence[str | None]

    def __str__(self) -> str:
        return f"batch {self.number + 1} of the file"


class FileWorker:
    """Encode batches in a process of its own; what Ray starts as an actor."""

    def __init__(self, dsn: str, hash: bytes, compute: str) -> None:
        self._encode = open_version(dsn, hash, compute, alone=True)

    def ready(self) -> None:
        """Answer once the version is open."""

    def work(self, piece: Texts) -> tuple[int, Any]:
        """Encode a batch; tell its place again."""
        return piece.number, encoded(self._encode, piece.texts)


def embed(
    dsn: str | None,
    source: Path,
    target: Path,
    model: str,
    *,
    column: str = "body",
    engine: str = "sql",
    address: str | None = None,
    workers: int = 1,
    batch: int = 256,
    progress: Progress = lambda done, total: None,
) -> int:
    """Write every row of a file again, with a column `embedding`, and count the rows.

    The target appears when it is whole. Raises InvalidInput for a file that cannot be read so.
    """
    arrow, parquet = libraries()
    try:
        file = parquet.ParquetFile(source)
    except (OSError, arrow.ArrowInvalid) as error:
        raise InvalidInput(
            f"{source} cannot be read: {error}", hint="name a Parquet file"
        ) from error
    check(arrow, file.schema_arrow, column)
    check_target(source, target)
    opened = version_of(dsn, model)
    schema = file.schema_arrow.append(arrow.field(OUTPUT, arrow.list_(arrow.float32())))
    done, total = 0, file.metadata.num_rows
    with ExitStack() as stack:
        stack.enter_context(file)
        write = stack.enter_context(written(target, schema))
        run = on_ray(stack, address, workers) if engine == "ray" else here
        batches = file.iter_batches(batch_size=batch)
        for rows, vectors in run(client.choose_dsn(dsn), opened, batches, column):
            added = arrow.array(vectors, type=arrow.list_(arrow.float32()))
            write(rows.append_column(OUTPUT, added))
            done += rows.num_rows
            progress(done, total)
    return done


@contextmanager
def written(target: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
    """Write batches to a file that has its name once it is whole."""
    beside = target.with_name(f".{target.name}.part")
    try:
        with libraries()[1].ParquetWriter(beside, schema) as writer:
            yield writer.write_batch
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def here(
    dsn: str, version: tuple[bytes, str], batches: Iterator[Any], column: str
) -> Iterator[tuple[Any, Any]]:
    """Encode batches in this process, on all its cores."""
    encode = open_version(dsn, *version, alone=False)
    for rows in batches:
        yield rows, encoded(encode, rows.column(column).to_pylist())


def on_ray(stack: ExitStack, address: str | None, workers: int) -> Any:
    """Return what encodes batches on Ray, for as long as the stack stands."""
    ray = stack.enter_context(actors.cluster(address, workers))

    def run(
        dsn: str, version: tuple[bytes, str], batches: Iterator[Any], column: str
    ) -> Iterator[tuple[Any, Any]]:
        pool = actors.Pool(ray, FileWorker, workers, dsn, *version)
        held: dict[int, Any] = {}
        found: dict[int, Any] = {}

        def pieces() -> Iterator[Texts]:
            for number, rows in enumerate(batches):
                held[number] = rows
                yield Texts(number, rows.column(column).to_pylist())

        following = 0
        for number, vectors in pool.worked(pieces()):
            found[number] = vectors
            while following in found:  # in the order of the file
                yield held.pop(following), found.pop(following)
                following += 1

    return run


def encoded(encode: TextEncoder, texts: Sequence[str | None]) -> list[Any]:
    """Encode texts; None stays None."""
    vectors = iter(encode([text for text in texts if text is not None]).vectors)
    return [
        None if text is None else np.array(orjson.loads(next(vectors)), dtype=np.float32)
        for text in texts
    ]


def version_of(dsn: str | None, model: str) -> tuple[bytes, str]:
    """Return hash and compute of the deployed version."""
    with client.connect(dsn) as connection:
        found = client.fetch(connection, QUERIES["model"], [model])
    if not found:
        raise UnknownName(f'there is no model "{model}"', hint="pageformer models")
    return found[0]["hash"], found[0]["compute"]


def check(arrow: Any, schema: Any, column: str) -> None:
    """Raise InvalidInput unless there is a column of texts, and none of vectors yet."""
    if column not in schema.names:
        raise InvalidInput(
            f"the file has no column {column}", hint=f"--column, one of {', '.join(schema.names)}"
        )
    kind = schema.field(column).type
    if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
        raise InvalidInput(f"column {column} is {kind}, not text", hint="name a column of texts")
    if OUTPUT in schema.names:
        raise InvalidInput(f"the file has a column {OUTPUT} already", hint="rename or drop it")


def check_target(source: Path, target: Path) -> None:
    """Raise InvalidInput where no file can be written, or the source would be replaced."""
    if not target.parent.is_dir():
        raise InvalidInput(f"there is no folder {target.parent}", hint=f"mkdir -p {target.parent}")
    if target.is_dir() or target.resolve() == source.resolve():
        kind = "a folder" if target.is_dir() else "the file that is read"
        raise InvalidInput(f"{target} is {kind}", hint="--into another file")


def libraries() -> tuple[Any, Any]:
    """Import what reads Parquet; raise NotBuilt where it is missing."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise NotBuilt(
            "pyarrow is not installed", hint="pip install 'pageformer[parquet]'"
        ) from error
    return pyarrow, parquet

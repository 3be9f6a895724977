"""Write a version's rows: the queries of `queries.sql` and the binary COPYs, in one place."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

from psycopg import RawCursor
from psycopg.errors import UniqueViolation

from pageformer.dedup.pages import Page
from pageformer.errors import DuplicateContent
from pageformer.loader.manifest import Manifest, TensorEntry
from pageformer.loader.sharing import Outcome
from pageformer.udfs import named_queries

QUERIES = named_queries.read("pageformer.loader", "queries.sql")
SHARING = named_queries.read("pageformer.loader", "sharing.sql")
Result = TypeVar("Result")
PAGE_TYPES = ("bytea", "text", "int4", "int4", "bytea")
BLOCK_TYPES = ("bytea",)
PLACEMENT_TYPES = ("bytea", "bytea", "int4")
TENSOR_TYPES = ("int4", "text", "int4[]", "bytea[]", "int4")

# Pages in one COPY: the server keeps up to a thousand rows of a binary COPY before it writes them.
COPIED_PAGES = 16


class StoredModel(NamedTuple):
    """Name a model's row and the version that is deployed."""

    id: int
    deployed_id: int | None


class StoredVersion(NamedTuple):
    """Name a version's row."""

    id: int
    label: str
    hash: bytes


@dataclass
class Written:
    """Count what a load has written."""

    blocks: int = 0
    pages: int = 0
    bytes: int = 0


class Tables:
    """Read and write the tables through one cursor, inside the caller's transaction."""

    def __init__(self, cursor: RawCursor[tuple[Any, ...]]) -> None:
        self._cursor = cursor

    def lock(self) -> None:
        """Wait until no other load is under way; held until the transaction ends."""
        self._cursor.execute(QUERIES["lock"])

    def current_role(self) -> str:
        """Name the role that the tables are used as, quoted for SQL."""
        (role,) = self._cursor.execute(QUERIES["current_role"]).fetchall()[0]
        return str(role)

    def find_model(self, name: str) -> StoredModel | None:
        """Find a model by its name."""
        row = self._cursor.execute(QUERIES["find_model"], [name]).fetchone()
        return StoredModel(*row) if row else None

    def versions(self, model_id: int) -> list[StoredVersion]:
        """List a model's versions, oldest first."""
        self._cursor.execute(QUERIES["versions"], [model_id], binary=True)
        return [StoredVersion(*row) for row in self._cursor]

    def stored_among(self, names: Sequence[bytes]) -> list[bytes]:
        """Return those of some block names that are stored."""
        self._cursor.execute(QUERIES["stored_among"], [list(names)], binary=True)
        return [name for (name,) in self._cursor]

    def insert_model(self, name: str) -> StoredModel:
        """Add a model without versions."""
        return StoredModel(self._one("insert_model", name), None)

    def insert_tokenizer(self, data: bytes) -> None:
        """Keep a tokenizer, unless it is there."""
        self._cursor.execute(QUERIES["insert_asset"], ["tokenizer", data])

    def insert_version(self, model_id: int, label: str, manifest: Manifest, source: str) -> int:
        """Add a version and its tensors, whose blocks are stored; return its id."""
        version_id = self._one(
            "insert_version",
            model_id,
            label,
            manifest.hash,
            manifest.config,
            manifest.tokenizer,
            manifest.form,
            manifest.side,
            manifest.parameters,
            manifest.parameter_bytes,
            source,
        )
        self._copy("copy_tensors", TENSOR_TYPES, _tensor_rows(version_id, manifest.tensors))
        return version_id

    def deploy(self, model_id: int, version_id: int) -> None:
        """Make a version the one that the model's bare name means."""
        self._cursor.execute(QUERIES["deploy"], [model_id, version_id])

    def insert_outcome(self, version_id: int, outcome: Outcome) -> None:
        """Keep how a version was approximated and what that cost it."""
        loss = outcome.loss
        self._cursor.execute(
            SHARING["insert_deduplication"],
            [
                version_id,
                outcome.sharing.rung,
                outcome.original_hash,
                outcome.measure,
                outcome.sharing.max_drop,
                loss.inputs,
                loss.before,
                loss.after,
                loss.dropped,
                loss.low,
                loss.high,
                outcome.equal,
                outcome.replaced,
                outcome.delta,
                outcome.kept,
                outcome.seconds,
            ],
        )

    def with_cursor(self, work: Callable[[RawCursor[tuple[Any, ...]]], Result]) -> Result:
        """Run other queries in the same transaction."""
        return work(self._cursor)

    def insert_pages(self, pages: Iterable[Page]) -> Written:
        """Write pages one by one as they come, then their blocks and where these lie."""
        written = Written()
        placements: list[tuple[bytes, bytes, int]] = []
        rows = _page_rows(pages, placements, written)
        try:
            while batch := list(islice(rows, 1)):
                self._copy("copy_pages", PAGE_TYPES, chain(batch, islice(rows, COPIED_PAGES - 1)))
        except UniqueViolation as error:
            raise _same_bytes(error) from error
        self._copy("copy_blocks", BLOCK_TYPES, ((name,) for name, _, _ in placements))
        self._copy("copy_placements", PLACEMENT_TYPES, placements)
        return written

    def _one(self, query: str, *parameters: object) -> int:
        row = self._cursor.execute(QUERIES[query], parameters).fetchone()
        if row is None:
            raise LookupError(f"query {query} returned no row")
        value: int = row[0]
        return value

    def _copy(self, query: str, types: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        with self._cursor.copy(QUERIES[query]) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)


def _page_rows(
    pages: Iterable[Page], placements: list[tuple[bytes, bytes, int]], written: Written
) -> Iterator[tuple[Any, ...]]:
    """Yield the row of each page, noting where its blocks lie and what it adds."""
    for page in pages:
        placements.extend((name, page.hash, slot) for slot, name in enumerate(page.block_hashes))
        written.blocks += len(page.block_hashes)
        written.pages += 1
        written.bytes += len(page.data)
        yield page.hash, page.kind.form, page.kind.rows, page.kind.cols, page.data


def _tensor_rows(version_id: int, tensors: Mapping[str, TensorEntry]) -> Iterator[tuple[Any, ...]]:
    for name, entry in tensors.items():
        yield version_id, name, list(entry.shape), entry.grid, entry.offset


def _same_bytes(error: UniqueViolation) -> DuplicateContent:
    return DuplicateContent(
        "a page of this model has the bytes of a stored page of another format or block shape",
        hint="The same bytes would mean other numbers. Load the model in the other model's "
        "element type, or into another database.",
        detail=error.diag.message_detail or "",
    )

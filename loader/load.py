"""Load a checkpoint into the tables: one transaction, in binary, nothing twice.

The model is read and its blocks are named before the lock is taken; loads queue at the lock,
because each must see the blocks of the one before. A load that dies leaves nothing that anyone
can see.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from typing import Any

from psycopg import Connection, RawCursor
from psycopg.errors import InsufficientPrivilege, InvalidSchemaName, UndefinedTable

from pageformer.dedup.delta_pages import pack_differences
from pageformer.dedup.exact import new_blocks
from pageformer.dedup.pages import Page, pack
from pageformer.errors import DuplicateName, InvalidInput, MissingGrant, ServerUnready
from pageformer.loader import checkpoint as checkpoints
from pageformer.loader import manifest as manifests
from pageformer.loader.checkpoint import Checkpoint
from pageformer.loader.manifest import Manifest, cut_blocks
from pageformer.loader.sharing import Outcome, Plan, Sharing, plan
from pageformer.loader.tables import StoredModel, StoredVersion, Tables, Written

Progress = Callable[[int, int], None]  # bytes done, bytes in all

NAME = re.compile(r"[^@\s]+")
NUMBERED = re.compile(r"v(\d+)")


@dataclass(frozen=True)
class Loaded:
    """Tell what a load did; `unchanged`: the version was there and nothing was written."""

    model: str
    version: str
    hash: bytes
    unchanged: bool
    deployed: bool
    parameters: int
    blocks: int  # different ones in this version
    new_blocks: int
    new_pages: int
    new_bytes: int  # of these pages
    outcome: Outcome | None = None  # of an approximate or delta load

    def __str__(self) -> str:
        name = f"{self.model}@{self.version}"
        if self.unchanged:
            return f"{name} has exactly this content already: nothing written"
        said = (
            f"{name} loaded: {self.parameters:,} parameters in {self.blocks:,} blocks, "
            f"{self.new_blocks:,} of them new; {self.new_bytes:,} bytes in {self.new_pages:,} pages"
        )
        return f"{said}\n{self.outcome}" if self.outcome else said


class _Meter:
    """Turn two passes over the blocks, naming and storing, into bytes done of bytes in all."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._passed = 0

    def advance(self, count: int) -> None:
        self._passed += count
        self._progress(min(self._passed // 2, self._total), self._total)

    def finish(self) -> None:
        self._progress(self._total, self._total)


def load(
    connection: Connection[Any],
    source: str | PathLike[str],
    *,
    name: str,
    version: str | None = None,
    deploy: bool = False,
    sharing: Sharing | None = None,
    progress: Progress = lambda done, total: None,
) -> Loaded:
    """Load the model at `source` as a version of model `name`, and deploy it if it is the first.

    version: its label; by default the next of `v1`, `v2` ..., or the label that has this content
    already. deploy: make it the deployed version in any case. sharing: let blocks that are alike be
    shared too, within a bound; else only equal ones are. progress: told bytes done and bytes in
    all. Raises InvalidCheckpoint, InvalidInput for a bad name, DuplicateName for a label that
    has other content, MissingGrant, ServerUnready.
    """
    _check_name("model", name)
    if version is not None:
        _check_name("version", version)
    checkpoint = checkpoints.read(source)
    meter = _Meter(progress, checkpoint.parameter_bytes)
    manifest = manifests.build(
        checkpoint.config, checkpoint.tokenizer, checkpoint.weights, meter.advance
    )
    try:
        work = _Work(checkpoint, manifest, source, sharing)
        planned = None
        if sharing is not None:
            with connection.transaction(), RawCursor(connection) as cursor:
                planned = work.plan(cursor)
        with connection.transaction(), RawCursor(connection) as cursor:
            request = _Request(name, version, deploy, meter.advance)
            loaded = _load(Tables(cursor), work, planned, request)
    except InsufficientPrivilege as error:
        raise _may_not_load(connection) from error
    except (InvalidSchemaName, UndefinedTable) as error:
        raise ServerUnready(
            "this database has no pageformer schema", hint="Run: pageformer migrate"
        ) from error
    meter.finish()
    return loaded


@dataclass(frozen=True)
class _Request:
    name: str
    label: str | None
    deploy: bool
    advance: Callable[[int], None]


@dataclass(frozen=True)
class _Work:
    """Hold a checkpoint that is being loaded, its blocks named as they are in its files."""

    checkpoint: Checkpoint
    manifest: Manifest
    source: str | PathLike[str]
    sharing: Sharing | None

    def plan(self, cursor: RawCursor[tuple[Any, ...]]) -> Plan | None:
        """Choose what the version shares with the blocks that are stored now."""
        if self.sharing is None:
            return None
        stored = Tables(cursor).stored_among
        return plan(cursor, self.checkpoint, self.manifest, self.source, self.sharing, stored)


def _load(tables: Tables, work: _Work, planned: Plan | None, request: _Request) -> Loaded:
    """Store the version, unless its content is there under the label that was asked for."""
    tables.lock()
    if planned and set(tables.stored_among(list(planned.bases))) != planned.bases:
        planned = tables.with_cursor(work.plan)  # what it stood on was dropped meanwhile
    manifest = planned.manifest if planned else work.manifest
    model = tables.find_model(request.name) or tables.insert_model(request.name)
    versions = tables.versions(model.id)
    version = _same(request, manifest.hash, versions)
    written = Written()
    unchanged = version is not None
    if version is None:
        label = request.label or _next_label(versions)
        written = _store_pages(tables, work, planned, request.advance)
        version_id = _store_version(tables, model, label, work.checkpoint, manifest)
        if planned:
            tables.insert_outcome(version_id, planned.outcome)
        version = StoredVersion(version_id, label, manifest.hash)
    deployed = version.id == model.deployed_id
    if not deployed and (request.deploy or not versions):
        tables.deploy(model.id, version.id)
        deployed = True
    return Loaded(
        model=request.name,
        version=version.label,
        hash=version.hash,
        unchanged=unchanged,
        deployed=deployed,
        parameters=manifest.parameters,
        blocks=len(set(manifest.block_names())),
        new_blocks=written.blocks,
        new_pages=written.pages,
        new_bytes=written.bytes,
        outcome=planned.outcome if planned and not unchanged else None,
    )


def _same(request: _Request, content: bytes, versions: list[StoredVersion]) -> StoredVersion | None:
    """Find the version that the request would make once more.

    Raises DuplicateName when its label has other content, or begins another's hash: a pinned name
    would change its meaning.
    """
    for version in versions:
        if request.label is None and version.hash == content:
            return version
        if request.label == version.label:
            if version.hash == content:
                return version
            raise DuplicateName(
                f"{request.name}@{version.label} exists and has other content",
                hint="A version never changes. Give the new one another label, or none.",
            )
        named = request.label is not None and version.hash.hex().startswith(request.label)
        if named and version.hash != content:
            raise DuplicateName(
                f"{request.name}@{request.label} means {version.label} already, by its hash",
                hint="Give the new version another label, or none.",
            )
    return None


def _next_label(versions: list[StoredVersion]) -> str:
    numbers = [
        int(match[1]) for version in versions if (match := NUMBERED.fullmatch(version.label))
    ]
    return f"v{max(numbers, default=0) + 1}"


def _store_pages(
    tables: Tables, work: _Work, planned: Plan | None, advance: Callable[[int], None]
) -> Written:
    """Pack and write the blocks that are not stored yet: plain ones, then differences."""
    manifest = planned.manifest if planned else work.manifest
    records = planned.records if planned else {}
    new = new_blocks(manifest.block_names(), tables.stored_among)
    plain = pack(cut_blocks(work.checkpoint.weights, work.manifest, new - records.keys()))
    differences = (record for name, record in records.items() if name in new)
    pages = chain(plain, pack_differences(manifest.side, differences))
    return tables.insert_pages(_told(pages, advance)) if new else Written()


def _told(pages: Iterator[Page], advance: Callable[[int], None]) -> Iterator[Page]:
    for page in pages:
        yield page
        advance(len(page.data))


def _store_version(
    tables: Tables, model: StoredModel, label: str, checkpoint: Checkpoint, manifest: Manifest
) -> int:
    if checkpoint.tokenizer is not None:
        tables.insert_tokenizer(checkpoint.tokenizer)
    return tables.insert_version(model.id, label, manifest, checkpoint.source)


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{what} name {name!r} is empty or has a space or an @ in it",
            hint="model@version names a version, so neither part may hold an @.",
        )


def _may_not_load(connection: Connection[Any]) -> MissingGrant:
    with connection.transaction(), RawCursor(connection) as cursor:
        role = Tables(cursor).current_role()
    return MissingGrant(
        f"role {role} may not load models",
        hint=f"As a superuser: grant pageformer_admin to {role}",
    )

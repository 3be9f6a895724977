"""Write a task's rows: its arrays on pages, each array once for all tasks, in one transaction."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, RawCursor
from psycopg.errors import (
    ForeignKeyViolation,
    InsufficientPrivilege,
    InvalidSchemaName,
    UndefinedTable,
)

from pageformer.errors import DuplicateName, InvalidInput, MissingGrant, ServerUnready, UnknownName
from pageformer.loader.tables import Tables
from pageformer.udfs import named_queries
from pageformer.udfs.tasks.task_array import TaskArray, aligned

QUERIES = named_queries.read("pageformer.loader.tasks", "queries.sql")
PAGE_BYTES = 1 << 20  # a page is closed when it has this many; an array is never cut

NAME = re.compile(r"[^@\s]+")
NUMBERED = re.compile(r"v(\d+)")

Arrays = Mapping[str, TaskArray]


@dataclass(frozen=True)
class Request:
    """Say what a task is to be called, over which version, and where it came from."""

    version_id: int
    name: str
    label: str | None  # None: the next of v1, v2 ..., or the one that has this content already
    deploy: bool
    source: str


@dataclass(frozen=True)
class Added:
    """Tell what adding a task did; `unchanged`: it was there and nothing was written."""

    name: str
    label: str
    hash: bytes
    unchanged: bool
    deployed: bool
    arrays: int
    bytes: int
    new_bytes: int  # of arrays that no task had
    told: str = ""  # how far from its version it is

    def __str__(self) -> str:
        name = f"{self.name}@{self.label}"
        if self.unchanged:
            return f"{name} has exactly this content already: nothing written"
        said = f"{name} added: {self.bytes:,} bytes in {self.arrays:,} arrays, "
        said += f"{self.new_bytes:,} of them new"
        return f"{said}\n{self.told}" if self.told else said


@dataclass(frozen=True)
class _Stored:
    id: int
    label: str
    hash: bytes
    deployed: bool


def content_hash(config: str, arrays: Arrays) -> bytes:
    """Name a task by its content: the config and every array's name."""
    named = {name: array.hash.hex() for name, array in arrays.items()}
    content = {"config": json.loads(config), "arrays": named}
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    ).digest()


def write(
    connection: Connection[Any], request: Request, kind: str, config: str, arrays: Arrays
) -> Added:
    """Store a task in normal form, and deploy it if it is the first of its name.

    Raises InvalidInput for a bad name, DuplicateName for a label that has other content,
    MissingGrant, and UnknownName where the version was dropped meanwhile.
    """
    for what, name in (("task", request.name), ("version", request.label)):
        _check_name(what, name)
    with telling(connection), connection.transaction(), RawCursor(connection) as cursor:
        return _write(cursor, request, kind, config, arrays)


@contextmanager
def telling(connection: Connection[Any]) -> Iterator[None]:
    """Tell what the database refuses as what it means."""
    try:
        yield
    except InsufficientPrivilege as error:
        raise _may_not_add(connection) from error
    except ForeignKeyViolation as error:
        raise UnknownName("the version of this task was dropped meanwhile") from error
    except (InvalidSchemaName, UndefinedTable) as error:
        raise ServerUnready(
            "this database has no pageformer schema of this release", hint="Run: pageformer migrate"
        ) from error


def _write(
    cursor: RawCursor[tuple[Any, ...]], request: Request, kind: str, config: str, arrays: Arrays
) -> Added:
    Tables(cursor).lock()
    digest = content_hash(config, arrays)
    versions = _versions(cursor, request)
    same = _same(request, digest, versions)
    new: dict[bytes, TaskArray] = {}
    if same is None:
        new = _new_arrays(cursor, arrays)
        for page in _pages(new):
            _insert_page(cursor, page)
        label = request.label or _next_label(versions)
        values = [request.version_id, request.name, label, False, digest, kind, config]
        row = cursor.execute(QUERIES["insert_task"], [*values, request.source]).fetchall()[0]
        same = _Stored(row[0], label, digest, deployed=False)
        parts = [(same.id, name, array.hash) for name, array in arrays.items()]
        cursor.executemany(QUERIES["insert_part"], parts)
    unchanged = any(same.id == version.id for version in versions)
    deployed = same.deployed
    if not deployed and (request.deploy or not versions):
        cursor.execute(QUERIES["undeploy"], [request.version_id, request.name])
        cursor.execute(QUERIES["set_deployed"], [same.id])
        deployed = True
    held = {array.hash: len(array.data) for array in arrays.values()}
    return Added(
        name=request.name,
        label=same.label,
        hash=digest,
        unchanged=unchanged,
        deployed=deployed,
        arrays=len(arrays),
        bytes=sum(held.values()),
        new_bytes=sum(len(array.data) for array in new.values()),
    )


def _versions(cursor: RawCursor[tuple[Any, ...]], request: Request) -> list[_Stored]:
    cursor.execute(QUERIES["find_task"], [request.version_id, request.name], binary=True)
    return [_Stored(*row) for row in cursor]


def _same(request: Request, content: bytes, versions: list[_Stored]) -> _Stored | None:
    """Find what the request would make once more.

    Raises DuplicateName for a label that has other content.
    """
    for version in versions:
        if version.hash == content and request.label in (None, version.label):
            return version
        if request.label == version.label:
            raise DuplicateName(
                f"task {request.name}@{version.label} exists and has other content",
                hint="A task never changes. Give the new one another label, or none.",
            )
    return None


def _new_arrays(cursor: RawCursor[tuple[Any, ...]], arrays: Arrays) -> dict[bytes, TaskArray]:
    """Return, by their names, the arrays that are not stored yet."""
    named = {array.hash: array for array in arrays.values()}
    cursor.execute(QUERIES["stored_arrays"], [list(named)], binary=True)
    stored = {name for (name,) in cursor}
    return {name: array for name, array in named.items() if name not in stored}


Page = list[tuple[bytes, TaskArray, int]]  # name, array, place


def _pages(arrays: Mapping[bytes, TaskArray]) -> Iterator[Page]:
    """Put arrays one after another until a page is full."""
    page: Page = []
    end = 0
    for name, array in arrays.items():
        place = aligned(end)
        page.append((name, array, place))
        end = place + len(array.data)
        if end >= PAGE_BYTES:
            yield page
            page, end = [], 0
    if page:
        yield page


def _insert_page(cursor: RawCursor[tuple[Any, ...]], page: Page) -> None:
    data = bytearray(aligned(page[-1][2] + len(page[-1][1].data)))
    for _, array, place in page:
        data[place : place + len(array.data)] = array.data
    digest = hashlib.sha256(data).digest()
    cursor.execute(QUERIES["insert_page"], [digest, bytes(data)], binary=True)
    rows = [
        (name, array.form, list(array.shape), digest, place, len(array.data))
        for name, array, place in page
    ]
    cursor.executemany(QUERIES["insert_array"], rows)


def _next_label(versions: list[_Stored]) -> str:
    numbers = [int(found[1]) for v in versions if (found := NUMBERED.fullmatch(v.label))]
    return f"v{max(numbers, default=0) + 1}"


def _check_name(what: str, name: str | None) -> None:
    if name is not None and not NAME.fullmatch(name):
        raise InvalidInput(
            f"{what} name {name!r} is empty or has a space or an @ in it",
            hint="task@version names a version of a task, so neither part may hold an @.",
        )


def _may_not_add(connection: Connection[Any]) -> MissingGrant:
    with connection.transaction(), RawCursor(connection) as cursor:
        role = Tables(cursor).current_role()
    return MissingGrant(
        f"role {role} may not add tasks", hint=f"As a superuser: grant pageformer_admin to {role}"
    )

"""Imports point one way, so that whoever opens a room knows what it can depend on."""

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pageformer import server_python

ROOT = Path(__file__).parent.parent

# A room may import its own level and those below. Backends stand beside the operators.
LEVELS = (
    ("pageformer", "migrations", "serving", "scaling"),
    ("loader",),
    ("dedup",),
    ("udfs",),
    ("errors",),
)
BACKENDS = ("cpu_backend", "gpu_backend")
ROOMS = [room for level in LEVELS[:-1] for room in level] + [*BACKENDS]
FILES = [
    str(path.relative_to(ROOT)) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))
]


def imported(file: str) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str:
    """Tell the room that a dotted name stands in; errors are below all rooms."""
    part = [*name.split("."), ""][1]
    return part if part in (*ROOMS, "errors") else "pageformer"


def rooms_of(file: str) -> set[str]:
    return {room_of(name) for name in imported(file) if name.split(".")[0] == "pageformer"}


def allowed(file: str) -> set[str]:
    own = "errors" if file == "pageformer/errors.py" else file.split("/")[0]
    if own in BACKENDS:
        return {own, "udfs", "errors"}
    [depth] = [depth for depth, level in enumerate(LEVELS) if own in level]
    return {*BACKENDS, *(room for level in LEVELS[depth:] for room in level)}


def libraries_of(file: str) -> set[str]:
    return {name.split(".")[0] for name in imported(file)} - {*sys.stdlib_module_names}


def test_imports_only_go_down() -> None:
    upward = {file: rooms_of(file) - allowed(file) for file in FILES}
    assert {file: rooms for file, rooms in upward.items() if rooms} == {}


def test_a_backend_is_imported_by_the_one_module_that_chooses() -> None:
    others = [file for file in FILES if file.split("/")[0] not in BACKENDS]
    assert {file for file in others if rooms_of(file) & {*BACKENDS}} <= {"udfs/backends.py"}


def test_backends_import_operators_and_what_they_are_made_of_alone() -> None:
    mine = [file for file in FILES if file.split("/")[0] in BACKENDS]
    names = {name for file in mine for name in imported(file) if room_of(name) == "udfs"}
    modules = {name.removeprefix("pageformer.udfs.").rpartition(".")[0] for name in names}
    assert modules <= {
        "activations",
        "attention",
        "block_value",
        "blocks",
        "config",
        "tasks.edits",
        "encoding",
        "page_cache.eviction",
        "layout",
        "operators",
    }


@pytest.mark.parametrize(
    ("library", "places"),
    [
        ("plpy", ("udfs/spi.py",)),
        ("cupy", ("gpu_backend/",)),
        ("PIL", ("udfs/pixels.py",)),
        ("ray", ("scaling/actors.py",)),
        ("pyarrow", ("scaling/parquet.py",)),
        ("psycopg", ("pageformer/", "loader/", "migrations/", "serving/", "scaling/")),
    ],
)
def test_the_outside_is_met_in_one_place(library: str, places: tuple[str, ...]) -> None:
    importing = [file for file in FILES if library in libraries_of(file)]
    assert [file for file in importing if not file.startswith(places)] == []


def test_what_the_server_imports_is_copied_for_it() -> None:
    served = {room.removeprefix("pageformer.") for room in server_python.ROOMS}
    there = {
        "pageformer",
        "plpy",
        "cupy",
        "cupy_backends",
        "ml_dtypes",
        *server_python.EXTRAS,
        *server_python.DISTRIBUTIONS,
    }
    mine = [file for file in FILES if file.split("/")[0] in served]
    assert {library for file in mine for library in libraries_of(file)} <= there


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_part_of_the_package(room: str) -> None:
    name = "pageformer" if room == "pageformer" else f"pageformer.{room}"
    assert find_spec(name) is not None

"""The one module that touches PostgreSQL from the inside: queries, cancel, warnings, errors.

It also holds the door to weights: what runs through `as_owner` reads with the owner's rights, and
only this interpreter knows the key that opens it.
"""

import hmac
import os
import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import plpy

from pageformer.errors import MissingGrant, PageformerError
from pageformer.udfs import named_queries

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Row = dict[str, Any]

QUERIES = named_queries.read("pageformer.udfs", "queries.sql")
CAST = re.compile(r"\$(\d+)::([a-z]+(?:\[\])?)")

_key = os.urandom(32)
_plans: dict[str, Any] = {}
_pending: list[Callable[[], Any]] = []
_results: list[Any] = []


class Told(plpy.Error):  # type: ignore[misc]
    """Carry an error to the client: PL/Python reads these attributes of plpy.Error.

    It puts the name of the class in front of the message, hence the name below.
    """

    def __init__(self, error: PageformerError) -> None:
        super().__init__(error.message)
        self.sqlstate = error.sqlstate
        self.detail = error.detail or None
        self.hint = error.hint or None


Told.__name__, Told.__module__ = "pageformer", "__main__"


def boundary(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Translate the errors of `function` into PostgreSQL's, with SQLSTATE and hint."""

    @wraps(function)
    def translated(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except PageformerError as error:
            told = Told(error)
        raise told

    return translated


def rows(name: str, *arguments: object) -> list[Row]:
    """Run the query `name` of queries.sql as the current role."""
    return list(plpy.execute(_plan(name), list(arguments)))


def run(query: str, types: tuple[str, ...], *arguments: object) -> list[Row]:
    """Run a query that was written here and now, as the current role; the last few stay planned."""
    return list(plpy.execute(_written(query, types), list(arguments)))


@lru_cache(maxsize=8)
def _written(query: str, types: tuple[str, ...]) -> Any:
    return plpy.prepare(query, list(types))


def pulse() -> None:
    """Let PostgreSQL act on a cancel, a timeout or a shutdown; costs some microseconds."""
    plpy.execute(_plan("pulse"))


def warn(message: str, detail: str = "") -> None:
    """Tell the client something that does not stop the query."""
    plpy.warning(message, detail=detail)


def as_owner(work: Callable[[], Result]) -> Result:
    """Run `work` with the rights of pageformer_owner, through the one definer function."""
    _pending.append(work)
    try:
        plpy.execute(_plan("as_owner"), [_key])
        result: Result | PageformerError = _results.pop()
    finally:
        _pending.clear()
        _results.clear()
    if isinstance(result, PageformerError):
        raise result
    return result


@boundary
def run_as_owner(key: bytes) -> None:
    """Run the pending work; called by the definer function alone.

    Raises MissingGrant when the key is not this interpreter's.
    """
    if not hmac.compare_digest(key or b"", _key) or not _pending:
        raise MissingGrant("pageformer.as_owner is called by pageformer's own functions only")
    work = _pending.pop()
    try:
        _results.append(work())
    except PageformerError as error:
        _results.append(error)


def _plan(name: str) -> Any:
    if name not in _plans:
        _plans[name] = plpy.prepare(QUERIES[name], argument_types(QUERIES[name]))
    return _plans[name]


def argument_types(query: str) -> list[str]:
    """Read the types of `$1`, `$2` … from the casts where they are used."""
    types = {int(number): name for number, name in CAST.findall(query)}
    return [types[number] for number in sorted(types)]

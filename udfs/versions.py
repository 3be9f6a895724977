"""From a name that a user typed to a version that is ready to run.

Names are resolved by SQL, under the statement's snapshot and the caller's role, and anew whenever
either is another; what the name leads to is kept by content hash. So a deploy or a rollback is seen
at once.
"""

import hashlib
import json
import os
from collections import OrderedDict
from functools import lru_cache, partial
from typing import Any, NamedTuple

from pageformer.errors import DamagedPage, InvalidInput, MissingGrant, UnknownName
from pageformer.udfs import backends, spi
from pageformer.udfs.page_cache.cache import PageCache
from pageformer.udfs.page_cache.room import limit_of, policy_of
from pageformer.udfs.version import Version, read_blocks, read_page

KEPT = 8  # versions that a connection keeps ready
OWN_FORMATS = ("hex", "base64", "escape")  # of PostgreSQL's encode(bytea, format)


class Resolved(NamedTuple):
    """Hold what a name means in this statement."""

    id: int
    hash: bytes
    model: str
    label: str
    compute: str  # float32, bfloat16 or auto
    settings: str  # the owner's, as JSON
    statement: str  # when the statement began: tells one statement from the next


_ready: OrderedDict[tuple[bytes, str, str], Version] = OrderedDict()
_counted: list[object] = []  # the last statement and version for which a request was counted
_caches: dict[tuple[str, ...], PageCache] = {}  # the one there is, by its settings
_settings: dict[str, dict[str, str]] = {}  # the last ones, by their text


def resolve(name: str | None, text: str | None = None) -> Resolved:
    """Find the version that `name` ('minilm', 'minilm@v2', 'minilm@<hash prefix>') means now.

    text: the input, to notice swapped arguments. Raises UnknownName, and MissingGrant when the
    current role may not use the model.
    """
    if name is None:
        raise InvalidInput("the model is null", hint="name one, as in encode('a text', 'minilm')")
    [now] = spi.rows("standpoint")
    found = seen_before(now["seen"], name) if now["seen"] else look_up(name)
    if len(found) > 1:
        raise UnknownName(f"{name} is ambiguous", hint="give more digits of the hash")
    if not found:
        model = name.partition("@")[0]
        raise missing_grant(model) if spi.rows("model_not_granted", model) else unknown(name, text)
    return Resolved._make((*found[0], now["statement"]))


def look_up(name: str) -> list[tuple[Any, ...]]:
    """Return what a name means, as the fields of Resolved, to the role that asks."""
    model, pinned, pin = name.partition("@")
    found = spi.rows("resolve_pinned", model, pin) if pinned else spi.rows("resolve", model)
    return [tuple(row.values()) for row in found]


@lru_cache(maxsize=KEPT)
def seen_before(seen: str, name: str) -> list[tuple[Any, ...]]:
    """Look a name up, once for all calls that see the same.

    seen: whose changes this snapshot shows, and who asks.
    """
    return look_up(name)


def pinned(name: str | None) -> str | None:
    """Return a name that means the same version for good.

    Raises InvalidInput for a moving name.
    """
    if name is not None and "@" not in name:
        raise InvalidInput(
            f"{shorten(name)} is a moving name: another version may be deployed",
            hint=f"pin a version, as in '{name}@v1'; see pageformer.model_versions",
        )
    return name


def missing_grant(model: str) -> MissingGrant:
    """Make the error for a model that the current role may not use."""
    [role] = spi.rows("current_role")
    return MissingGrant(
        f"permission denied for model {model}",
        hint=f"an admin can run: select pageformer.grant_use('{model}', '{role['name']}')",
    )


def unknown(name: str, text: str | None) -> UnknownName:
    """Make the error for a name that nothing has, with the likeliest cause as its hint."""
    loaded = spi.rows("names")
    models = sorted({row["name"] for row in loaded})
    model, pinned, pin = name.partition("@")
    if name in OWN_FORMATS:
        hint = f"for PostgreSQL's own encode, cast the input: encode(…::bytea, '{name}')"
    elif text is not None and text.partition("@")[0] in models:
        hint = f"the arguments are swapped: the model comes second, encode(…, '{text}')"
    elif pinned and model in models:
        labels = ", ".join(row["label"] for row in loaded if row["name"] == model)
        return UnknownName(f"model {model} has no version {pin}", hint=f"its versions: {labels}")
    elif models:
        hint = f"models that are loaded: {', '.join(models)}"
    else:
        hint = "no model is loaded yet: pageformer load DIR --name NAME"
    return UnknownName(f"model {shorten(name)} does not exist", hint=hint)


def shorten(name: str) -> str:
    """Quote a name, the beginning of it when it is long."""
    return f'"{name}"' if len(name) <= 64 else f'"{name[:60]}…"'


def ready(resolved: Resolved, fixed: bool = False) -> Version:
    """Return the version, opened once per connection and kept by content hash.

    fixed: computed in float32 by this machine's own processor, whatever is set.
    """
    backend = "auto" if fixed else settings(resolved)["backend"]
    compute = "float32" if fixed else resolved.compute
    key = (resolved.hash, backend, compute)
    if key in _ready and not _ready[key].is_sound():
        _ready.pop(key).close()
    if key not in _ready:
        _ready[key] = spi.as_owner(lambda: opened(resolved, backend, compute))
        while len(_ready) > KEPT:
            spare()
    elif _counted != [resolved.statement, key]:
        _ready[key].request()
    _counted[:] = resolved.statement, key
    _ready.move_to_end(key)
    if _ready[key].cache.room.asked_back():
        while len(_ready) > 1:
            spare()
    return _ready[key]


def opened(resolved: Resolved, backend: str, compute: str) -> Version:
    """Open a version; needs the owner's rights."""
    return Version(spi.rows, resolved.id, page_cache(), backend, compute, spi.as_owner)


def spare() -> bool:
    """Let go of the version that was wanted least recently; tell whether there was one."""
    if not _ready:
        return False
    _ready.popitem(last=False)[1].close()
    return True


def settings(resolved: Resolved) -> dict[str, str]:
    """Return the owner's settings, as they were when a name was resolved."""
    if resolved.settings not in _settings:
        found: dict[str, str] = json.loads(resolved.settings)
        if _caches and cache_settings(found) not in _caches:
            start_anew()
        _settings.clear()
        _settings[resolved.settings] = found
    return _settings[resolved.settings]


def read_settings() -> dict[str, str]:
    """Read the owner's settings; needs the owner's rights."""
    return {row["name"]: row["value"] for row in spi.rows("settings")}


def cache_settings(found: dict[str, str]) -> tuple[str, ...]:
    """Return those settings that make another page cache."""
    return tuple(found[name] for name in ("cache_folder", "cache_limit", "cache_policy"))


def start_anew() -> None:
    """Let go of the page cache and of all that it holds."""
    while spare():
        continue
    _caches.clear()


def page_cache() -> PageCache:
    """Return the page cache of this cluster; needs the owner's rights."""
    chosen = cache_settings(read_settings())
    if chosen not in _caches:
        start_anew()
        folder, limit, policy = chosen
        _caches[chosen] = PageCache(
            folder,
            os.getcwd(),  # a backend's working directory is its cluster's data directory
            partial(read_page, spi.rows),
            spi.pulse,
            spi.warn,
            partial(read_blocks, spi.rows),
            limit_of(limit),
            policy_of(policy),
            spare,
            backends.watch(),
        )
    return _caches[chosen]


def verify(resolved: Resolved) -> int:
    """Check the bytes of every page of a version, in the table and in the cache; count them.

    Needs the owner's rights. Raises DamagedPage naming the page.
    """
    pages = sorted({(row["page_hash"], row["format"]) for row in spi.rows("places", resolved.id)})
    for page, _ in pages:
        spi.pulse()
        if hashlib.sha256(read_page(spi.rows, page)).digest() != page:
            raise DamagedPage(
                f"page {page.hex()} of {resolved.model}@{resolved.label} is damaged in its table",
                hint="restore it from a backup, or drop the version and load it again",
            )
    page_cache().check(pages)
    return len(pages)

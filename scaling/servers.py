"""Servers that have the same models: what each is, how far behind, and which versions it has."""

from collections.abc import Sequence
from dataclasses import dataclass

from pageformer import client
from pageformer.udfs import named_queries

QUERIES = named_queries.read("pageformer.scaling", "servers.sql")


@dataclass(frozen=True)
class Standing:
    """Hold what a server says of itself."""

    dsn: str
    role: str  # primary, standby or subscriber
    position: str  # in the write-ahead log of the first server
    copying: int  # tables that a subscription has not copied yet
    idle: float | None  # seconds since a standby replayed a transaction
    versions: Sequence[str]


def standings(dsns: Sequence[str]) -> list[tuple[Standing, int | None]]:
    """Ask each server, and tell how many bytes of log it is behind the first one.

    Raises ServerUnready for one that does not answer.
    """
    found = [standing(dsn) for dsn in dsns]
    with client.connect(dsns[0]) as connection:
        return [(one, behind(connection, found[0], one)) for one in found]


def standing(dsn: str) -> Standing:
    """Ask a server."""
    with client.connect(dsn) as connection:
        [row] = client.fetch(connection, QUERIES["standing"])
        versions = client.fetch(connection, QUERIES["versions"])
    subscriber = row["subscriber"]
    role = "standby" if row["standby"] else "subscriber" if subscriber else "primary"
    position = row["received"] if subscriber and not row["standby"] else row["position"]
    told = [
        f"{v['model']}@{v['label']}"
        + ("*" if v["deployed"] else "")
        + ("" if v["whole"] and not v["late"] else " (in part)")
        for v in versions
    ]
    return Standing(dsn, role, position or "", row["copying"], row["since"], told)


def behind(connection: client.Connection, first: Standing, other: Standing) -> int | None:
    """Count the bytes of log from one position to another; None where none is known."""
    if not other.position or (other.role == "primary" and other is not first):
        return None
    [row] = client.fetch(connection, QUERIES["behind"], [first.position, other.position])
    return max(0, int(row["bytes"]))


def lag(one: Standing, bytes: int | None) -> str:
    """Write how far behind a server is."""
    if one.role == "primary":
        return "-"
    parts = [f"{bytes:,} bytes" if bytes is not None else "unknown"]
    if one.copying:
        parts.append(f"{one.copying} tables still to copy")
    if bytes and one.idle is not None:
        parts.append(f"last replayed {one.idle:.0f} s ago")
    return ", ".join(parts)

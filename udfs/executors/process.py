"""What SQL functions know of the serving process: where it listens, and what it has done."""

import os
from typing import Any

from pageformer.udfs import spi, versions


@spi.boundary
def serving_place() -> list[tuple[Any, ...]]:
    """Return where the process of this database listens, and the backend that the owner chose."""
    settings = spi.as_owner(versions.read_settings)
    [database] = spi.rows("database")
    return [
        (
            database["oid"],
            database["name"],
            os.getcwd(),  # a backend's is its cluster's data directory
            settings["backend"],
            *versions.cache_settings(settings),
        )
    ]


@spi.boundary
def serving() -> list[tuple[Any, ...]]:
    """Return what the process has done for each version that the caller may use."""
    from pageformer.udfs.executors import served

    line = served.open_line()
    if line is None:
        return []
    told = line.statistics()
    usable = {row["hash"]: row for row in spi.rows("usable_versions")}
    return [
        (usable[row["version"]]["model"], usable[row["version"]]["label"], *figures(told, row))
        for row in told["versions"]
        if row["version"] in usable
    ]


def figures(told: dict[str, Any], row: dict[str, Any]) -> tuple[Any, ...]:
    """Choose what the view shows of a version, in its order."""
    seconds = row["compute_seconds"]
    return (
        row["compute"],
        row["requests"],
        row["texts"],
        row["tokens"],
        row["texts"] / max(1, row["batches"]),
        row["queue_ms"],
        row["queue_p99_ms"],
        row["tokens"] / seconds if seconds else None,
        row["padding_avoided"],
        row["cache_hits"],
        row["failed"],
        row["page_bytes"],
        told["cache_bytes"],
        told["memory"],
        told["since"],
    )

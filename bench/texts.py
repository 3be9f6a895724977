"""Real text that every machine with PostgreSQL has, or that one Debian package brings."""

import re
from pathlib import Path

import psycopg

FORTUNES = Path("/usr/share/games/fortunes")


def descriptions(connection: psycopg.Connection, count: int) -> list[str]:
    """Return PostgreSQL's own descriptions of its objects: short texts."""
    query = "select distinct description from pg_catalog.pg_description order by 1 limit %s"
    return [text for (text,) in connection.execute(query, [count])]


def fortunes(count: int) -> list[str]:
    """Return fortunes of Debian's package `fortunes`, of mixed length; none where it is missing."""
    files = sorted(path for path in FORTUNES.glob("*") if path.is_file() and not path.suffix)
    texts = (
        text.strip()
        for path in files
        for text in re.split(r"^%$", path.read_text("utf-8", "replace"), flags=re.MULTILINE)
    )
    found = [text for text in texts if text]
    return found[:: max(1, len(found) // count)][:count]

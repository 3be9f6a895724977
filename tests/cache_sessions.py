"""Connections whose server process is looked into: what it was told, what it maps."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

TEXT = "which function rounds a number down?"
CACHE_FILE = re.compile(r"/\S*/pageformer-\d+-[0-9a-f]{16}/(?:[0-9a-z]+-)?[0-9a-f]{64}$")


class Session:
    """Hold one connection, what it was told, and a look at its server process."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.told: list[str] = []
        self.connection.add_notice_handler(lambda n: self.told.append(n.message_primary or ""))

    def run(self, query: str, *values: object) -> Any:
        cursor = self.connection.execute(query, values)
        return cursor.fetchall() if cursor.description else []

    def encode(self, model: str = "tiny") -> str:
        [(vector,)] = self.run("select pageformer.encode(%s, %s)::text", TEXT, model)
        return str(vector)

    def refusal(self, query: str) -> psycopg.errors.Diagnostic:
        with pytest.raises(psycopg.Error) as raised:
            self.run(query)
        return raised.value.diag

    def pages(self) -> list[Path]:
        """Tell the files of pages among those that the server process maps."""
        return [file for file in self.mapped() if not file.name.startswith("wordpieces")]

    def mapped(self) -> dict[Path, dict[str, int]]:
        """Tell the kilobytes (Rss, Pss …) of each cache file that the server process maps."""
        [(process,)] = self.run("select pg_backend_pid()")
        files: dict[Path, dict[str, int]] = {}
        sizes: dict[str, int] = {}
        for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
            name, *rest = line.split()
            if not name.endswith(":"):
                found = CACHE_FILE.search(line)
                sizes = files.setdefault(Path(found[0]), {}) if found else {}
            elif rest[-1] == "kB":
                sizes[name[:-1]] = sizes.get(name[:-1], 0) + int(rest[0])
        return files

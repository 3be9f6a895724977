"""Queries stand in `.sql` files, named, with `$1` parameters: one text for SPI and for psycopg.

A file is a run of sections, each headed by a line `-- name: foo`.
"""

import re
from importlib.resources import files

SECTION = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def read(package: str, file: str) -> dict[str, str]:
    """Read the named queries of `file` in `package`."""
    parts = SECTION.split(files(package).joinpath(file).read_text(encoding="utf-8"))
    return {name: query.strip() for name, query in zip(parts[1::2], parts[2::2], strict=True)}

"""Queries stand in `.sql` files, named, with `$1` parameters: one text for SPI and for psycopg.

A file is a run of sections, each headed by a line `-- name: foo`.
"""

import os
import re
from importlib import import_module

SECTION = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def read(package: str, file: str) -> dict[str, str]:
    """Read the named queries of `file` in `package`.

    By its path: importlib.resources would add a tenth to a connection's first call.
    """
    [folder] = import_module(package).__path__
    with open(os.path.join(folder, file), encoding="utf-8") as queries:
        parts = SECTION.split(queries.read())
    return {name: query.strip() for name, query in zip(parts[1::2], parts[2::2], strict=True)}

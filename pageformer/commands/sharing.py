"""Commands for what versions share."""

from pathlib import Path
from typing import Annotated

import typer

from pageformer.commands.options import Dsn


def pack(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what it would gain.")
    ] = False,
    method: Annotated[
        str, typer.Option(metavar="METHOD", help="greedy-1, greedy-2, two-stage or optimal.")
    ] = "two-stage",
    dsn: Dsn = None,
) -> None:
    """Pack all blocks anew, by the versions that share them.

    Readers go on meanwhile; loads and drops wait.
    """
    from pageformer import progress
    from pageformer.client import connect
    from pageformer.loader.repack import repack

    with connect(dsn) as connection, progress.show("packing", "pages") as tell:
        packed = repack(connection, method=method, dry_run=dry_run, progress=tell)
    print(packed)


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="As minilm, or minilm@v1.")],
    second: Annotated[str, typer.Argument(metavar="B")],
    dsn: Dsn = None,
) -> None:
    """List the tensors in which two versions differ, and by how much."""
    from pageformer.client import connect, rows
    from pageformer.terminal import table

    with connect(dsn) as connection:
        found = rows(connection, "diff", [first, second])
    table(("tensor", "blocks", "mean distance", "largest"), [list(row.values()) for row in found])


def report(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The page to write.")] = Path(
        "pageformer-report.html"
    ),
    dsn: Dsn = None,
) -> None:
    """Write a page that shows what versions share."""
    from pageformer.client import connect
    from pageformer.report import write

    with connect(dsn) as connection:
        write(connection, file)
    print(file)

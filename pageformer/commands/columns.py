"""Commands for columns of vectors."""

from typing import Annotated

import typer

from pageformer.commands.options import Dsn


def embed(
    table: Annotated[str | None, typer.Option(metavar="TABLE", help="Table to embed.")] = None,
    column: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of texts.")] = None,
    into: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of vectors.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Name of a model.")] = None,
    where: Annotated[str, typer.Option(metavar="CONDITION", help="Only rows where …")] = "true",
    stale: Annotated[
        bool, typer.Option("--stale", help="Bring columns that were embedded before up to date.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Install triggers: changed rows become stale.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Connections that encode.")] = 1,
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="sql: the server computes; ray: workers do.")
    ] = "sql",
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of a Ray cluster; else one of our own.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows in one transaction.")] = 256,
    dsn: Dsn = None,
) -> None:
    """Fill a column with the vectors of another's texts.

    Run it again to go on, and to encode rows that are missing or stale.
    """
    from pageformer import progress
    from pageformer.client import connect
    from pageformer.embedded_column import known, request
    from pageformer.scaling.engines import engine as chosen
    from pageformer.terminal import say

    encode = chosen(engine, address)
    if stale:
        with connect(dsn) as connection:
            wanted = known(connection, table, into, where, follow)
    else:
        wanted = [request(table, column, into, model, where, follow)]
    for one in wanted:
        with progress.show(f"embedding {one.table}.{one.into}", "texts") as tell:
            done = encode(dsn, one, workers=workers, batch=batch, progress=tell, warn=say)
        print(f"{one.table}.{one.into}: {done:,} texts encoded with {one.model}")

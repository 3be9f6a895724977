"""Commands for columns of vectors."""

from pathlib import Path
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
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Parquet file, not a table.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Fill a column with the vectors of another's texts.

    Run it again to go on, and to encode rows that are missing or stale.
    """
    from pageformer import progress
    from pageformer.client import connect
    from pageformer.embedded_column import EVERYWHERE, known, request
    from pageformer.errors import InvalidInput
    from pageformer.scaling.engines import engine as chosen
    from pageformer.terminal import say

    encode = chosen(engine, address)
    if source:
        if table or stale or follow or where != EVERYWHERE:
            raise InvalidInput(
                "--from is of a file, and --table, --where, --stale and --follow are of a table",
                hint="give one or the other",
            )
        embed_file(dsn, source, into, model, column, engine, address, workers, batch)
        return
    if stale:
        with connect(dsn) as connection:
            wanted = known(connection, table, into, where, follow)
    else:
        wanted = [request(table, column, into, model, where, follow)]
    for one in wanted:
        with progress.show(f"embedding {one.table}.{one.into}", "texts") as tell:
            done = encode(dsn, one, workers=workers, batch=batch, progress=tell, warn=say)
        print(f"{one.table}.{one.into}: {done:,} texts encoded with {one.model}")


def embed_file(
    dsn: str | None,
    source: Path,
    into: str | None,
    model: str | None,
    column: str | None,
    engine: str,
    address: str | None,
    workers: int,
    batch: int,
) -> None:
    """Write a file with the vectors of another's texts."""
    from pageformer import progress
    from pageformer.errors import InvalidInput
    from pageformer.scaling import parquet

    if into is None or model is None:
        raise InvalidInput("--from needs --into and --model", hint="--into vectors.parquet")
    target, body = Path(into), column or "body"
    with progress.show(f"embedding {source}", "texts") as tell:
        done = parquet.embed(
            dsn, source, target, model, column=body, engine=engine, address=address,
            workers=workers, batch=batch, progress=tell,
        )  # fmt: skip
    print(f"{target}: {done:,} texts encoded with {model}")

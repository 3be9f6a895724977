"""The command that tells what a large job would take."""

from typing import Annotated

import typer

from pageformer.commands.options import Dsn


def plan(
    model: Annotated[str, typer.Option(metavar="MODEL", help="Name of a model.")],
    rows: Annotated[float, typer.Option(min=1, help="Texts, as 1e9.")] = 1e9,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a text, on average.")] = 120,
    cores: Annotated[int, typer.Option(min=1, help="Cores of a node, a worker on each.")] = 16,
    database_cores: Annotated[int, typer.Option(min=1, help="Cores of the database.")] = 16,
    losses: Annotated[float, typer.Option(min=0, help="Losses of a worker in an hour.")] = 0.01,
    dsn: Dsn = None,
) -> None:
    """Tell hours, nodes and bytes of a large job.

    Measured on one core of this machine, then simulated for 1 to 1,000 nodes like it.
    """
    from pageformer.scaling.plan import measure, outcomes
    from pageformer.terminal import table

    rates = measure(dsn, model, tokens)
    database = rates.reading + rates.writing
    print(f"{rows:,.0f} texts of {tokens} tokens, {model}; measured here, ms per text and core:")
    print(f"  encoding c = {rates.encoding * 1e3:.3f}")
    print(
        f"  reading and writing d = {rates.reading * 1e3:.4f} + {rates.writing * 1e3:.4f}"
        f" = {database * 1e3:.4f}"
    )
    print(f"  cutting k = {rates.cutting * 1e3:.4f}")
    print("hours = rows * max((c + d) / workers, d / database cores, k)")
    print("bytes = rows * (text + vector) + nodes * pages")
    print(f"      = rows * ({rates.text_bytes} + {rates.vector_bytes}) + nodes * "
          f"{rates.page_bytes:,}")  # fmt: skip
    lines = []
    for nodes, found in outcomes(rates, rows, cores, database_cores, losses):
        formula = rates.hours(rows, nodes * cores, database_cores)
        busy = [f"{found.used[place]:.0%}" for place in ("workers", "database", "driver")]
        lines.append((
            f"{nodes:,}", f"{formula:,.2f}", f"{found.seconds / 3600:,.2f}",
            f"{rates.bytes(rows, nodes) / 1e9:,.0f}", *busy, found.limit,
        ))  # fmt: skip
    headings = ("nodes", "hours", "simulated", "GB", "workers", "database", "driver", "limit")
    table(headings, lines)

"""The command that tells what a large job would take."""

from typing import TYPE_CHECKING, Annotated

import typer

from pageformer.commands.options import Dsn

if TYPE_CHECKING:
    from pageformer.scaling.plan import Rates


def plan(
    model: Annotated[str, typer.Option(metavar="MODEL", help="Name of a model.")],
    rows: Annotated[float, typer.Option(min=1, max=1e15, help="Texts, as 1e9.")] = 1e9,
    tokens: Annotated[
        int, typer.Option(min=1, max=10_000, help="Tokens of a text, on average.")
    ] = 120,
    cores: Annotated[
        int, typer.Option(min=1, max=1000, help="Cores of a node, a worker on each.")
    ] = 16,
    database_cores: Annotated[
        int, typer.Option(min=1, max=1000, help="Cores of the database.")
    ] = 16,
    losses: Annotated[float, typer.Option(min=0, help="Losses of a worker in an hour.")] = 0.01,
    dsn: Dsn = None,
) -> None:
    """Tell hours, nodes and bytes of a large job.

    Measured on the cores of this machine, then simulated for 1 to 1,000 nodes of such cores.
    """
    from pageformer.scaling.calibration import cores as cores_here
    from pageformer.scaling.plan import measure, outcomes, texts_of
    from pageformer.terminal import table

    here = cores_here()
    rates = measure(dsn, model, texts_of(dsn, model, tokens), here)
    print(f"{rows:,.0f} texts of {tokens} tokens, {model}")
    print(f"measured here, {here} cores at work, in ms of a core for each text:")
    for line in told(rates):
        print(f"  {line}")
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


def told(rates: "Rates") -> list[str]:
    """Write what a text takes."""
    read, written, cut, handed_out = (
        f"{seconds * 1e3:.4f}"
        for seconds in (rates.reading, rates.writing, rates.cutting, rates.handing_out)
    )
    if not rates.handing_out:
        handed_out = "? (Ray is not installed)"
    return [
        f"c = {rates.encoding * 1e3:.3f}  encoding, by workers",
        f"d = {read} + {written}  reading and writing, by the database",
        f"k = {cut} + {handed_out}  cutting items and handing them out, by the driver",
    ]

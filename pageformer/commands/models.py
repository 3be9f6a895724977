"""Commands for models and their versions."""

from pathlib import Path
from typing import Annotated

import typer

from pageformer.commands.options import Dsn, Model, Version


def load(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A directory, an importable package, or a name on the hub."
        ),
    ],
    name: Annotated[str, typer.Option("--name", metavar="MODEL", help="Name of the model.")],
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="Label; else the next vN.")
    ] = None,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Deploy it even if it is not the first version.")
    ] = False,
    dedup: Annotated[
        str,
        typer.Option(
            metavar="RUNG", help="Share blocks that are equal: exact; or alike: approximate, delta."
        ),
    ] = "exact",
    max_drop: Annotated[
        float, typer.Option(metavar="PART", help="How much lower the score may get, as 0.005.")
    ] = 0.005,
    evaluate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Lines of text, text<TAB>label or text<TAB>text<TAB>score that measure the score.",
        ),
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Load a model from its files.

    The first version of a model is deployed, later ones by `deploy`.
    """
    from pageformer import progress
    from pageformer.client import connect
    from pageformer.loader.load import load
    from pageformer.loader.sharing import sharing

    shared = sharing(dedup, max_drop, evaluate)
    with connect(dsn) as connection, progress.show(f"loading {name}") as tell:
        loaded = load(
            connection,
            source,
            name=name,
            version=version,
            deploy=deploy,
            sharing=shared,
            progress=tell,
        )
    print(loaded)


def models(dsn: Dsn = None) -> None:
    """List models and their versions."""
    from pageformer.client import connect, rows
    from pageformer.terminal import table

    with connect(dsn) as connection:
        found = rows(connection, "models")
    headings = ("model", "version", "deployed", "hash", "family", "dimension", "parameters")
    table((*headings, "loaded"), [list(row.values()) for row in found])


def show(model: Model, dsn: Dsn = None) -> None:
    """Tell everything about the versions of a model."""
    from pageformer.client import connect, rows
    from pageformer.errors import UnknownName

    with connect(dsn) as connection:
        found = rows(connection, "versions", [model])
    if not found:
        raise UnknownName(f'there is no model "{model}"', hint="pageformer models")
    for row in found:
        for key, value in row.items():
            print(f"{key:<11} {value}")
        print(end="" if row is found[-1] else "\n")


def deploy(model: Model, version: Version, dsn: Dsn = None) -> None:
    """Make a version the one that a model's name means."""
    from pageformer.client import connect, run

    with connect(dsn) as connection:
        run(connection, "deploy", [model, version])
    print(f"{model} is {model}@{version} now")


def drop(model: Model, version: Version, dsn: Dsn = None) -> None:
    """Drop a version; the last one takes the model with it."""
    from pageformer.client import connect, run

    with connect(dsn) as connection:
        run(connection, "drop_version", [model, version])
    print(f"dropped {model}@{version}")


def verify(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]")] = None, dsn: Dsn = None
) -> None:
    """Check a model's bytes, or all, against their hashes."""
    from pageformer.client import connect, rows

    with connect(dsn) as connection:
        names = [model] if model else [row["model"] for row in rows(connection, "model_names")]
        for name in names:
            pages = rows(connection, "verify", [name])[0]["pages"]
            print(f"{name}: {pages} pages are sound")

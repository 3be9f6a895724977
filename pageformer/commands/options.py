"""Arguments and options that several commands take."""

from typing import Annotated

import typer

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="DSN",
        help="Connection string; else libpq's environment, else the embedded cluster.",
    ),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Label of a version.")]

"""Commands for a team's own Alembic project."""

from pathlib import Path
from typing import Annotated

import typer

from pageformer.commands.options import Dsn


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to make it.")] = Path(),
) -> None:
    """Make a small Alembic project that keeps models."""
    from pageformer import project

    print(project.init(folder))


def revision(
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What the revision does.")],
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Name of a model.")] = None,
    load: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Files of its next version.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="Label; else the next vN.")
    ] = None,
    head: Annotated[str, typer.Option(metavar="REVISION", help="What it follows.")] = "head",
    project: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of alembic.ini.")
    ] = Path(),
    dsn: Dsn = None,
) -> None:
    """Write an Alembic revision that loads and deploys a version.

    Without --model: of all that the database lacks of what the project declares.
    """
    from pageformer import project as projects
    from pageformer.errors import InvalidInput

    if model and load:
        print(projects.load_revision(project, message, model, load, version, head))
    elif model or load:
        raise InvalidInput("--model and --load go together", hint="--model NAME --load DIR")
    else:
        print(projects.compared_revision(project, message, dsn, head))

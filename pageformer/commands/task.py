"""`pageformer task …`: small fine-tunes over one model, from the files that people have."""

from typing import Annotated

import typer

from pageformer.commands.options import Dsn
from pageformer.errors import InvalidInput

app = typer.Typer(help="Adapters and other small fine-tunes over a model.", no_args_is_help=True)

Model = Annotated[str, typer.Option("--model", metavar="MODEL", help="As minilm, or minilm@v1.")]
Task = Annotated[str, typer.Argument(metavar="TASK", help="As legal, or legal@v1.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the task.")],
    model: Model,
    directory: Annotated[
        str | None,
        typer.Argument(metavar="[DIR]", help="What PEFT or adapters saved."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--from-checkpoint", metavar="SOURCE", help="Or a whole model that was fine-tuned."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="How that differs: bitfit, diff or mask."),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="Label; else the next vN.")
    ] = None,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Deploy it even if it is not the task's first version.")
    ] = False,
    labels: Annotated[
        str, typer.Option(metavar="A,B,…", help="Names of the labels, where the files have none.")
    ] = "",
    scores: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Scores of logits: softmax, sigmoid or none."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Files of the model, if those it came from are gone."),
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Add a task to a model; its first version is deployed."""
    from pageformer.client import connect
    from pageformer.loader.tasks.add import Source
    from pageformer.loader.tasks.add import add as add_task
    from pageformer.loader.tasks.head import Wishes

    if (directory is None) == (checkpoint is None) or (checkpoint is None) != (kind is None):
        raise InvalidInput(
            "give either the directory of an adapter, or --from-checkpoint with --kind",
            hint="pageformer task add legal --model minilm DIR",
        )
    if scores not in (None, "softmax", "sigmoid", "none"):
        raise InvalidInput(f"--scores is {scores!r}, not softmax, sigmoid or none")
    names = [label.strip() for label in labels.split(",")] if labels else []
    source = Source(str(directory or checkpoint), kind, Wishes(names, scores), base)
    with connect(dsn) as connection:
        print(add_task(connection, source, model=model, name=name, label=version, deploy=deploy))


@app.command("list")
def list_tasks(
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Only of this model.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """List tasks: their kind, their bytes, and the bytes of a full copy."""
    from pageformer.client import connect, rows
    from pageformer.terminal import table

    with connect(dsn) as connection:
        found = rows(connection, "tasks", [model])
    headings = ("task", "model", "deployed", "kind", "bytes", "as a full copy", "loaded")
    table(headings, [list(row.values()) for row in found])


@app.command()
def show(task: Task, model: Model, dsn: Dsn = None) -> None:
    """Tell everything about a task."""
    from pageformer.client import connect, rows
    from pageformer.errors import UnknownName

    with connect(dsn) as connection:
        found = rows(connection, "task", [model, task])
    if not found:
        raise UnknownName(f'{model} has no task "{task}"', hint="pageformer task list")
    for row in found:
        for key, value in row.items():
            print(f"{key:<14} {value}")
        print(end="" if row is found[-1] else "\n")


@app.command()
def deploy(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of a task.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Label of a version of it.")],
    model: Model,
    dsn: Dsn = None,
) -> None:
    """Make a version of a task the one that its name means."""
    from pageformer.client import connect, run

    with connect(dsn) as connection:
        run(connection, "deploy_task", [model, task, version])
    print(f"{task} is {task}@{version} now")


@app.command()
def drop(task: Task, model: Model, dsn: Dsn = None) -> None:
    """Drop a task, or one version of it."""
    from pageformer.client import connect, run

    with connect(dsn) as connection:
        run(connection, "drop_task", [model, task])
    print(f"dropped {task} of {model}")

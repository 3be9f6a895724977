"""The command line: one function per command, and the boundary where errors become one line.

Modules that take time to import are imported by the command that needs them.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pageformer import task_commands
from pageformer.errors import PageformerError
from pageformer.serve import serve

app = typer.Typer(
    name="pageformer",
    help="Transformer encoders inside PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(task_commands.app, name="task")

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


def main() -> None:
    """Run a command; tell a failure in one line, with what to do about it in a second."""
    try:
        app()
    except PageformerError as error:
        sys.exit(_tell(error.message, error.hint))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        psycopg = sys.modules.get("psycopg")
        if psycopg is None or not isinstance(error, psycopg.Error):
            raise
        said = error.diag.message_primary or str(error)
        sys.exit(_tell(said, error.diag.message_hint or "", error.sqlstate or ""))


def _tell(message: str, hint: str, sqlstate: str = "") -> int:
    code = f" ({sqlstate})" if sqlstate else ""
    print(f"error: {' '.join(message.split())}{code}", file=sys.stderr)
    if hint:
        print(f"hint: {' '.join(hint.split())}", file=sys.stderr)
    return 1


@app.command()
def up(
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Also listen on TCP; needs a password.")
    ] = "",
    foreground: Annotated[
        bool, typer.Option(help="Stay, and stop the server when interrupted.")
    ] = False,
) -> None:
    """Start the embedded cluster, and renew what is old."""
    from pageformer import embedded
    from pageformer.cluster import embedded as own
    from pageformer.terminal import say

    cluster = own()
    embedded.bring_up(cluster, say, listen)
    print(cluster.dsn)
    if foreground:
        embedded.stay(cluster)


@app.command()
def down() -> None:
    """Stop the embedded cluster."""
    from pageformer.cluster import embedded

    cluster = embedded()
    print("stopped" if cluster.stop() else "it was not running")
    cluster.remove_page_cache()


@app.command()
def status() -> None:
    """Tell whether the embedded cluster runs.

    Exits with 3 when it does not.
    """
    from pageformer.cluster import embedded

    cluster = embedded()
    running = cluster.running
    state = "running" if running else "stopped" if cluster.exists else "not made yet"
    print(f"state  {state}")
    print(f"home   {cluster.home}")
    if cluster.exists:
        print(f"server {cluster.bin.parent}")
        print(f"log    {cluster.log}")
        print(f"dsn    {cluster.dsn}")
    if not running:
        raise typer.Exit(3)


@app.command()
def dsn(dsn: Dsn = None) -> None:
    """Print the connection string in use."""
    from pageformer.client import choose_dsn

    print(choose_dsn(dsn))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def psql(context: typer.Context, dsn: Dsn = None) -> None:
    """Open psql, with psql's own arguments."""
    from pageformer.client import open_psql

    open_psql(dsn, context.args)


@app.command()
def doctor(dsn: Dsn = None) -> None:
    """Check every prerequisite; tell each one's fix."""
    from pageformer import doctor

    if not doctor.report(dsn):
        raise typer.Exit(1)


@app.command()
def migrate(
    dsn: Dsn = None,
    revision: Annotated[str, typer.Option(help="Revision to go up to.")] = "head",
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL, run nothing.")] = False,
    site: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Only copy what the server's Python imports into FOLDER."
        ),
    ] = None,
) -> None:
    """Install or renew Pageformer in a database.

    Needs a superuser: plpython3u is an untrusted language.
    """
    from pageformer import installed_server, server_python
    from pageformer.client import choose_dsn
    from pageformer.migrations import install

    if site:
        current = server_python.publish(site.absolute(), installed_server.bin_folder())
        print(f"start the server with PYTHONPATH={current} in its environment")
    elif sql:
        print(install.offline_sql(), end="")
    else:
        updated = install.upgrade(choose_dsn(dsn), revision)
        print(f"installed: version {updated} of the extension" if updated else "installed")


@app.command()
def extension(
    into: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Else where the installed server finds extensions."),
    ] = None,
) -> None:
    """Write the files of `create extension pageformer cascade`."""
    from pageformer import installed_server
    from pageformer.migrations import extension

    folder = into or installed_server.extension_folder(installed_server.bin_folder())
    print(f"pageformer {extension.write(folder)} in {folder}")


@app.command()
def uninstall(
    dsn: Dsn = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also drop what others built on Pageformer.")
    ] = False,
) -> None:
    """Remove Pageformer from a database."""
    from pageformer.client import choose_dsn
    from pageformer.migrations import install
    from pageformer.terminal import say

    install.uninstall(choose_dsn(dsn), force=force, note=say)
    print("uninstalled")


@app.command()
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


@app.command()
def models(dsn: Dsn = None) -> None:
    """List models and their versions."""
    from pageformer.client import connect, rows
    from pageformer.terminal import table

    with connect(dsn) as connection:
        found = rows(connection, "models")
    headings = ("model", "version", "deployed", "hash", "family", "dimension", "parameters")
    table((*headings, "loaded"), [list(row.values()) for row in found])


@app.command()
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


@app.command()
def deploy(model: Model, version: Version, dsn: Dsn = None) -> None:
    """Make a version the one that a model's name means."""
    from pageformer.client import connect, run

    with connect(dsn) as connection:
        run(connection, "deploy", [model, version])
    print(f"{model} is {model}@{version} now")


@app.command()
def drop(model: Model, version: Version, dsn: Dsn = None) -> None:
    """Drop a version; the last one takes the model with it."""
    from pageformer.client import connect, run

    with connect(dsn) as connection:
        run(connection, "drop_version", [model, version])
    print(f"dropped {model}@{version}")


@app.command()
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


@app.command()
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
    batch: Annotated[int, typer.Option(min=1, help="Rows in one transaction.")] = 256,
    dsn: Dsn = None,
) -> None:
    """Fill a column with the vectors of another's texts.

    Run it again to go on, and to encode rows that are missing or stale.
    """
    from pageformer import progress
    from pageformer.client import connect
    from pageformer.embed import embed
    from pageformer.embedded_column import known, request
    from pageformer.terminal import say

    if stale:
        with connect(dsn) as connection:
            wanted = known(connection, table, into, where, follow)
    else:
        wanted = [request(table, column, into, model, where, follow)]
    for one in wanted:
        with progress.show(f"embedding {one.table}.{one.into}", "texts") as tell:
            done = embed(dsn, one, workers=workers, batch=batch, progress=tell, warn=say)
        print(f"{one.table}.{one.into}: {done:,} texts encoded with {one.model}")


app.command()(serve)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to make it.")] = Path(),
) -> None:
    """Make a small Alembic project that keeps models."""
    from pageformer import project

    print(project.init(folder))


@app.command()
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


@app.command()
def demo(
    dsn: Annotated[
        str | None, typer.Option(metavar="DSN", help="Else the embedded cluster.")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what the demo made, and nothing else.")
    ] = False,
) -> None:
    """Search PostgreSQL's own descriptions by meaning."""
    from pageformer import demo

    if remove:
        demo.remove(dsn)
    else:
        demo.run(dsn)

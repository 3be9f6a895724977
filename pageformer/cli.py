"""The command line: which commands there are, and the boundary where errors become one line."""

import sys
from collections.abc import Callable
from itertools import chain

import typer

from pageformer.commands.cluster import doctor, down, dsn, psql, status, up
from pageformer.commands.columns import embed
from pageformer.commands.demo import demo
from pageformer.commands.models import deploy, drop, load, models, show, verify
from pageformer.commands.plan import plan
from pageformer.commands.profile import profile
from pageformer.commands.project import init, revision
from pageformer.commands.schema import extension, migrate, uninstall
from pageformer.commands.serve import serve
from pageformer.commands.sharing import diff, pack, report
from pageformer.commands.task import app as task
from pageformer.errors import PageformerError

app = typer.Typer(
    name="pageformer",
    help="Transformer encoders inside PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: tuple[tuple[Callable[..., None], ...], ...] = (
    (up, down, status, dsn, psql),
    (doctor, migrate, extension, uninstall),
    (load, models, show, deploy, drop, verify),
    (embed, plan, serve, profile),
    (pack, diff, report),
    (init, revision),
    (demo,),
)
AS_THEY_ARE = {"allow_extra_args": True, "ignore_unknown_options": True}  # psql's own arguments

for command in chain.from_iterable(COMMANDS):
    app.command(context_settings=AS_THEY_ARE if command is psql else None)(command)
app.add_typer(task, name="task")


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

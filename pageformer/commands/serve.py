"""`pageformer serve`: the serving process as the server's user, with what that user can import."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pageformer.commands.options import Dsn
from pageformer.errors import ServerUnready


def serve(
    dsn: Dsn = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="cpu, numpy or gpu; else what the owner set."),
    ] = None,
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="How batches are cut: cost, tokens, fixed or none.")
    ] = "cost",
    tokens: Annotated[int, typer.Option(min=1, help="The most tokens of a batch.")] = 128,
    budget: Annotated[
        float, typer.Option(min=0, help="Milliseconds a request may take: half may be waited.")
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Batches that are computed at once; else one for each core."),
    ] = None,
    versions: Annotated[int, typer.Option(min=1, help="Versions that are kept ready.")] = 8,
    cache_bytes: Annotated[int, typer.Option(min=0, help="For answers given before.")] = 0,
    metrics_port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Answer Prometheus on 127.0.0.1.")
    ] = None,
) -> None:
    """Compute for all connections in one process, until interrupted.

    Backends ask it where the owner's setting executor says so.
    """
    from pageformer.client import choose_dsn

    arguments = [f"--dsn={choose_dsn(dsn)}", f"--policy={policy}", f"--tokens={tokens}"]
    arguments += [f"--budget={budget}", f"--versions={versions}", f"--cache-bytes={cache_bytes}"]
    if workers is not None:
        arguments.append(f"--workers={workers}")
    if backend:
        arguments.append(f"--backend={backend}")
    if metrics_port is not None:
        arguments.append(f"--metrics-port={metrics_port}")
    if os.geteuid() == 0:
        become_server(arguments)
    from pageformer.serving.__main__ import main

    main(arguments)


def become_server(arguments: list[str]) -> NoReturn:
    """Go on as the server's user, importing from the folder that the embedded server imports from.

    That user may not be able to enter this checkout. Raises ServerUnready when root's own cluster
    has not been brought up as this checkout is now.
    """
    from pageformer.cluster import embedded
    from pageformer.installed_server import server_account

    site, account = embedded().site, server_account()
    if not site.exists():
        raise ServerUnready(
            f"the user who runs the server has no copy of Pageformer in {site}",
            hint="pageformer up; for another server, run this as that server's user",
        )
    python = str(Path(sys.executable).resolve())  # while the way there may be gone
    os.setgroups(account["extra_groups"])
    os.setgid(account["group"])
    os.setuid(account["user"])
    os.chdir("/")
    environment = {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": str(site),
    }
    os.execve(python, [python, "-m", "pageformer.serving", *arguments], environment)

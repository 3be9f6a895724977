"""`alembic` and `pageformer`, run in this process: a new one would add seconds of importing."""

import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from alembic.config import CommandLine, Config

from pageformer import cli


def run(folder: Path, program: str, *arguments: str) -> CompletedProcess[str]:
    """Run a program in a folder, as a shell would, and return what it said."""
    command = [program, *arguments]
    out, err = (TextIOWrapper(BytesIO(), "utf-8") for _ in range(2))
    code = 0
    with (
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", command),
    ):
        try:
            {"alembic": alembic, "pageformer": cli.main}[program]()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return CompletedProcess(command, code, written(out), written(err))


def written(output: TextIOWrapper) -> str:
    output.seek(0)
    return output.read()


def alembic() -> None:
    """Do what Alembic's main does, which writes to the output that it was imported with."""
    line = CommandLine()
    options = line.parser.parse_args(sys.argv[1:])
    line.run_cmd(Config("alembic.ini", stdout=sys.stdout, cmd_opts=options), options)

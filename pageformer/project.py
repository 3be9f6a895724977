"""A user's own Alembic project: made small, and given revisions that name models."""

from argparse import Namespace
from importlib.resources import files
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.autogenerate import render_python_code
from alembic.config import Config
from alembic.operations.ops import UpgradeOps
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError, rev_id

from pageformer.errors import DuplicateName, InvalidInput, UnknownName
from pageformer.loader import checkpoint as checkpoints
from pageformer.loader import manifest as manifests
from pageformer.loader.load import NUMBERED
from pageformer.migrations import declared, runs
from pageformer.migrations.declared import DeclaredModel, DeclaredVersion
from pageformer.migrations.operations import (
    DeployModel,
    InstallPageformer,
    LoadModel,
    ModelOperation,
)

FILES = {
    "alembic.ini": "alembic.ini",
    "env.py.template": "migrations/env.py",
    "script.py.mako": "migrations/script.py.mako",
    "pageformer.toml": declared.FILE,
}


def init(folder: Path) -> Path:
    """Make a project whose first revision installs Pageformer; return that revision's file.

    Raises DuplicateName when a file of it is there already: nothing is overwritten.
    """
    taken = [name for name in FILES.values() if (folder / name).exists()]
    if taken:
        raise DuplicateName(
            f"{folder} has {', '.join(taken)} already",
            hint='use that project: pageformer revision "…" --model NAME --load DIR',
        )
    (folder / "migrations" / "versions").mkdir(parents=True)
    for name, place in FILES.items():
        source = files("pageformer").joinpath("project_files", name)
        (folder / place).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    newest = runs.newest()
    return write(_config(folder), "install pageformer", [InstallPageformer(newest)])


def load_revision(
    folder: Path, message: str, model: str, source: str, label: str | None, head: str
) -> Path:
    """Write a revision that loads and deploys a version, declare it, and return the file.

    Nothing is loaded: the files are read for the hash of what they hold.
    """
    config = _config(folder)
    file = folder / declared.FILE
    if Path(source).exists() and not source.startswith((".", "/", "~")):
        source = f"./{source}"  # which cannot be taken for a name on the hub
    known = declared.read(file).get(model) if file.exists() else None
    version = _version(known, label, source)
    changes: list[ModelOperation] = [LoadModel(model, version.label, source, version.sha256)]
    if known is not None and known.deployed == known.versions[-1].label:
        changes.append(DeployModel(model, version.label, known.deployed))
    written = write(config, message, changes, head)
    file.touch()
    declared.append_version(file, model, version)
    return written


def compared_revision(folder: Path, message: str, dsn: str | None, head: str) -> Path:
    """Write a revision of what the database lacks of the project, as Alembic compares it."""
    config = _config(folder, dsn)
    try:
        script = command.revision(config, message, autogenerate=True, head=head)
    except CommandError as error:
        raise InvalidInput(str(error)) from error
    return _path(script)


def write(config: Config, message: str, changes: list[ModelOperation], head: str = "head") -> Path:
    """Write operations and their reverse as a revision."""
    upgrade = UpgradeOps(list(changes))
    try:
        script = ScriptDirectory.from_config(config).generate_revision(
            rev_id(),
            message,
            head=head,
            imports="",
            upgrades=render_python_code(upgrade),
            downgrades=render_python_code(upgrade.reverse()),
        )
    except CommandError as error:
        raise InvalidInput(str(error), hint="--head REVISION, or: alembic merge heads") from error
    return _path(script)


def _version(known: DeclaredModel | None, label: str | None, source: str) -> DeclaredVersion:
    """Name the content of a source, under a label that is free."""
    labels = [version.label for version in known.versions] if known else []
    if label in labels:
        raise DuplicateName(f"version {label} is declared already", hint="choose another label")
    checkpoint = checkpoints.read(source)
    manifest = manifests.build(checkpoint.config, checkpoint.tokenizer, checkpoint.weights)
    numbers = [int(match[1]) for name in labels if (match := NUMBERED.fullmatch(name))]
    return DeclaredVersion(
        label or f"v{max(numbers, default=0) + 1}",
        source,
        manifest.hash.hex(),
        checkpoint.config.hidden,
    )


def _config(folder: Path, dsn: str | None = None) -> Config:
    file = folder / "alembic.ini"
    if not file.exists():
        raise UnknownName(f"there is no {file}", hint="pageformer init")
    chosen = [f"dsn={dsn}"] if dsn is not None else []
    config = Config(str(file), stdout=StringIO(), cmd_opts=Namespace(quiet=True, x=chosen))
    return config


def _path(script: Script | list[Script | None] | None) -> Path:
    if not isinstance(script, Script):
        raise InvalidInput("Alembic wrote no single revision", hint="see alembic.ini")
    return Path(script.path)

"""Add a task from its files: find out what they are, read them, check them, write the rows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from psycopg import Connection

from pageformer.errors import InvalidTask
from pageformer.loader.families import expected_shapes
from pageformer.loader.tasks import adapters_library, pairs, peft, store
from pageformer.loader.tasks.base import Base
from pageformer.loader.tasks.edits import Task
from pageformer.loader.tasks.head import Wishes
from pageformer.loader.tasks.saved import Settings
from pageformer.loader.tasks.store import Added, Request
from pageformer.udfs.tasks.task import check
from pageformer.udfs.tasks.task_run import refuse_uncomputed

CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Source:
    """Say where a task's files are, and what they alone do not tell.

    kind: bitfit, diff or mask, of a fine-tuned checkpoint; None: a directory of an adapter. base:
    files of the version, where those that it was loaded from are gone.
    """

    path: str
    kind: str | None = None
    wishes: Wishes = field(default_factory=Wishes)
    base: str | None = None


def add(
    connection: Connection[Any],
    source: Source,
    *,
    model: str,
    name: str,
    label: str | None = None,
    deploy: bool = False,
) -> Added:
    """Add a task to the version that `model` ('minilm', 'minilm@v2') means.

    label: by default the next of v1, v2 ..., or the one that has this content already. The first
    version of a task is deployed. Raises InvalidTask naming the file, key or tensor that is not as
    it should be, UnknownName, DuplicateName, MissingGrant, ServerUnready.
    """
    with store.telling(connection):
        base = Base(connection, model, source.base)
    task = read(source, base)
    request = Request(base.id, name, label, deploy, source.path)
    added = store.write(connection, request, task.config.kind, task.config.to_json(), task.arrays)
    return replace(added, told=task.told)


def read(source: Source, base: Base) -> Task:
    """Read a task in normal form, and check it against its version."""
    if source.kind is not None:
        task = pairs.read(source.path, source.kind, base, source.wishes)
    else:
        directory = Path(source.path)
        task = _reader(directory)(directory, base, source.wishes)
    config = base.config._replace(head=task.config.head or base.config.head)
    shapes = {name: array.shape for name, array in task.arrays.items()}
    check(task.config, expected_shapes(config), shapes)
    refuse_uncomputed(config, shapes)
    return task


def _reader(directory: Path) -> Callable[[Path, Base, Wishes], Task]:
    if not (directory / CONFIG).exists():
        raise InvalidTask(
            f"{directory} has no {CONFIG}",
            hint="Name a directory that PEFT or adapters saved, or use --from-checkpoint.",
        )
    values = Settings.read(directory / CONFIG).values
    if "peft_type" in values:
        return peft.read
    if "config" in values:
        return adapters_library.read
    raise InvalidTask(
        f"{directory / CONFIG} has neither peft_type nor config",
        hint="Name a directory that PEFT or adapters saved.",
    )

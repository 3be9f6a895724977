"""What revisions do to tasks in a database: by hash, nothing twice, nothing half."""

from pageformer.client import fetch
from pageformer.errors import InvalidTask
from pageformer.migrations.models import QUERIES, Connection
from pageformer.migrations.operations import DropTask, LoadTask


def load_content(connection: Connection, wanted: LoadTask) -> None:
    """Add the task of a revision, unless the database has just that.

    Raises DuplicateName for a label that has other content, InvalidTask when the files have.
    """
    from pageformer.loader.tasks.add import Source, add

    stored = fetch(connection, QUERIES["task"], [wanted.model, wanted.name, wanted.version])
    if stored and stored[0]["hash"] == wanted.sha256:
        return
    with connection.transaction():
        added = add(
            connection,
            Source(wanted.source, wanted.kind),
            model=wanted.model,
            name=wanted.name,
            label=wanted.version,
        )
        if added.hash.hex() != wanted.sha256:
            raise InvalidTask(
                f"{wanted.source} has the content {added.hash.hex()[:12]}…, and the revision wants "
                f"{wanted.sha256[:12]}…",
                hint="Bring back the files that the revision was written for.",
            )


def pinned(task: LoadTask | DropTask) -> str:
    """Name one version of a task."""
    return f"{task.name}@{task.version}"


def arguments(task: LoadTask) -> str:
    """Write how the command line is told where a task's files are."""
    if task.kind is None:
        return task.source
    return f"--from-checkpoint {task.source} --kind {task.kind}"

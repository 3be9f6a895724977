"""From a task's name that a user typed to a task that is ready to run.

As for versions: a name is resolved by SQL on every call, under the statement's snapshot, and what
it leads to is kept by content hash. Whoever may use a model may use its tasks.
"""

from collections.abc import Sequence
from typing import Any

from pageformer.errors import UnknownName
from pageformer.udfs import spi
from pageformer.udfs.composed import ComposedEncoder
from pageformer.udfs.encoding import Encoder
from pageformer.udfs.executors import executor
from pageformer.udfs.executors.wire import NO_TASK
from pageformer.udfs.tasks import opening
from pageformer.udfs.tasks.opening import OpenTask
from pageformer.udfs.tasks.task_run import Task
from pageformer.udfs.tokenizer import Tokenizer
from pageformer.udfs.version import Version
from pageformer.udfs.versions import Resolved, shorten


def chosen(
    resolved: Resolved, version: Version, names: Sequence[str | None]
) -> list[OpenTask | None]:
    """Make the tasks of these names ready, once each; None stays None.

    Raises UnknownName, telling the tasks that there are, and NotBuilt where tasks do not run.
    """
    made = {name: ready(version, find(resolved, name)) for name in {*names} if name is not None}
    return [None if name is None else made[name] for name in names]


def find(resolved: Resolved, name: str) -> dict[str, Any]:
    """Find the task that `name` ('legal', 'legal@v1') means now; raise UnknownName."""
    found = spi.rows("resolve_task", resolved.id, *name.partition("@")[::2])
    if found:
        return found[0]
    there = spi.rows("task_names", resolved.id)
    own = [row for row in there if row["version_id"] == resolved.id]
    others = [row["version"] for row in there if row["name"] == name.partition("@")[0]]
    this = f"{resolved.model}@{resolved.label}"
    if others and not any(row["name"] == name.partition("@")[0] for row in own):
        raise UnknownName(
            f"task {shorten(name)} was made for {resolved.model}@{others[-1]}, not for {this}",
            hint=f"name that version, '{resolved.model}@{others[-1]}', or add the task to {this}",
        )
    listed = ", ".join(dict.fromkeys(row["name"] for row in own))
    if any(row["name"] == name.partition("@")[0] for row in own):
        listed = ", ".join(f"{row['name']}@{row['label']}" for row in own)
    hint = f"its tasks: {listed}" if own else "it has no task yet: pageformer task add"
    raise UnknownName(f"{this} has no task {shorten(name)}", hint=hint)


def ready(version: Version, row: dict[str, Any]) -> OpenTask:
    """Return a task, opened once per connection and kept by content hash."""
    found = opening.held(version, row["hash"])
    if found is None:
        made = spi.as_owner(lambda: opening.opened(spi.rows, version, row["id"]))
        found = opening.keep(version, made)
    return found


def runner(
    resolved: Resolved, version: Version, names: Sequence[str | None]
) -> tuple[Encoder, Tokenizer]:
    """Return what encodes sequences with the tasks of these names, and what makes their tokens.

    All is computed in float32, whatever is set: tasks have no other form.
    """
    found = chosen(resolved, version, names)
    made = [one and one.task for one in found]
    hashes = [NO_TASK if one is None else one.hash for one in found]
    here = ComposedEncoder(version.model, made)
    return executor.encoder(resolved, lambda: here, hashes), tokenizer(version, made)


def tasks_of(
    resolved: Resolved, version: Version, names: Sequence[str | None]
) -> list[Task | None]:
    """Make the tasks of these names ready, as `chosen` does, to be computed in this backend."""
    return [one and one.task for one in chosen(resolved, version, names)]


def tokenizer(version: Version, tasks: Sequence[Task | None]) -> Tokenizer:
    """Return the tokenizer, which leaves room for the positions that tasks take."""
    config = version.config
    first = 0 if config.padding_id is None else config.padding_id + 1
    taken = max((task.positions for task in tasks if task is not None), default=0)
    return version.tokenizer.within(min(config.max_length, config.positions - first - taken))

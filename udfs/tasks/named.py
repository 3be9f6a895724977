"""From a task's name that a user typed to a task that is ready to run.

As for versions: a name is resolved by SQL on every call, under the statement's snapshot, and what
it leads to is kept by content hash. Whoever may use a model may use its tasks.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from pageformer.errors import DamagedPage, NotBuilt, UnknownName
from pageformer.udfs import spi
from pageformer.udfs.composed import ComposedEncoder
from pageformer.udfs.encoding import Encoder
from pageformer.udfs.page_cache.page_file import Page
from pageformer.udfs.tasks import task_run
from pageformer.udfs.tasks.task import TaskConfig
from pageformer.udfs.tasks.task_array import TaskArray
from pageformer.udfs.tasks.task_run import Task
from pageformer.udfs.tokenizer import Tokenizer
from pageformer.udfs.version import Rows, Version
from pageformer.udfs.versions import Resolved, shorten

KEPT = 256  # tasks of a version that a connection keeps ready
FORM = "task"  # of a page of a task's arrays in the page cache


class OpenTask(NamedTuple):
    """Hold a task and the mapped pages that its arrays lie in."""

    task: Task
    pages: list[Page]
    views: list[memoryview]


def chosen(resolved: Resolved, version: Version, names: Sequence[str | None]) -> list[Task | None]:
    """Make the tasks of these names ready, once each; None stays None.

    Raises UnknownName, telling the tasks that there are, and NotBuilt where tasks do not run.
    """
    if version.compute in ("bfloat16", "int8"):
        raise NotBuilt(
            "tasks are computed in float32 alone",
            hint="run: select pageformer.set_compute(model, 'auto')",
        )
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


def ready(version: Version, row: dict[str, Any]) -> Task:
    """Return a task, opened once per connection and kept by content hash."""
    kept: OrderedDict[bytes, OpenTask] = version.tasks
    there = kept.get(row["hash"])
    if there and not version.cache.still_sound(there.pages, there.views):
        version.cache.close(kept.pop(row["hash"]).pages)
    if row["hash"] not in kept:
        kept[row["hash"]] = spi.as_owner(lambda: opened(spi.rows, version, row["id"]))
        while len(kept) > KEPT:
            version.cache.close(kept.popitem(last=False)[1].pages)
    kept.move_to_end(row["hash"])
    return kept[row["hash"]].task


def opened(rows: Rows, version: Version, id: int) -> OpenTask:
    """Map a task's arrays and make it ready to run."""
    [row] = rows("task", id)
    parts = rows("task_arrays", id)
    pages = {part["page_hash"]: (part["page_hash"], FORM) for part in parts}
    views = {hash: open_page(rows, version, page) for hash, page in pages.items()}
    arrays = {part["name"]: array_of(part, views[part["page_hash"]]) for part in parts}
    task = task_run.read(version.model, TaskConfig.from_json(row["config"]), arrays)
    kind = f"task{row['hash'].hex()[:16]}"
    version.cache.belong(version.hash, kind, list(pages.values()))
    return OpenTask(task, list(pages.values()), list(views.values()))


def open_page(rows: Rows, version: Version, page: Page) -> memoryview:
    """Map a page of arrays where all connections find it."""
    return version.cache.open_made(page, partial(read_page, rows, page[0]))


def array_of(part: dict[str, Any], page: memoryview) -> TaskArray:
    """View an array on its page."""
    data = page.cast("B")[part["place"] : part["place"] + part["bytes"]]
    return TaskArray(part["format"], tuple(part["shape"]), data)


def read_page(rows: Rows, page: bytes) -> bytes:
    """Read a page of arrays from its table, filled up to whole floats."""
    found = rows("task_page", page)
    if not found or hashlib.sha256(found[0]["data"]).digest() != page:
        raise DamagedPage(
            f"page {page.hex()} of tasks is {'damaged in' if found else 'missing from'} its table",
            hint="restore table pageformer.task_page from a backup, or drop the task and add it "
            "again",
        )
    data: bytes = found[0]["data"]
    return data + bytes(-len(data) % 4)


def runner(
    resolved: Resolved, version: Version, names: Sequence[str | None]
) -> tuple[Encoder, Tokenizer]:
    """Return what encodes sequences with the tasks of these names, and what makes their tokens.

    Tasks are computed in this backend, whatever the setting `executor` says.
    """
    made = chosen(resolved, version, names)
    return ComposedEncoder(version.model, made), tokenizer(version, made)


def tokenizer(version: Version, tasks: Sequence[Task | None]) -> Tokenizer:
    """Return the tokenizer, which leaves room for the positions that tasks take."""
    config = version.config
    first = 0 if config.padding_id is None else config.padding_id + 1
    taken = max((task.positions for task in tasks if task is not None), default=0)
    return version.tokenizer.within(min(config.max_length, config.positions - first - taken))

"""Tasks that are ready to run on a version, in a backend or in any other process.

As for versions, nothing here knows how rows are fetched.
"""

import hashlib
from functools import partial
from typing import Any, NamedTuple

from pageformer.errors import DamagedPage
from pageformer.udfs.page_cache.page_file import Page
from pageformer.udfs.tasks import task_run
from pageformer.udfs.tasks.task import TaskConfig
from pageformer.udfs.tasks.task_array import TaskArray
from pageformer.udfs.tasks.task_run import Task
from pageformer.udfs.version import Rows, Version

KEPT = 256  # tasks of a version that are kept ready
FORM = "task"  # of a page of a task's arrays in the page cache


class OpenTask(NamedTuple):
    """Hold a task, the hash of its content, and the mapped pages that its arrays lie in."""

    hash: bytes
    task: Task
    pages: list[Page]
    views: list[memoryview]


def held(version: Version, hash: bytes) -> OpenTask | None:
    """Return a task that is kept ready, unless its pages are no longer what they were."""
    there: OpenTask | None = version.tasks.get(hash)
    if there is None:
        return None
    if version.cache.still_sound(there.pages, there.views):
        version.tasks.move_to_end(hash)
        return there
    version.cache.close(version.tasks.pop(hash).pages)
    return None


def keep(version: Version, task: OpenTask) -> OpenTask:
    """Keep a task ready, by content hash, until others need the room."""
    version.tasks[task.hash] = task
    while len(version.tasks) > KEPT:
        version.cache.close(version.tasks.popitem(last=False)[1].pages)
    return task


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
    return OpenTask(row["hash"], task, list(pages.values()), list(views.values()))


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

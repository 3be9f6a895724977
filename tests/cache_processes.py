"""What tests of the page cache share: a table of pages, connections to one cache, processes."""

import hashlib
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pageformer.udfs.page_cache.cache import PageCache
from pageformer.udfs.page_cache.page_file import Page, file_name

PAGE_BYTES = 1 << 20
processes = multiprocessing.get_context("fork")


class Table:
    """Hold pages as the table does, and count how often each is read."""

    def __init__(self) -> None:
        self.pages: dict[bytes, bytes] = {}
        self.reads = 0

    def add(self, seed: int, form: str = "f32", size: int = PAGE_BYTES) -> Page:
        data = np.random.default_rng(seed).standard_normal(size // 4).astype("<f4").tobytes()
        return self.add_bytes(data, form)

    def add_bytes(self, data: bytes, form: str = "f32") -> Page:
        digest = hashlib.sha256(data).digest()
        self.pages[digest] = data
        return digest, form

    def read(self, digest: bytes) -> bytes:
        self.reads += 1
        return self.pages[digest]


class Connection:
    """Hold one cache as one connection has it; `told` keeps its warnings."""

    def __init__(
        self,
        parent: Path,
        table: Table,
        pulse: Callable[[], None] = lambda: None,
        **limits: Any,
    ) -> None:
        self.told: list[str] = []
        self.cache = PageCache(
            str(parent), "/var/lib/data", table.read, pulse, self.told.append, **limits
        )
        self.folder = Path(self.cache.folder.path)
        self.open = self.cache.open

    def file(self, page: Page) -> Path:
        return self.folder / file_name(page)


@pytest.fixture
def parent() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pageformer-test-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def connection(parent: Path, table: Table) -> Connection:
    return Connection(parent, table)


def in_processes(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in processes that are alive together, and return what each returned."""
    pipes = [processes.Pipe(duplex=False) for _ in range(count)]
    started = [
        processes.Process(target=lambda i=i, pipe=pipe: pipe.send(work(i)))
        for i, (_, pipe) in enumerate(pipes)
    ]
    for process, (_, sender) in zip(started, pipes, strict=True):
        process.start()
        sender.close()
    results = [receiver.recv() for receiver, _ in pipes]
    for process, (receiver, _) in zip(started, pipes, strict=True):
        process.join()
        receiver.close()
    return results


def page_bytes(connection: Connection) -> int:
    """Count the bytes of everything in the folder but its own records."""
    records = ("usage", "locks", "version")
    found = dict(connection.cache.folder.files())
    return sum(file.st_size for name, file in found.items() if name.split(".")[0] not in records)

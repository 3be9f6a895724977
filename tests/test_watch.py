"""The kernel tells of changes in the page cache's folder, so that files need not be looked at."""

import os
from pathlib import Path

import pytest
from backends_present import reason_missing

if missing := reason_missing("cpu"):
    pytest.skip(missing, allow_module_level=True)

from pageformer.cpu_backend import _kernels as kernels
from pageformer.udfs.page_cache.watch import Watch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "page").write_bytes(b"page")
    return tmp_path / "pages"


@pytest.fixture
def watch(folder: Path) -> Watch:
    watch = Watch(kernels.watch)
    watch.begin(str(folder))
    return watch


def test_a_folder_at_rest_keeps_its_number(watch: Watch, folder: Path) -> None:
    before = watch.count()
    assert before is not None
    (folder / "page").read_bytes()
    assert watch.count() == before


@pytest.mark.parametrize("change", ["write", "stamp", "remove", "move", "move the folder"])
def test_every_change_makes_another_number(watch: Watch, folder: Path, change: str) -> None:
    before, page = watch.count(), folder / "page"
    {
        "write": lambda: page.write_bytes(b"more"),
        "stamp": lambda: os.utime(page, ns=(1, 1)),
        "remove": page.unlink,
        "move": lambda: page.rename(folder / "aside"),
        "move the folder": lambda: folder.rename(folder.with_name("elsewhere")),
    }[change]()
    after = watch.count()
    assert after not in (None, before)
    assert watch.count() == after


def test_a_child_of_the_watching_process_knows_nothing(watch: Watch) -> None:
    child = os.fork()
    if not child:
        os._exit(watch.count() is not None)
    assert os.waitpid(child, 0)[1] == 0
    assert watch.count() is not None


def test_where_nobody_tells_nothing_is_known(watch: Watch, folder: Path) -> None:
    watch.end()
    assert watch.count() is None
    for start in (None, lambda path: kernels.watch(path + "/missing")):
        blind = Watch(start)
        blind.begin(str(folder))
        assert blind.count() is None

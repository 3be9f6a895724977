"""What the server imports: a folder of copies beside the cluster, never a link into a checkout.

The server runs as another user, who may not enter a private home, and keeps running while a
checkout changes. The folder is named by the hash of what it holds, so a change makes a new one.
"""

import compileall
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

from pageformer.errors import ServerUnready

DISTRIBUTIONS = ("numpy", "orjson", "psycopg", "sentencex", "tokenizers")
EXTRAS = {  # module -> distribution, copied where they are installed
    "PIL": "pillow",
    "prometheus_client": "prometheus_client",
    "psycopg_binary": "psycopg-binary",
    "typing_extensions": "typing_extensions",
}
ROOMS = (
    "pageformer.udfs",
    "pageformer.cpu_backend",
    "pageformer.gpu_backend",
    "pageformer.serving",
)
MODULES = ("pageformer", "pageformer.errors")
UNUSED = (".pyi", ".h", ".a", ".c", ".pxd", ".pyx")  # what compilers and type checkers read
LINKED_PYTHON = re.compile(rb"libpython(\d+)\.(\d+)")

Source = tuple[Path, Path]  # where it goes inside the folder, where it stands now


def refresh(parent: Path, bin_folder: Path) -> Path:
    """Make the folder for the sources as they are now, unless it is there, and return it.

    Raises ServerUnready when the server lacks plpython3u or links another Python than this one.
    """
    check_version(bin_folder)
    folder = parent / fingerprint()
    if not folder.exists():
        parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _build(parent, folder)
    return folder


def publish(parent: Path, bin_folder: Path) -> Path:
    """Make the folder under a name that stays, for a server that is not ours to restart."""
    folder = refresh(parent, bin_folder)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".new-") as scratch:
        link = Path(scratch) / "current"
        link.symlink_to(folder.name)
        link.rename(parent / "current")
    return parent / "current"


def remove_others(folder: Path) -> None:
    """Remove the folders of earlier sources, once no server imports from them."""
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other)


@cache
def fingerprint() -> str:
    """Name the state of the sources: this project's bytes, the records of what was installed."""
    digest = hashlib.sha256(sys.version.encode())
    for name in _distributions():
        digest.update((distribution(name).read_text("RECORD") or "").encode())
    for target, source in _project_files():
        digest.update(f"{target}\0".encode() + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:16]


def check_version(bin_folder: Path) -> None:
    """Raise ServerUnready unless plpython3u is there and links the Python that runs this."""
    linked, ours = linked_version(bin_folder), sys.version_info[:2]
    if linked != ours:
        raise ServerUnready(
            f"plpython3u in {bin_folder.parent} runs Python {_dotted(linked)},"
            f" this command Python {_dotted(ours)}",
            hint="run Pageformer from an environment made by the system's Python: ./setup.sh",
        )


def linked_version(bin_folder: Path) -> tuple[int, int]:
    """Read from plpython3u's library which Python it links."""
    library = _library_folder(bin_folder) / "plpython3.so"
    if not library.exists():
        raise ServerUnready(
            f"PostgreSQL in {bin_folder.parent} has no plpython3u",
            hint=f"apt-get install postgresql-plpython3-{bin_folder.parent.name}",
        )
    found = LINKED_PYTHON.search(library.read_bytes())
    if found is None:
        raise ServerUnready(f"{library} does not say which Python it links")
    return int(found[1]), int(found[2])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _library_folder(bin_folder: Path) -> Path:
    beside = bin_folder.parent / "lib"
    if (beside / "plpgsql.so").exists():
        return beside
    answer = subprocess.run(
        [bin_folder / "pg_config", "--pkglibdir"], capture_output=True, text=True, check=True
    )
    return Path(answer.stdout.strip())


def _build(parent: Path, folder: Path) -> None:
    """Copy everything into a folder of another name first: a half-made one is never used."""
    with tempfile.TemporaryDirectory(dir=parent, prefix=".new-") as scratch:
        site = Path(scratch) / "site"
        for target, source in (*_installed_files(), *_project_files()):
            (site / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, site / target)
        compileall.compile_dir(site / "pageformer", quiet=2)
        _make_readable(site)
        site.rename(folder)


def _make_readable(folder: Path) -> None:
    """Let every user read the folder, and only its owner write, whatever the umask was."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _distributions() -> list[str]:
    """Name what the server's Python needs, and of the extras those that are there."""
    return [*DISTRIBUTIONS, *(name for module, name in EXTRAS.items() if find_spec(module))]


def _installed_files() -> Iterator[Source]:
    for name in _distributions():
        found = distribution(name)
        for file in found.files or ():
            unused = file.suffix in UNUSED or "tests" in file.parts
            if not unused and ".." not in file.parts:
                yield Path(file), Path(str(found.locate_file(file)))


def _project_files() -> Iterator[Source]:
    for name in MODULES:
        source = _origin(name)
        yield Path("pageformer") / source.name, source
    for name in ROOMS:
        room = _origin(name).parent
        for source in sorted(room.rglob("*")):
            if source.suffix in (".py", ".sql", ".so", ".cu", ".cuh"):
                yield Path(*name.split(".")) / source.relative_to(room), source


def _origin(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerUnready(f"{name} is not installed", hint="run ./setup.sh again")
    return Path(spec.origin)

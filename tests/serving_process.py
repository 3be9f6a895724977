"""Serving processes for tests, run as the server's user from what that user can import."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from pageformer.cluster import Cluster
from pageformer.installed_server import server_account


class Serving:
    """A running process, and what it said so far."""

    def __init__(self, cluster: Cluster, dsn: str, *options: str) -> None:
        python = str(Path(sys.executable).resolve())
        self.process = subprocess.Popen(
            [python, "-m", "pageformer.serving", f"--dsn={dsn}", *options],
            env={"PATH": os.defpath, "PYTHONPATH": str(cluster.site), "PYTHONNOUSERSITE": "1"},
            cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            **server_account(),
        )  # fmt: skip
        self.metrics = ""
        self.said = self.line()
        if self.said.startswith("metrics: "):
            self.metrics, self.said = self.said.removeprefix("metrics: "), self.line()

    def line(self) -> str:
        """Return the next line that it says; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def stop(self) -> int:
        """Tell it to end and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode

    def kill(self) -> None:
        """Kill it, as the kernel does when memory is short."""
        self.process.kill()
        self.process.communicate(timeout=60)


@contextmanager
def serving(cluster: Cluster, dsn: str, *options: str) -> Iterator[Serving]:
    """Run a process for the time of a with block."""
    running = Serving(cluster, dsn, *options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()
        assert running.process.stdout is not None
        running.process.stdout.close()


def set_executor(dsn: str, value: str) -> None:
    """Let the owner choose who computes."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "update pageformer.setting set value = %s where name = 'executor'", [value]
        )

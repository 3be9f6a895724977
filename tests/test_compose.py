"""The container's files: a thin face over setup.sh, open to this machine and by password."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pageformer.cluster import HOST_BASED_AUTHENTICATION, Cluster
from pageformer.embedded import bring_up

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert list(compose["services"]) == ["pageformer"]
    found: dict[str, Any] = compose["services"]["pageformer"]
    return found


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line[0] != "#"]


def test_the_port_is_published_on_this_machine_alone(service: dict[str, Any]) -> None:
    assert service["ports"] == ["127.0.0.1:${PAGEFORMER_PORT:-5432}:5432"]


def test_shared_memory_holds_a_model(service: dict[str, Any]) -> None:
    assert service["shm_size"] == "1gb"


def test_a_password_is_required(service: dict[str, Any]) -> None:
    assert service["environment"]["PAGEFORMER_PASSWORD"].startswith("${PAGEFORMER_PASSWORD:?")


def test_the_network_is_asked_for_the_password() -> None:
    rules = [line.split() for line in HOST_BASED_AUTHENTICATION.splitlines()]
    assert [rule[-1] for rule in rules if rule[0] != "local"] == ["scram-sha-256"]


def test_the_image_is_made_by_the_setup_script(instructions: list[tuple[str, str]]) -> None:
    assert instructions[0][0] == "FROM"
    assert len(instructions) <= 10
    [run] = [arguments for name, arguments in instructions if name == "RUN"]
    assert re.search(r"(^|&& )\./setup\.sh( &&|$)", run)


def test_the_image_runs_the_command_line(
    instructions: list[tuple[str, str]], service: dict[str, Any]
) -> None:
    [command] = [arguments for name, arguments in instructions if name == "CMD"]
    assert json.loads(command) == ["pageformer", "up", "--foreground", "--listen", "*"]
    [volume] = [arguments for name, arguments in instructions if name == "VOLUME"]
    assert service["volumes"] == [f"data:{volume}"]


def test_a_server_that_listens_asks_the_network_for_its_password(
    own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setattr("pageformer.cluster.PORT", free_port)
    monkeypatch.setenv("PAGEFORMER_PASSWORD", "correct horse")
    bring_up(own_cluster, lambda step: None, listen="127.0.0.1")
    network = f"host=127.0.0.1 port={free_port} user=postgres dbname=pageformer"
    with psycopg.connect(network, password="correct horse") as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(network, password="wrong")


@pytest.fixture
def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

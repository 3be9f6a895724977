"""The embedded cluster, its site folder, and what is left when its makers die."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest

from pageformer import server_python
from pageformer.cluster import LONGEST_SOCKET_PATH, Cluster, embedded, private_folder
from pageformer.embedded import bring_up
from pageformer.errors import ServerUnready

TESTS = Path(__file__).parent


def postmaster(cluster: Cluster) -> int:
    return int((cluster.data_directory / "postmaster.pid").read_text().split()[0])


def running_commands() -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError, FileNotFoundError):
            yield (folder / "cmdline").read_text()


def test_the_server_listens_on_its_socket_only(cluster: Cluster) -> None:
    with psycopg.connect(cluster.dsn) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("",)
    assert cluster.socket_folder.stat().st_mode & 0o777 == 0o700


def test_root_runs_the_server_as_postgres(cluster: Cluster) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may run a server as another user")
    assert cluster.data_directory.owner() == "postgres"


def test_starting_twice_starts_one_server(cluster: Cluster) -> None:
    before = postmaster(cluster)
    assert cluster.start(cluster.site) is False
    assert postmaster(cluster) == before


def test_the_server_imports_from_the_site_folder_alone(cluster: Cluster, database: str) -> None:
    body = dedent("""
        do $python$
        import numpy, orjson, tokenizers, pageformer.udfs
        modules = numpy, orjson, tokenizers, pageformer, pageformer.udfs
        plpy.error('|'.join(module.__file__ for module in modules))
        $python$ language plpython3u
    """)
    with psycopg.connect(database) as connection, pytest.raises(psycopg.Error) as told:
        connection.execute(body)
    files = (told.value.diag.message_primary or "").removeprefix("plpy.Error: ").split("|")
    assert len(files) == 5
    assert all(file.startswith(f"{cluster.site}/") for file in files)


def test_the_site_folder_is_built_once(cluster: Cluster) -> None:
    before = cluster.site.stat().st_ino
    assert server_python.refresh(cluster.site.parent, cluster.bin) == cluster.site
    assert cluster.site.stat().st_ino == before
    assert [*cluster.site.parent.iterdir()] == [cluster.site]


def test_every_user_may_read_the_site_folder_and_none_may_write(cluster: Cluster) -> None:
    for path in cluster.site.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_no_version_of_python_but_the_servers_is_accepted(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(ServerUnready, match=r"this command Python 3\.9") as told:
        server_python.check_version(cluster.bin)
    assert "./setup.sh" in told.value.hint


def test_a_server_without_plpython_is_told_with_the_package(tmp_path: Path) -> None:
    library = tmp_path / "15" / "lib"
    library.mkdir(parents=True)
    (library / "plpgsql.so").touch()
    with pytest.raises(ServerUnready, match="has no plpython3u") as told:
        server_python.check_version(tmp_path / "15" / "bin")
    assert told.value.hint == "apt-get install postgresql-plpython3-15"


def test_a_long_home_gets_a_short_socket_path() -> None:
    home = Path("/") / "/".join(["folder"] * 20)
    socket = Cluster(home).socket_folder / ".s.PGSQL.5432"
    assert len(str(socket)) <= LONGEST_SOCKET_PATH
    assert Cluster(home / "other").socket_folder != Cluster(home).socket_folder


def test_a_socket_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "socket"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(ServerUnready, match="is not a private folder"):
        private_folder(folder)


def test_a_link_is_not_taken_for_a_socket_folder(tmp_path: Path) -> None:
    private_folder(tmp_path / "real")
    (tmp_path / "socket").symlink_to(tmp_path / "real")
    with pytest.raises(ServerUnready, match="is not a private folder"):
        private_folder(tmp_path / "socket")


def test_a_home_that_the_server_cannot_enter_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may run a server as another user")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServerUnready, match="cannot enter") as told:
        Cluster(closed / "home").initialise()
    assert "PAGEFORMER_HOME" in told.value.hint


def test_the_home_is_the_platforms_or_the_chosen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGEFORMER_HOME", "/srv/models")
    assert embedded().home == Path("/srv/models")
    monkeypatch.delenv("PAGEFORMER_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ada/data")
    assert embedded().home == Path("/home/ada/data/pageformer")


def test_bringing_up_again_does_nothing(own_cluster: Cluster) -> None:
    own_cluster.stop()
    cluster, steps = replace(own_cluster, settings=()), list[str]()
    bring_up(cluster, steps.append)
    assert steps == ["started the server", "installing the tables and functions"]
    before = postmaster(cluster)
    bring_up(cluster, steps.append)
    assert steps[2:] == []
    assert postmaster(cluster) == before


def test_new_sources_get_a_new_folder_and_a_restart(
    own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_up(own_cluster, lambda step: None)
    old, before = own_cluster.site, postmaster(own_cluster)
    monkeypatch.setattr(server_python, "fingerprint", lambda: "changed")
    bring_up(own_cluster, lambda step: None)
    assert own_cluster.site.name == "changed"
    assert not old.exists()
    assert postmaster(own_cluster) != before


def test_a_dropped_database_is_made_again_and_finds_encode_without_schema(
    own_cluster: Cluster,
) -> None:
    with psycopg.connect(own_cluster.dsn_of("postgres"), autocommit=True) as connection:
        connection.execute("drop database pageformer")
    bring_up(own_cluster, lambda step: None)
    with psycopg.connect(own_cluster.dsn) as connection:
        assert connection.execute("select count(*) from models").fetchone() == (0,)
        row = connection.execute(r"select encode('\xdead'::bytea, 'hex')").fetchone()
    assert row == ("dead",)


def test_a_killed_test_run_leaves_no_server_behind() -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(TESTS)!r})
from temporary_cluster import temporary_cluster
with temporary_cluster() as cluster:
    print(cluster.home, flush=True)
    time.sleep(600)
"""
    maker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with maker:
        assert maker.stdout is not None
        home = Path(maker.stdout.readline().strip())
        assert Cluster(home).running
        maker.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while remains := [command for command in running_commands() if str(home) in command]:
        assert time.monotonic() < deadline, remains
        time.sleep(0.05)
    assert not home.exists()

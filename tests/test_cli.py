"""The command line as a user types it: a process per command, its exit status, its two pipes."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pageformer.cluster import Cluster

Run = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = Path(sys.executable).parent / "pageformer"
ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run `pageformer` with arguments; its home is an empty folder unless another is given."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        home = str(tmp_path_factory.mktemp("home") / "pageformer")
        environment = {**os.environ, "PAGEFORMER_HOME": home, **variables}
        return subprocess.run(
            [PROGRAM, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
        )

    return run


def failed(done: subprocess.CompletedProcess[str], error: str, hint: str) -> bool:
    """Tell whether a command ended with just one line of error and one of hint."""
    lines = done.stderr.splitlines()
    assert done.returncode == 1, done.stderr
    assert len(lines) == 2, done.stderr
    assert re.search(error, lines[0].removeprefix("error: ")), lines[0]
    return re.search(hint, lines[1].removeprefix("hint: ")) is not None


def test_every_command_is_listed(run: Run) -> None:
    listed = re.findall(r"^  ([a-z]+)  ", run("--help").stdout, re.MULTILINE)
    assert listed == [
        "up", "down", "status", "dsn", "psql", "doctor", "migrate", "extension",
        "uninstall", "load", "models", "show", "deploy", "drop", "verify", "embed", "plan", "serve",
        "profile", "pack", "diff", "report", "init", "revision", "demo", "task",
    ]  # fmt: skip


def test_without_a_cluster_the_hint_is_up(run: Run) -> None:
    assert failed(run("models"), "there is no cluster in", "pageformer up")


def test_status_tells_that_there_is_no_cluster(run: Run) -> None:
    done = run("status")
    assert done.returncode == 3
    assert done.stdout.startswith("state  not made yet\n")


def test_a_given_connection_string_wins(run: Run, database: str) -> None:
    assert run("dsn", "--dsn", database, PGHOST="elsewhere").stdout == f"{database}\n"


def test_the_environment_of_libpq_comes_second(run: Run, cluster: Cluster, database: str) -> None:
    name = database.rsplit("/", 1)[1]
    socket = str(cluster.socket_folder)
    done = run("doctor", PGHOST=socket, PGUSER="postgres", PGDATABASE=name)
    assert f"answers as postgres in {name}" in done.stdout


def test_a_server_that_does_not_answer_is_one_line(run: Run, tmp_path: Path) -> None:
    done = run("models", "--dsn", f"host={tmp_path}")
    assert failed(done, "connection .*failed", "see that the server runs and that --dsn names it")


def test_up_down_and_up_again(run: Run, own_cluster: Cluster) -> None:
    home = {"PAGEFORMER_HOME": str(own_cluster.home)}
    first = run("up", **home)
    assert (first.returncode, first.stdout) == (0, f"{own_cluster.dsn}\n")
    again = run("up", **home)
    assert (again.stdout, again.stderr) == (f"{own_cluster.dsn}\n", "")
    assert run("status", **home).stdout.startswith("state  running\n")
    assert run("psql", "-XAtc", "select 1", **home).stdout == "1\n"
    assert run("down", **home).stdout == "stopped\n"
    assert run("status", **home).returncode == 3
    assert failed(run("models", **home), "connection", "pageformer up")
    assert run("down", **home).stdout == "it was not running\n"


def test_a_model_from_its_files_to_its_end(run: Run, database: str, minilm_dir: Path) -> None:
    on = ("--dsn", database)
    loaded = run("load", str(minilm_dir), "--name", "minilm", *on)
    assert loaded.stdout.startswith("minilm@v1 loaded: 22,")
    assert loaded.stderr == ""  # a bar is for terminals
    assert "nothing written" in run("load", str(minilm_dir), "--name", "minilm", *on).stdout
    assert re.search(r"^minilm  v1 +yes", run("models", *on).stdout, re.MULTILINE)
    assert re.search(r"^layers +6$", run("show", "minilm", *on).stdout, re.MULTILINE)
    assert run("deploy", "minilm", "v1", *on).stdout == "minilm is minilm@v1 now\n"
    assert re.fullmatch(r"minilm: \d+ pages are sound\n", run("verify", *on).stdout)
    assert run("drop", "minilm", "v1", *on).stdout == "dropped minilm@v1\n"
    assert run("models", *on).stdout.count("\n") == 1


def test_an_error_of_the_server_has_its_code(run: Run, database: str) -> None:
    done = run("deploy", "nothing", "v1", "--dsn", database)
    assert failed(done, r'"nothing".* \(42704\)$', ".")


def test_a_model_that_nobody_loaded_is_one_line(run: Run, database: str) -> None:
    done = run("show", "nothing", "--dsn", database)
    assert failed(done, 'there is no model "nothing"', "pageformer models")


def test_a_database_without_pageformer_is_told_to_migrate(
    run: Run, bare_database: str, minilm_dir: Path
) -> None:
    done = run("load", str(minilm_dir), "--name", "minilm", "--dsn", bare_database)
    assert failed(done, "no pageformer schema", "pageformer migrate")
    done = run("models", "--dsn", bare_database)
    assert failed(done, "Pageformer is not installed", "pageformer migrate")


def test_migrate_and_uninstall_leave_a_database_as_it_was(run: Run, bare_database: str) -> None:
    def objects() -> list[tuple[str]]:
        query = "select nspname from pg_namespace union all select extname from pg_extension"
        with psycopg.connect(bare_database) as connection:
            return sorted(connection.execute(query).fetchall())

    before = objects()
    assert run("migrate", "--dsn", bare_database).stdout == "installed\n"
    assert run("doctor", "--dsn", bare_database).returncode == 0
    assert run("uninstall", "--dsn", bare_database).stdout == "uninstalled\n"
    assert objects() == before


def test_migrate_prints_its_sql(run: Run) -> None:
    assert "create table pageformer.model" in run("migrate", "--sql").stdout


def test_the_site_folder_for_another_server_keeps_its_name(run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = run("migrate", "--site", str(tmp_path / "site"))
    current = tmp_path / "site" / "current"
    assert f"PYTHONPATH={current} " in done.stdout
    assert (current / "numpy" / "__init__.py").exists()
    assert run("migrate", "--site", str(tmp_path / "site")).stdout == done.stdout


def test_the_doctor_finds_nothing_to_mend(run: Run, own_cluster: Cluster) -> None:
    home = {"PAGEFORMER_HOME": str(own_cluster.home)}
    run("up", **home)
    done = run("doctor", **home)
    assert done.returncode == 0, done.stdout
    assert all(line.startswith("ok ") for line in done.stdout.splitlines())
    assert "imports everything that it needs" in done.stdout


def test_the_doctor_tells_the_fix_of_what_is_missing(run: Run, bare_database: str) -> None:
    done = run("doctor", "--dsn", bare_database)
    assert done.returncode == 1
    assert "FIX  schema: not installed  -> pageformer migrate\n" in done.stdout


def test_the_doctor_names_what_the_servers_python_cannot_import(
    run: Run, own_cluster: Cluster, tmp_path: Path
) -> None:
    own_cluster.stop()
    own_cluster.start(tmp_path)
    done = run("doctor", "--dsn", own_cluster.dsn)
    assert done.returncode == 1
    assert re.search(r"^FIX .* imports tokenizers: ModuleNotFoundError", done.stdout, re.MULTILINE)


def test_the_doctor_sees_a_server_that_is_behind_the_checkout(
    run: Run, own_cluster: Cluster
) -> None:
    home = {"PAGEFORMER_HOME": str(own_cluster.home)}
    done = run("doctor", **home)
    assert "FIX  sources: changed here since the last start  -> pageformer up\n" in done.stdout


def test_a_role_that_is_no_superuser_is_told_who_installs(run: Run, bare_database: str) -> None:
    with psycopg.connect(bare_database) as connection:
        connection.execute("create role guest login")
    try:
        guest = bare_database.replace("postgres@", "guest@")
        done = run("migrate", "--dsn", guest)
        assert failed(done, "needs a superuser", "untrusted")
        found = run("doctor", "--dsn", guest).stdout
        assert "FIX  role: guest is no superuser" in found
    finally:
        with psycopg.connect(bare_database) as connection:
            connection.execute("drop role guest")

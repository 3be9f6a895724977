"""The embedded cluster: a private PostgreSQL that listens on a Unix socket only.

Everything stands in one folder, the home: `data`, `socket`, `log`, and `site`, from which the
server imports. PostgreSQL refuses to run as root, so for root the server runs as `postgres`.
"""

import fcntl
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from platformdirs import user_data_path

from pageformer import server_python
from pageformer.errors import ServerUnready
from pageformer.installed_server import SERVER_ACCOUNT, bin_folder, server_account

PORT = 5432
LONGEST_SOCKET_PATH = 107  # bytes, sockaddr_un of Linux less its terminator

# Whoever can enter the socket folder (0700) is its owner or root; a password is for the network.
HOST_BASED_AUTHENTICATION = """\
local all all trust
local replication all trust
host all all all scram-sha-256
"""

# encode() declares what it costs, which by itself would make PostgreSQL compile every query.
SETTINGS = ("jit=off", "max_wal_size=4GB")


@dataclass(frozen=True)
class Cluster:
    """A cluster in the folder `home`, with `settings` (name=value) beside the usual ones."""

    home: Path
    settings: tuple[str, ...] = ()

    @property
    def data_directory(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.home / "log" / "server.log"

    @property
    def site(self) -> Path:
        """The folder that the server imports from, for the sources as they are now."""
        return self.home / "site" / server_python.fingerprint()

    @property
    def bin(self) -> Path:
        """The folder of the programs that fit the data, or of the newest server when there is none.

        Raises ServerUnready when there is no such server.
        """
        version = self.data_directory / "PG_VERSION"
        return bin_folder(int(version.read_text()) if self.exists else None)

    @property
    def socket_folder(self) -> Path:
        """The folder of the Unix socket: in the home, unless that path is too long for a socket."""
        inside = self.home / "socket"
        if len(os.fsencode(inside / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH:
            return inside
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path("/tmp") / f"pageformer-{name}"

    @property
    def exists(self) -> bool:
        """Whether the data directory has been made."""
        return (self.data_directory / "PG_VERSION").exists()

    @property
    def running(self) -> bool:
        """Whether a server runs on the data."""
        return self.exists and self._run("pg_ctl", "status", accept=(0, 3)) == 0

    @property
    def dsn(self) -> str:
        """The connection string of the database that Pageformer lives in."""
        return self.dsn_of("pageformer")

    def dsn_of(self, database: str) -> str:
        """Write the connection string of a database: a URI, which libpq and shells take alike."""
        host = quote(str(self.socket_folder), safe="")
        return f"postgresql://postgres@{host}:{PORT}/{quote(database)}"

    def initialise(self) -> None:
        """Make the folders, and the data directory unless it is there."""
        if self.exists:
            return
        self.home.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._check_enterable()
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        for folder in (fresh, self.log.parent):
            private_folder(folder)
        self._run(
            "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8",
            "--locale=C.UTF-8", "--data-checksums", "--no-instructions", data=fresh,
        )  # fmt: skip
        (fresh / "pg_hba.conf").write_text(HOST_BASED_AUTHENTICATION)
        fresh.rename(self.data_directory)

    def start(self, site: Path, listen: str = "") -> bool:
        """Start the server importing from `site`; restart one that was started otherwise.

        `listen` is a TCP address to listen on beside the socket. Says whether anything was done.
        """
        options = self._options(site, listen)
        if self.running:
            if self._started_with(options):
                return False
            self.stop()
        private_folder(self.socket_folder)
        self._run(
            "pg_ctl", "start", "--silent", "--wait", "--timeout=120", f"--log={self.log}",
            "--options", shlex.join(options), python_path=site,
        )  # fmt: skip
        return True

    def stop(self, mode: str = "fast") -> bool:
        """Stop the server and say whether there was one."""
        if not self.running:
            return False
        self._run("pg_ctl", "stop", "--silent", "--wait", f"--mode={mode}")
        return True

    def remove_page_cache(self) -> None:
        """Give back the shared memory that pages took; the next server fills it again."""
        data = os.fsencode(self.data_directory.resolve())
        name = f"pageformer-*-{hashlib.sha256(data).hexdigest()[:16]}"
        for folder in Path("/dev/shm").glob(name):
            shutil.rmtree(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other commands from preparing the same cluster at the same time."""
        self.home.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _options(self, site: Path, listen: str) -> list[str]:
        settings = (
            f"listen_addresses={listen}",
            f"port={PORT}",
            f'unix_socket_directories="{self.socket_folder}"',
            "unix_socket_permissions=0700",
            f"pageformer.site={site}",
            *SETTINGS,
            *self.settings,
        )
        return [part for setting in settings for part in ("-c", setting)]

    def _started_with(self, options: list[str]) -> bool:
        line = (self.data_directory / "postmaster.opts").read_text()
        return line.rstrip("\n").endswith(" ".join(f'"{option}"' for option in options))

    def _check_enterable(self) -> None:
        """Raise ServerUnready when the server's user cannot enter the home."""
        command = ["/usr/bin/test", "-x", str(self.home)]
        if subprocess.run(command, check=False, **server_account()).returncode:
            raise ServerUnready(
                f"the user {SERVER_ACCOUNT}, who runs the server, cannot enter {self.home}",
                hint="set PAGEFORMER_HOME to a folder that every user may enter",
            )

    def _run(
        self,
        program: str,
        *arguments: str,
        data: Path | None = None,
        accept: Sequence[int] = (0,),
        python_path: Path | None = None,
    ) -> int:
        command = [str(self.bin / program), f"--pgdata={data or self.data_directory}", *arguments]
        done = subprocess.run(
            command, check=False, cwd="/", env=_environment(python_path), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, **server_account(),
        )  # fmt: skip
        if done.returncode not in accept:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            raise ServerUnready(f"{program} failed: {said[-1]}", hint=f"look into {self.log}")
        return done.returncode


def embedded() -> Cluster:
    """Return the user's own cluster: $PAGEFORMER_HOME, else the platform's place for such data."""
    if chosen := os.environ.get("PAGEFORMER_HOME"):
        return Cluster(Path(chosen).absolute())
    if os.geteuid() == 0:
        return Cluster(Path("/var/lib/pageformer"))
    return Cluster(user_data_path("pageformer"))


def private_folder(folder: Path) -> None:
    """Make a folder that only the server's user may enter, or check that it is one."""
    account = server_account()
    owner = account.get("user", os.geteuid())
    try:
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, account.get("group", -1))
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
            raise ServerUnready(
                f"{folder} is not a private folder of user {owner}", hint="move it away"
            ) from None


def _environment(python_path: Path | None) -> dict[str, str]:
    """Give the server an environment of its own, whatever stands in the caller's."""
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONNOUSERSITE": "1"}
    if python_path:
        environment["PYTHONPATH"] = str(python_path)
    return environment

"""The PostgreSQL that is installed here: where its programs are, and who may run them."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from pwd import getpwnam
from typing import TypedDict

from pageformer.errors import ServerUnready

SERVER_ACCOUNT = "postgres"
SUPPORTED = range(15, 19)


class Account(TypedDict, total=False):
    """Who a server process runs as, in the words of subprocess.run."""

    user: int
    group: int
    extra_groups: Sequence[int]


def bin_folder(version: int | None = None) -> Path:
    """Find the server's programs: of that major version, else of the newest that is supported."""
    found = dict(_installed_servers())
    wanted = version or max(found, default=0)
    if wanted not in found:
        raise ServerUnready(
            f"there is no PostgreSQL {version or '15 to 18'} on this machine",
            hint=f"apt-get install postgresql{f'-{version}' if version else ''}, or run ./setup.sh",
        )
    return found[wanted]


def _installed_servers() -> Iterator[tuple[int, Path]]:
    """Yield major version and folder: where Debian puts servers, else what pg_config tells."""
    debian = Path("/usr/lib/postgresql")
    for version in SUPPORTED:
        if (debian / str(version) / "bin" / "postgres").exists():
            yield version, debian / str(version) / "bin"
    if debian.exists():
        return
    if program := shutil.which("pg_config"):
        said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        folder = re.search(r"^BINDIR = (.+)$", said, re.MULTILINE)
        number = re.search(r"^VERSION = PostgreSQL (\d+)", said, re.MULTILINE)
        if folder and number and (Path(folder[1]) / "postgres").exists():
            yield int(number[1]), Path(folder[1])


def server_account() -> Account:
    """Return who runs the server: `postgres` when root asks, else whoever asks."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = getpwnam(SERVER_ACCOUNT)
    except KeyError:
        raise ServerUnready(
            f"root may not run PostgreSQL, and there is no user {SERVER_ACCOUNT} to run it as",
            hint="install PostgreSQL's package, which makes that user: ./setup.sh",
        ) from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}


def extension_folder(bin_folder: Path) -> Path:
    """Return the folder where a server finds control files and scripts of extensions."""
    command = [str(bin_folder / "pg_config"), "--sharedir"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(answer.stdout.strip()) / "extension"

"""Record what the real libraries compute: `python tests/reference/record.py`.

Builds an environment of its own in a temporary folder, so that neither the server nor the tests
ever need PyTorch, and rewrites `tests/reference/recorded/`. The same libraries on the same machine
write the same bytes. `--python` names an environment that has `requirements.txt` already.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build_environment(folder: Path) -> Path:
    """Install `requirements.txt` into a new environment and return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True
    )
    return python


def record(python: Path, names: Sequence[str]) -> None:
    """Run `libraries.py` for some models or all, without a network.

    On one thread, so that sums have one order.
    """
    quiet = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(HERE.parent),
    }
    subprocess.run([python, HERE / "libraries.py", *names], check=True, env={**os.environ, **quiet})


def main() -> None:
    """Record everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, help="an interpreter that has the libraries")
    parser.add_argument("names", nargs="*", help="models to record; all of them by default")
    given = parser.parse_args()
    if given.python:
        record(given.python, given.names)
        return
    with tempfile.TemporaryDirectory() as folder:
        record(build_environment(Path(folder) / "environment"), given.names)


if __name__ == "__main__":
    sys.exit(main())

"""Record what PEFT and adapters compute with tasks: `python tests/reference/record_tasks.py`.

Each library has an environment of its own, since adapters pins an older transformers. Writes
`tests/reference/tasks/<library>/<base>/<task>/`: the directory as the library saved it, and in
`expected.npz` the states and logits that its own forward pass gives.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARIES = ("peft", "adapters")


def build_environment(folder: Path, library: str) -> Path:
    """Install a library's requirements into a new environment and return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    wanted = HERE / f"requirements_{library}.txt"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
    return python


def record(python: Path, library: str) -> None:
    """Run a library's script on one thread, without a network."""
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parent)}
    script = HERE / f"{library}_tasks.py"
    subprocess.run([python, "-W", "ignore", script], check=True, env={**os.environ, **quiet})


def main() -> None:
    """Record everything, or one library's with an interpreter that has it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, help="an interpreter that has the library")
    parser.add_argument("library", nargs="?", choices=LIBRARIES)
    given = parser.parse_args()
    for library in [given.library] if given.library else LIBRARIES:
        if given.python:
            record(given.python, library)
            continue
        with tempfile.TemporaryDirectory() as folder:
            record(build_environment(Path(folder) / "environment", library), library)


if __name__ == "__main__":
    sys.exit(main())

"""sentence-transformers as a process of its own: its libraries stay out of our environment.

Run by `Peer` with the interpreter of build/bench. Reads commands, one JSON object a line; encodes
and answers with the seconds it took.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).parents[1] / "build" / "bench" / "bin" / "python"


class Peer:
    """Drive the peer from our side."""

    def __init__(self, model: Path, script: str = __file__, *arguments: str) -> None:
        command = [str(PYTHON), script, str(model), *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = self._ask({})

    def encode(self, texts: list[str], batch: int = 32) -> float:
        """Encode texts and return the seconds it took."""
        return float(self._ask({"texts": texts, "batch": batch}))

    def vectors(self, texts: list[str]) -> list[list[float]]:
        """Encode texts and return their vectors."""
        found: list[list[float]] = self._ask({"texts": texts, "batch": 32, "vectors": True})
        return found

    def times(self, count: int) -> list[float]:
        """Make single calls, and return the seconds of each."""
        found: list[float] = self._ask({"count": count})
        return found

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def _ask(self, command: dict[str, Any]) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the peer has no pipes")
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def main(model_directory: str) -> None:
    """Answer commands until the input ends."""
    import sentence_transformers
    import torch

    model = sentence_transformers.SentenceTransformer(model_directory, device="cpu")
    versions = f"sentence-transformers {sentence_transformers.__version__}, "
    versions += f"PyTorch {torch.__version__.partition('+')[0]}, {torch.get_num_threads()} threads"
    for line in sys.stdin:
        command = json.loads(line)
        if not command:
            print(json.dumps(versions), flush=True)
            continue
        begin = time.perf_counter()
        model.encode(command["texts"], batch_size=command["batch"], show_progress_bar=False)
        print(json.dumps(time.perf_counter() - begin), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

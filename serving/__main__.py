"""Run the serving process: `python -m pageformer.serving --dsn …`, as `pageformer serve` does."""

import argparse
import asyncio
import sys

from pageformer.errors import PageformerError
from pageformer.serving.metrics import publish
from pageformer.serving.process import Process, Settings
from pageformer.serving.schedule import POLICIES
from pageformer.serving.waiting import TOKENS, Trigger


def parser() -> argparse.ArgumentParser:
    """Return the options, which are those of `pageformer serve`."""
    options = argparse.ArgumentParser(prog="pageformer serve")
    options.add_argument("--dsn", default="")
    options.add_argument("--backend")
    options.add_argument("--policy", default="cost", choices=POLICIES)
    options.add_argument("--tokens", type=int, default=TOKENS)
    options.add_argument("--budget", type=float, default=0.0)
    options.add_argument("--workers", type=int)
    options.add_argument("--versions", type=int, default=8)
    options.add_argument("--cache-bytes", type=int, default=0)
    options.add_argument("--metrics-port", type=int)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to end; a failure is told in one line."""
    chosen = parser().parse_args(arguments)
    settings = Settings(
        chosen.dsn,
        chosen.backend,
        Trigger(chosen.policy, chosen.tokens, chosen.budget / 1e3),
        chosen.workers,
        chosen.versions,
        chosen.cache_bytes,
    )
    try:
        serve(settings, chosen.metrics_port)
    except PageformerError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        sys.exit(f"error: {error.message}{hint}")


def serve(settings: Settings, metrics_port: int | None) -> None:
    """Run the process in the foreground, telling its state in single lines."""
    process = Process(settings, tell)
    if metrics_port is not None:
        tell(f"metrics: {publish(process, metrics_port)}")
    asyncio.run(process.run(lambda: tell(process.status)))


def tell(text: str) -> None:
    """Write a line of status."""
    print(text, flush=True)


if __name__ == "__main__":
    main()

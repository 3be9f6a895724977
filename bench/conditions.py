"""What a measurement was made on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def conditions() -> str:
    """Say what a comparison with peers was made on, and how."""
    return (
        f"{machine()} Median (lowest to highest) over rounds; texts and vectors cross the socket "
        "on our side, not on the peers'."
    )


def machine() -> str:
    """Say where, when and by which version of ours something was measured."""
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {os.cpu_count()} cores (load {load:.1f}), "
        f"Pageformer {version('pageformer')}, Python {platform.python_version()}."
    )


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()

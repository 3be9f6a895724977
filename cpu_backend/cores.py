"""How many cores there are for us, and how the processes of a cluster share them."""

import os
from collections.abc import Callable
from math import ceil
from mmap import mmap

from pageformer.cpu_backend import _kernels as kernels

SLOTS = "at-work"  # a file of the page cache's folder; its layout is that of kernels/share.c
BYTES = 64 * 1024  # 1024 processes
QUOTA = "/sys/fs/cgroup/cpu.max"


def share(shared_memory: Callable[[str, int], mmap]) -> None:
    """Share the cores with the other processes, and stop computing when PostgreSQL calls."""
    kernels.share(shared_memory(SLOTS, BYTES), usable())
    kernels.heed_postgres()


def usable() -> int:
    """Count the cores that this process may use: its affinity, and a container's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(allowed or 1, quota(QUOTA)))


def quota(file: str | os.PathLike[str]) -> int:
    """Read a control group's limit in cores; a large number when there is none."""
    try:
        with open(file, encoding="ascii") as told:
            most, period = told.read().split()
    except (OSError, ValueError):
        return 1 << 16
    return 1 << 16 if most == "max" else ceil(int(most) / int(period))

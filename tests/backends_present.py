"""Which backends this machine has: tests run over all of them, and pytest's header names them."""

import pytest

from pageformer.errors import ServerUnready
from pageformer.udfs.backends import BACKENDS, choose
from pageformer.udfs.operators import Operators


def reason_missing(name: str) -> str | None:
    """Tell why a backend cannot run here; None: it can."""
    try:
        choose(name)
    except ServerUnready as error:
        return error.message
    return None


def pytest_report_header() -> list[str]:
    return [f"pageformer {name}: {reason_missing(name) or 'runs'}" for name in BACKENDS]


def cpu_variant(name: str) -> Operators:
    """Return the compiled operators with the kernels of one variant; skip where it cannot run."""
    if reason := reason_missing("cpu"):
        pytest.skip(reason)
    from pageformer.cpu_backend import _kernels
    from pageformer.cpu_backend.operators import CpuOperators

    if name not in _kernels.variants():
        pytest.skip(f"this machine has no {name}")
    return CpuOperators(name)

"""Which backends this machine has: tests run over all of them, and pytest's header names them."""

from pageformer.errors import ServerUnready
from pageformer.udfs.backends import BACKENDS, choose


def reason_missing(name: str) -> str | None:
    """Tell why a backend cannot run here; None: it can."""
    try:
        choose(name)
    except ServerUnready as error:
        return error.message
    return None


def pytest_report_header() -> list[str]:
    return [f"pageformer {name}: {reason_missing(name) or 'runs'}" for name in BACKENDS]

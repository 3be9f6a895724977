"""Choose where arrays are computed, by name; a backend that is missing raises, never falls back."""

from functools import cache
from importlib import import_module

from pageformer.errors import ServerUnready
from pageformer.udfs.operators import Operators

BACKENDS = {
    "numpy": ("pageformer.udfs.operators", "Operators"),
    "gpu": ("pageformer.gpu_backend.operators", "GpuOperators"),
}


@cache
def choose(name: str) -> Operators:
    """Return the operators of backend `name`.

    Raises ServerUnready when the name is unknown or the backend cannot be imported here, telling
    what was tried.
    """
    if name not in BACKENDS:
        raise ServerUnready(f"backend {name!r} is not one of {', '.join(BACKENDS)}")
    module, attribute = BACKENDS[name]
    try:
        operators: Operators = getattr(import_module(module), attribute)()
    except ImportError as error:
        raise ServerUnready(
            f"backend {name!r} is not available: importing {module} failed with: {error}",
            hint="install what it needs for the server's Python, or set backend to 'numpy'",
        ) from error
    return operators

"""Import libraries that start threads without harm to a PostgreSQL backend.

Signals stay with PostgreSQL's own thread, or a handler would touch the backend's state from a
worker. And there is one thread to a connection: pools that spin for each other's cores cost more
than they give.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

# Defaults: whoever starts the server may set others in its environment.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@contextmanager
def kept_out() -> Iterator[None]:
    """Keep library threads few while importing, and signals away from those that are started."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

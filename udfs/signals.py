"""Keep PostgreSQL's signals on PostgreSQL's thread.

A library that starts worker threads (OpenBLAS at numpy's import, tokenizers) would otherwise take
signals whose handlers touch the backend's state.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def blocked() -> Iterator[None]:
    """Block all signals, for the threads that are started meanwhile for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""Import libraries that start threads without harm to a PostgreSQL backend.

Signals stay with PostgreSQL's own thread, or a handler would touch the backend's state from a
worker. And there is one thread to a connection: pools that spin for each other's cores cost more
than they give.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")

PULSE_SECONDS = 0.01

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


def aside(work: Callable[[], Result], pulse: Callable[[], None]) -> Result:
    """Do what cannot be interrupted in a thread of its own, and call `pulse` meanwhile.

    When that raises, the thread is left to itself, and what it makes is thrown away. Errors of
    `work` are raised here.
    """
    from concurrent.futures import Future  # a call that is short does without

    answer: Future[Result] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    with kept_out():
        Thread(target=run, daemon=True).start()
    while True:
        try:
            return answer.result(PULSE_SECONDS)
        except TimeoutError:
            pulse()

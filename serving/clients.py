"""One backend's connection: frames in, answers out, and no more of either than it may hold.

A client that sends nonsense is told so and cut off; one that sends half a frame, or never reads, is
cut off after a while, and meanwhile holds no more than its own few requests.
"""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from pageformer.serving.waiting import Request
from pageformer.udfs.executors import wire
from pageformer.udfs.executors.client import peer_user

AT_ONCE = 8  # requests of one client that are on their way; more are not read
UNREAD = 1 << 22  # bytes of answers that wait for a client before its requests do
STALLED_SECONDS = 30.0  # half a frame, or unread answers, for so long: it is cut off


class Service(Protocol):
    """What clients need of the process."""

    greeting: dict[str, Any]

    def joined(self, client: "Client") -> bool:
        """Count a client in; False: there are too many."""

    def left(self, client: "Client") -> None:
        """Forget a client and what it waits for."""

    def take(self, request: Request) -> None:
        """Take a request."""

    def full(self) -> bool:
        """Tell whether so many requests wait that no more are read."""

    def eased(self) -> None:
        """Notice that a request was answered."""

    def statistics(self) -> dict[str, Any]:
        """Tell what was done so far."""


class Outbox:
    """Hand answers of all threads to the event loop, which is woken once for those of a batch."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._answers: list[Callable[[], None]] = []

    def put(self, answer: Callable[[], None]) -> None:
        """Let the loop send an answer; called by any thread."""
        with self._lock:
            self._answers.append(answer)
            is_woken = len(self._answers) > 1
        if not is_woken:
            self._loop.call_soon_threadsafe(self._send)

    def _send(self) -> None:
        with self._lock:
            answers, self._answers = self._answers, []
        for answer in answers:
            answer()


class Client(asyncio.Protocol):
    """Speak with one backend."""

    def __init__(self, service: Service, outbox: Outbox) -> None:
        self._service, self._outbox = service, outbox
        self._buffer = bytearray()
        self._transport: asyncio.Transport
        self._waiting = 0
        self._writable = True
        self._stopped = False
        self._stalled_since: float | None = None

    # -- what asyncio calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, if it is the same user."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        line: socket.socket = transport.get_extra_info("socket")
        if peer_user(line) not in (os.geteuid(), 0) or not self._service.joined(self):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=UNREAD)
        self._write(wire.GREETING, 0, json.dumps(self._service.greeting).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what it asked: its query was cancelled, or is over."""
        self._service.left(self)

    def data_received(self, data: bytes) -> None:
        """Read as many frames as may be."""
        self._buffer += data
        self.read_on()

    def pause_writing(self) -> None:
        """Read no more requests: it does not read its answers."""
        self._writable = False
        self._mark(True)

    def resume_writing(self) -> None:
        """Go on."""
        self._writable = True
        self.read_on()

    # -- what the process calls -------------------------------------------------------------------

    def read_on(self) -> None:
        """Take the requests that are there, as long as this client and the process may."""
        try:
            while self._may_ask() and self._take_frame():
                pass
        except wire.Garbled as error:
            self._write(wire.FAILED, 0, str(error).encode())
            self.hang_up()
            return
        if self._may_ask():
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
        self._mark(not self._writable or (self._may_ask() and bool(self._buffer)))

    def answered(self, request: Request, kind: int, body: bytes) -> None:
        """Send an answer; called by any thread."""
        self._outbox.put(partial(self._answer, request, kind, body))

    def stop_reading(self) -> None:
        """Take no more requests."""
        self._stopped = True
        self._transport.pause_reading()

    def hang_up(self) -> None:
        """Send what is written, then close."""
        self._transport.close()

    def cut_off_if_stalled(self) -> None:
        """Abort a client that has kept us waiting for too long."""
        if self._stalled_since and time.monotonic() - self._stalled_since > STALLED_SECONDS:
            self._transport.abort()

    # -- inside -----------------------------------------------------------------------------------

    def _may_ask(self) -> bool:
        open = not self._stopped and not self._transport.is_closing()
        return open and self._writable and self._waiting < AT_ONCE and not self._service.full()

    def _take_frame(self) -> bool:
        """Take one frame from the buffer; False when it is not all there yet."""
        if len(self._buffer) < wire.HEADER.size:
            return False
        header = wire.read_header(self._buffer, wire.MOST_ASKED)
        end = wire.HEADER.size + header.size
        if len(self._buffer) < end:
            return False
        body = bytes(self._buffer[wire.HEADER.size : end])
        del self._buffer[:end]
        if header.kind == wire.ENCODE:
            self._waiting += 1
            self._service.take(Request(self, header.number, wire.read_asked(body)))
        elif header.kind == wire.STATISTICS:
            told = json.dumps(self._service.statistics()).encode()
            self._write(wire.STATISTICS, header.number, told)
        else:
            raise wire.Garbled(f"a frame of kind {header.kind} is not for a process that serves")
        return True

    def _answer(self, request: Request, kind: int, body: bytes) -> None:
        self._waiting -= 1
        self._write(kind, request.number, body)
        self.read_on()
        self._service.eased()

    def _write(self, kind: int, number: int, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(wire.frame(kind, number, body))

    def _mark(self, stalled: bool) -> None:
        if not stalled:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = time.monotonic()

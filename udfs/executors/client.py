"""A connection's own line to the serving process: questions out, answers in.

Whatever goes wrong closes the line, so that no late answer meets the next question; the next call
opens another.
"""

import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import Any

from pageformer.udfs.executors import wire
from pageformer.udfs.executors.wire import Answered, Asked, Header
from pageformer.udfs.page_cache.private_folder import PrivateFolder

WINDOW = 4  # questions on their way at once
PULSES = (5, 10, 20, 40)  # milliseconds to wait before each look at whether it was cancelled
PATIENCE = 60.0  # seconds without any answer: the process hangs
CREDENTIALS = struct.Struct("3i")  # process, user, group


class Away(Exception):
    """There is no process, or it went away."""


class Refused(Exception):
    """The process answers that it cannot."""


class NotCommitted(Exception):
    """The process does not see the version."""


REFUSALS: dict[int, Callable[[str], Exception]] = {wire.FAILED: Refused, wire.UNKNOWN: NotCommitted}


def socket_name(database: int) -> str:
    """Name the socket of the process that serves a database."""
    return f"serve-{database}"


def peer_user(line: socket.socket) -> int:
    """Return the user id of whoever is at the other end."""
    found = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(found)[1])


class Line:
    """Hold one open connection to the process.

    pulse: called while waiting; raises when the query was cancelled. Raises Away when nobody
    answers who runs as the same user.
    """

    def __init__(self, folder: PrivateFolder, name: str, pulse: Callable[[], None]) -> None:
        self._pulse = pulse
        self._number = 0
        self.pays_up_to: dict[tuple[bytes, str], int] = {}  # by version and compute, once told
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect(folder, name)
            header, body = self._receive()
            if header.kind != wire.GREETING:
                raise Away(f"it greets with a frame of kind {header.kind}")
            self.greeting: dict[str, Any] = json.loads(body)
        except BaseException:
            self.close()
            raise

    def answers(self, questions: Iterable[Asked]) -> list[Answered]:
        """Ask everything and return the answers in order.

        Raises Away, Refused or NotCommitted.
        """
        numbers: list[int] = []
        answered: dict[int, Answered] = {}
        try:
            for asked in questions:
                if len(numbers) - len(answered) >= WINDOW:
                    self._take(answered)
                numbers.append(self._send(wire.ENCODE, wire.write_asked(asked)))
            while len(answered) < len(numbers):
                self._take(answered)
        except BaseException:
            self.close()
            raise
        return [answered[number] for number in numbers]

    def statistics(self) -> dict[str, Any]:
        """Ask what the process has done so far; raises Away."""
        try:
            self._send(wire.STATISTICS, b"")
            found: dict[str, Any] = json.loads(self._receive()[1])
        except BaseException:
            self.close()
            raise
        return found

    @property
    def usable(self) -> bool:
        """Tell whether the line may be used again: nothing was said since the last answer."""
        if self._socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Hang up; the process forgets what it was asked."""
        self._socket.close()

    def _connect(self, folder: PrivateFolder, name: str) -> None:
        self._socket.setblocking(False)
        try:
            folder.ensure()
            self._socket.connect(folder.socket_path(name))
        except OSError as error:
            raise Away(f"nobody listens at {folder.path}/{name}: {error.strerror}") from error
        if peer_user(self._socket) != os.geteuid():
            raise Away(f"another user listens at {folder.path}/{name}")

    def _take(self, answered: dict[int, Answered]) -> None:
        header, body = self._receive()
        if refusal := REFUSALS.get(header.kind):
            raise refusal(body.decode())
        try:
            answered[header.number] = wire.read_answered(body)
        except wire.Garbled as error:
            raise Away(str(error)) from error

    def _send(self, kind: int, body: bytes) -> int:
        self._number += 1
        rest = memoryview(wire.frame(kind, self._number, body))
        for _ in self._ready(select.POLLOUT):
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Away(f"it went away: {error.strerror}") from error
            if not rest:
                break
        return self._number

    def _receive(self) -> tuple[Header, bytes]:
        try:
            header = wire.read_header(self._read(wire.HEADER.size), wire.MOST_ANSWERED)
        except wire.Garbled as error:
            raise Away(str(error)) from error
        return header, bytes(self._read(header.size))

    def _read(self, size: int) -> bytearray:
        data = bytearray()
        while len(data) < size:
            data += self._some(size - len(data))
        return data

    def _some(self, most: int) -> bytes:
        for _ in self._ready(select.POLLIN):
            try:
                data = self._socket.recv(min(most, 1 << 20))
            except BlockingIOError:
                continue
            except OSError as error:
                raise Away(f"it went away: {error.strerror}") from error
            if not data:
                break
            return data
        raise Away("it went away")

    def _ready(self, event: int) -> Iterator[None]:
        """Yield whenever the socket may be ready, letting PostgreSQL in while it is not."""
        poll = select.poll()
        poll.register(self._socket, event)
        until = time.monotonic() + PATIENCE
        for milliseconds in chain(PULSES, repeat(PULSES[-1])):
            if poll.poll(milliseconds):
                yield
            self._pulse()
            if time.monotonic() > until:
                raise Away(f"it has not answered for {PATIENCE:.0f} seconds")

"""The serving process: listens beside the page cache, and puts the parts to work.

    clients.py -> shelf.py -> waiting.py -> workers.py -> clients.py
    frames        versions    schedule.py   encoders      frames

The event loop reads and writes; versions are opened in one thread, vectors computed in others.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pageformer.serving import statistics
from pageformer.serving.clients import Client, Outbox
from pageformer.serving.database import Database, NotThere
from pageformer.serving.listener import Listener, page_cache
from pageformer.serving.response_cache import ResponseCache
from pageformer.serving.shelf import Held, Shelf
from pageformer.serving.statistics import Statistics
from pageformer.serving.waiting import Request, Trigger, WaitingRoom
from pageformer.serving.workers import Workers
from pageformer.udfs import backends
from pageformer.udfs.executors import wire

MOST_CLIENTS = 1000
MOST_WAITING = 4096  # requests; when as many wait, no more are read
LOOK_SECONDS = 1.0  # between two looks at the socket's file and at stalled clients


@dataclass(frozen=True)
class Settings:
    """Hold what the command line chose."""

    dsn: str
    backend: str | None = None  # None: the one that the owner set
    trigger: Trigger = field(default_factory=Trigger)
    workers: int | None = None  # batches that are computed at once; None: one for each core
    versions: int = 8
    cache_bytes: int = 0


class Process:
    """Serve one database.

    tell: told in one line what happens.
    """

    def __init__(self, settings: Settings, tell: Callable[[str], None]) -> None:
        self._settings, self._tell = settings, tell
        database = Database(settings.dsn)
        self.place = database.place()
        self.backend = backends.named(settings.backend or self.place.backend)
        self.greeting: dict[str, Any] = {"backend": self.backend, "process": os.getpid()}
        self._cache = ResponseCache(settings.cache_bytes)
        self._counts = Statistics()
        self._room = WaitingRoom(settings.trigger)
        self._clients: set[Client] = set()
        self._was_full = False
        self._listener = Listener(self.place)
        backends.prepare(self.backend, page_cache(self.place).shared_memory)
        self._shelf = Shelf(
            database, self.place, self.backend, settings.versions, self._ready, self._refused
        )
        count = settings.workers or backends.side_by_side(self.backend)
        self._workers = Workers(count, self._room, self._counts, self._cache, self._renew)

    @property
    def status(self) -> str:
        """Tell in a line what is served, where."""
        trigger = self._settings.trigger
        when = f"within {trigger.budget * 1e3:g} ms" if trigger.budget else "as soon as may be"
        return (
            f"serving database {self.place.name} on {self.backend}: batches of up to "
            f"{trigger.tokens} tokens by {trigger.policy}, {when}"
        )

    # -- what clients call ------------------------------------------------------------------------

    def joined(self, client: Client) -> bool:
        """Count a client in; False: there are too many."""
        if len(self._clients) >= MOST_CLIENTS:
            return False
        self._clients.add(client)
        return True

    def left(self, client: Client) -> None:
        """Forget a client and what it waits for."""
        self._clients.discard(client)
        self._room.forget(client)

    def take(self, request: Request) -> None:
        """Answer from the cache, or let the request wait for its version."""
        request.name = self._cache.key(request.asked)
        texts = self._cache.get(request.name)
        if texts is not None:
            self._counts.found(request)
            body = wire.write_answered(wire.Answered(texts, wire.ALWAYS))
            request.asker.answered(request, wire.VECTORS, body)
            return
        self._shelf.want(request)

    def full(self) -> bool:
        """Tell whether so many requests wait that no more are read."""
        self._was_full = self._was_full or len(self._room) >= MOST_WAITING
        return self._was_full

    def eased(self) -> None:
        """Read on where reading stopped because too many requests waited."""
        if self._was_full and len(self._room) < MOST_WAITING // 2:
            self._was_full = False
            for client in list(self._clients):
                client.read_on()

    def statistics(self) -> dict[str, Any]:
        """Tell what was done so far."""
        held = self._shelf.versions()
        return {
            "since": self._counts.since,
            "memory": statistics.private_bytes(),
            "cache_bytes": self._cache.bytes,
            "waiting": len(self._room),
            "clients": len(self._clients),
            "versions": [
                statistics.row(key, count, held[key].page_bytes if key in held else 0)
                for key, count in self._counts.counts().items()
            ],
        }

    # -- what other threads call ------------------------------------------------------------------

    def _ready(self, held: Held, request: Request) -> None:
        """Let a request wait for its turn, now that its version is ready."""
        if refusal := held.refusal(request.asked):
            self._counts.failed(request)
            request.asker.answered(request, wire.FAILED, refusal.encode())
        else:
            self._room.put(held, request)

    def _refused(self, request: Request, error: Exception) -> None:
        """Answer a request whose version cannot be opened."""
        self._counts.failed(request)
        kind = wire.UNKNOWN if isinstance(error, NotThere) else wire.FAILED
        request.asker.answered(request, kind, str(error).encode())

    def _renew(self, held: Held, requests: list[Request]) -> None:
        """Open a version again: pages have gone from the cache's folder."""
        self._shelf.renew(held, requests)

    # -- from the first to the last ---------------------------------------------------------------

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until this process is told to end, then finish what was taken."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for ending in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(ending, stop.set)
        server = await self._listen(loop)
        ready()
        while not stop.is_set():
            for client in list(self._clients):
                client.cut_off_if_stalled()
            if not self._listener.stands():
                server.close()
                server = await self._listen(loop)
                self._tell("the socket was removed: made it anew")
            await wait(stop, LOOK_SECONDS)
        server.close()
        self._listener.close()
        await self._finish(loop)

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractServer:
        line = self._listener.open()
        outbox = Outbox(loop)
        return await loop.create_unix_server(lambda: Client(self, outbox), sock=line)

    async def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer what was taken, and close."""
        self._tell(f"stopping: {len(self._room)} requests left")
        for client in self._clients:
            client.stop_reading()
        await loop.run_in_executor(None, self._shelf.close)
        self._room.close()
        await loop.run_in_executor(None, self._workers.join)
        await asyncio.sleep(0)  # answers that the workers handed over
        for client in list(self._clients):
            client.hang_up()
        until = loop.time() + LOOK_SECONDS
        while self._clients and loop.time() < until:
            await asyncio.sleep(0.01)


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or for some time."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)

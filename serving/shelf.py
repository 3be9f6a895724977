"""The versions that the process holds, by content hash, until others need the room."""

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pageformer.errors import PageformerError
from pageformer.serving.database import Database, NotThere, Place, one_line, open_version
from pageformer.serving.timings import Timings, measure
from pageformer.udfs.encoding import LocalEncoder
from pageformer.udfs.executors.wire import NO_TASK, Asked
from pageformer.udfs.version import Version

Key = tuple[bytes, str]  # hash of the version, compute


@dataclass
class Held:
    """Hold a version that is ready, and what its batches cost."""

    version: Version
    encoder: LocalEncoder  # on all cores
    alone: LocalEncoder  # in the caller's thread only
    timings: Timings = field(default_factory=Timings)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_sound(self) -> bool:
        """Tell whether the pages are still what they were; raises DamagedPage."""
        with self.lock:
            return self.version.is_sound()

    def refusal(self, asked: Asked) -> str | None:
        """Tell what stands against a question."""
        config = self.version.config
        if asked.task != NO_TASK:
            return "tasks are computed by backends"
        if not asked.sequences or not all(map(len, asked.sequences)):
            return "a sequence has no tokens"
        if config.max_length and asked.longest > config.max_length:
            return f"{asked.longest} tokens are more than the {config.max_length} of this model"
        if max(map(max, asked.sequences)) >= config.vocabulary:
            return "a token is not in the vocabulary"
        return None

    @property
    def page_bytes(self) -> int:
        """Count the bytes of the pages that are mapped."""
        return self.version.page_bytes


class Shelf:
    """Open versions in a thread of its own, so that nobody else waits for it.

    ready: told a version, and who asked for it. refused: told who asked, and why there is none.
    """

    def __init__(
        self,
        database: Database,
        place: Place,
        backend: str,
        room: int,
        ready: Callable[[Held, Any], None],
        refused: Callable[[Any, Exception], None],
    ) -> None:
        self._database, self._place = database, place
        self._backend, self._room = backend, room
        self._ready, self._refused = ready, refused
        self._held: OrderedDict[Key, Held] = OrderedDict()
        self._wanted: dict[Key, list[Any]] = {}
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._open_all, name="shelf", daemon=True)
        self._thread.start()

    def want(self, key: Key, asker: Any) -> None:
        """Let somebody have a version, at once where it is held."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                self._order(key, asker)
                return
            self._held.move_to_end(key)
        self._ready(held, asker)

    def renew(self, key: Key, held: Held, askers: Iterable[Any]) -> None:
        """Open a version again whose pages have gone."""
        with self._lock:
            if self._held.get(key) is held:
                self._let_go(key)
            for asker in askers:
                self._order(key, asker)

    def versions(self) -> dict[Key, Held]:
        """Return what is held."""
        with self._lock:
            return dict(self._held)

    def close(self) -> None:
        """Open what was asked for, then end."""
        self._orders.put(None)
        self._thread.join()

    def _order(self, key: Key, asker: Any) -> None:
        if key in self._wanted:
            self._wanted[key].append(asker)
            return
        self._wanted[key] = [asker]
        self._orders.put(key)

    def _open_all(self) -> None:
        while (key := self._orders.get()) is not None:
            try:
                held = self._open(key)
            except (PageformerError, NotThere) as error:
                self._refuse(key, error)
            except Exception as error:  # whatever it is, it must not end the thread
                self._refuse(key, RuntimeError(f"{type(error).__name__}: {one_line(error)}"))
            else:
                self._put(key, held)
                self._measure(held)

    def _open(self, key: Key) -> Held:
        hash, compute = key
        version = open_version(self._database, self._place, hash, self._backend, compute)
        return Held(version, version.encoder, version.encoder.alone())

    def _put(self, key: Key, held: Held) -> None:
        with self._lock:
            self._held[key] = held
            askers = self._wanted.pop(key)
            while len(self._held) > self._room:
                self._let_go(next(iter(self._held)))
        for asker in askers:
            self._ready(held, asker)

    def _refuse(self, key: Key, error: Exception) -> None:
        with self._lock:
            askers = self._wanted.pop(key)
        for asker in askers:
            self._refused(asker, error)

    def _let_go(self, key: Key) -> None:
        """Forget a version; who computes with it still holds its pages."""
        version = self._held.pop(key).version
        version.close()
        version.cache.folder.close()

    def _measure(self, held: Held) -> None:
        config = held.version.config

        def run(sequences: Sequence[Sequence[int]]) -> object:
            return held.alone.vectors(sequences, None, None, lambda: None)

        clock = time.perf_counter if self._backend == "gpu" else time.thread_time
        held.timings = measure(run, config.max_length, config.vocabulary, clock)

"""An encoder that asks the serving process, and knows when not to."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat

from pageformer.errors import ServerUnready
from pageformer.udfs import spi, versions
from pageformer.udfs.encoding import Encoder, Pulse
from pageformer.udfs.executors import client
from pageformer.udfs.executors.client import Away, Line, NotCommitted, Refused
from pageformer.udfs.executors.wire import NO_TASK, Asked
from pageformer.udfs.versions import Resolved

TOGETHER = 256  # tokens in one question
PERIOD, WINDOW = 4.0, 0.1  # seconds: in each period, all look for so long whether it pays
RETRY_SECONDS = 0.25  # a process that was not there is looked for again after this long

Questions = Iterable[Asked]
Here = Callable[[], list[str]]  # computes in this backend

_lines: list[Line] = []
_missed_at = [float("-inf")]


class ServedEncoder:
    """Ask the serving process for vectors.

    required: what stands against it is an error; else this backend computes then.
    """

    def __init__(
        self,
        resolved: Resolved,
        local: Callable[[], Encoder],
        tasks: Sequence[bytes],
        required: bool,
    ) -> None:
        self._key = resolved.hash, resolved.compute
        self._local, self._tasks = local, tasks
        self._required = required

    def vectors(
        self,
        sequences: Iterable[Sequence[int]],
        dimensions: int | None,
        normalized: bool | None,
        pulse: Pulse,
        skip: int = 0,
    ) -> list[str]:
        """Compute one vector per sequence, in order."""
        given: list[Sequence[int]] = []
        rest = iter(sequences)

        def asked() -> Iterator[Asked]:
            of = self._tasks or repeat(NO_TASK)
            for task, part in together(kept(rest, given), of):
                yield Asked(*self._key, "vectors", dimensions, normalized, skip, part, task)

        def here() -> list[str]:
            every = chain(given, rest)
            return self._local().vectors(every, dimensions, normalized, pulse, skip)

        alone = len(sequences[0]) if isinstance(sequences, list) and len(sequences) == 1 else None
        return self._answer(asked(), here, alone)

    def states(
        self, ids: Sequence[int], dimensions: int | None, normalized: bool | None, pulse: Pulse
    ) -> list[str]:
        """Compute the state of each token, before pooling."""

        def here() -> list[str]:
            return self._local().states(ids, dimensions, normalized, pulse)

        task = self._tasks[0] if self._tasks else NO_TASK
        asked = Asked(*self._key, "states", dimensions, bool(normalized), 0, (ids,), task)
        return self._answer([asked], here, len(ids))

    def _answer(self, asked: Questions, here: Here, alone: int | None) -> list[str]:
        if self._required:
            return self._required_answer(asked)
        line = open_line()
        if line is None:
            return here()
        if line.greeting["backend"] == "gpu":
            return self._ask_or(line, asked, here)
        if alone is None or not self._pays(line, alone):
            return here()
        return self._ask_or(line, asked, here)

    def _required_answer(self, asked: Questions) -> list[str]:
        try:
            return self._ask(required_line(), asked)
        except Away as error:
            raise ServerUnready(
                f"the serving process is away: {error}",
                hint="start it: pageformer serve; or let backends compute: "
                "update pageformer.setting set value = 'auto' where name = 'executor'",
            ) from error
        except NotCommitted as error:
            raise ServerUnready(
                "the serving process does not see this version, which is not committed yet",
                hint="commit first, or let the owner set executor to 'auto'",
            ) from error
        except Refused as error:
            raise ServerUnready(f"the serving process refuses: {error}") from error

    def _ask_or(self, line: Line, asked: Questions, here: Here) -> list[str]:
        try:
            return self._ask(line, asked)
        except (Away, Refused, NotCommitted):
            return here()

    def _ask(self, line: Line, asked: Questions) -> list[str]:
        answers = line.answers(asked)
        if answers:
            line.pays_up_to[self._key] = answers[-1].pays_up_to
        return [text for answer in answers for text in answer.texts]

    def _pays(self, line: Line, length: int) -> bool:
        """Tell whether a single text is cheaper in the process, on the same cores.

        It is while many ask, up to a length, as the last answer told. All connections look again at
        the same time, to meet the company that they would have.
        """
        looks_again = time.monotonic() % PERIOD < WINDOW
        return looks_again or length <= line.pays_up_to.get(self._key, length)


def kept(sequences: Iterator[Sequence[int]], given: list[Sequence[int]]) -> Iterator[Sequence[int]]:
    """Yield sequences, remembering them in case the process goes away."""
    for ids in sequences:
        given.append(ids)
        yield ids


def together(
    sequences: Iterator[Sequence[int]], tasks: Iterable[bytes]
) -> Iterator[tuple[bytes, tuple[Sequence[int], ...]]]:
    """Group neighbours of the same task, some hundred tokens to a question."""
    part: list[Sequence[int]] = []
    tokens, own = 0, NO_TASK
    for ids, task in zip(sequences, tasks, strict=False):
        if part and (tokens + len(ids) > TOGETHER or task != own):
            yield own, tuple(part)
            part, tokens = [], 0
        part.append(ids)
        tokens, own = tokens + len(ids), task
    if part:
        yield own, tuple(part)


def required_line() -> Line:
    """Return this connection's line to the process, opened where there is none; raise Away."""
    if _lines and not _lines[0].usable:
        _lines.pop().close()
    if not _lines:
        folder = spi.as_owner(versions.page_cache).folder
        _lines.append(Line(folder, socket_name(), spi.pulse))
    return _lines[0]


def open_line() -> Line | None:
    """Return this connection's line to the process; None: there is none, as of a moment ago."""
    if not _lines and time.monotonic() < _missed_at[0] + RETRY_SECONDS:
        return None
    try:
        return required_line()
    except Away:
        _missed_at[0] = time.monotonic()
        return None


def socket_name() -> str:
    """Name the socket of the process that serves this database."""
    [database] = spi.rows("database")
    return client.socket_name(database["oid"])

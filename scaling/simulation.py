"""The work queue in small: how long items take on so many nodes, and what they wait for.

A driver cuts items one after another. A worker gets one, has the database read it, encodes it on a
core of its node, and has the database write it. Each place serves as many at a time as it has
cores, first come, first served. Some items take longer than others; a worker that is lost comes
back after a while, and repeats its item.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

DRIVER, DATABASE, NODE = "driver", "database", "workers"
MOST_ITEMS = 20_000  # are simulated; a longer queue goes on at the pace of their middle half


@dataclass(frozen=True)
class Item:
    """Seconds that an item takes at each place, with nobody else there."""

    cutting: float
    reading: float
    encoding: float
    writing: float

    @property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """List where an item goes, and for how long."""
        at_database = (DATABASE, self.reading), (NODE, self.encoding), (DATABASE, self.writing)
        return (DRIVER, self.cutting), *at_database


@dataclass(frozen=True)
class Setting:
    """What there is: nodes, and what goes wrong.

    apart: the database has cores of its own; else it shares those of the only node.
    """

    nodes: int
    workers_per_node: int
    cores_per_node: int
    database_cores: int
    apart: bool = True
    stragglers: float = 0.02  # share of the items that take `slowness` times as long
    slowness: float = 4.0
    losses_per_hour: float = 0.0  # of each worker
    comes_back_after: float = 20.0  # seconds


@dataclass
class Place:
    """Some cores, and when each is free."""

    free: list[float]
    busy: float = 0.0

    def serve(self, at: float, seconds: float) -> float:
        """Return when a request is done that comes at some time."""
        begun = max(at, heapq.heappop(self.free))
        heapq.heappush(self.free, begun + seconds)
        self.busy += seconds
        return begun + seconds


@dataclass
class Outcome:
    """What came of a simulation."""

    items: int
    seconds: float
    repeated: int
    used: dict[str, float] = field(default_factory=dict)  # share of each place's time

    @property
    def limit(self) -> str:
        """Name the place that is busiest: where it stops scaling."""
        return max(self.used, key=lambda place: self.used[place])


def simulate(item: Item, setting: Setting, items: int, seed: int = 0) -> Outcome:
    """Simulate items until the last is written."""
    chance = random.Random(seed)
    places = laid_out(setting)
    workers = setting.nodes * setting.workers_per_node
    simulated = min(items, max(MOST_ITEMS, 4 * workers))
    order = count()
    events = [(0.0, next(order), worker, 0) for worker in range(workers)]
    taken = repeated = 0
    ends: list[float] = []
    while events:
        now, _, worker, step = heapq.heappop(events)
        if step == 0:
            if taken == simulated:
                continue
            taken += 1
        name, seconds = item.steps[step]
        node = worker % setting.nodes
        if name == NODE:
            if chance.random() < setting.stragglers:
                seconds *= setting.slowness
            if setting.losses_per_hour and chance.random() < lost(setting, seconds):
                repeated += 1
                back = now + seconds / 2 + setting.comes_back_after
                heapq.heappush(events, (back, next(order), worker, 1))
                continue
        done = places[name, node if name == NODE else 0].serve(now, seconds)
        last = step + 1 == len(item.steps)
        if last:
            ends.append(done)
        heapq.heappush(events, (done, next(order), worker, 0 if last else step + 1))
    ends.sort()
    pace = steady(ends) if items > simulated else ends[-1] / items
    seconds = ends[-1] + (items - simulated) * pace
    return Outcome(items, seconds, repeated, shares(places, pace * simulated))


def steady(ends: Sequence[float]) -> float:
    """Return the seconds from item to item while all are at work: of the middle half."""
    first, last = len(ends) // 4, 3 * len(ends) // 4
    return (ends[last] - ends[first]) / (last - first)


def laid_out(setting: Setting) -> dict[tuple[str, int], Place]:
    """Make the places; a database that is not apart stands on the only node."""
    nodes = [Place([0.0] * setting.cores_per_node) for _ in range(setting.nodes)]
    database = Place([0.0] * setting.database_cores) if setting.apart else nodes[0]
    fixed = {(DRIVER, 0): Place([0.0]), (DATABASE, 0): database}
    return fixed | {(NODE, number): node for number, node in enumerate(nodes)}


def lost(setting: Setting, seconds: float) -> float:
    """Return the probability that a worker is lost meanwhile."""
    return min(1.0, setting.losses_per_hour * seconds / 3600)


def shares(places: dict[tuple[str, int], Place], seconds: float) -> dict[str, float]:
    """Tell which share of its time each kind of place was busy."""
    kinds: dict[str, list[Place]] = {}
    for (name, _), place in places.items():
        kinds.setdefault(name, []).append(place)
    return {name: utilisation(kind, seconds) for name, kind in kinds.items()}


def utilisation(places: Sequence[Place], seconds: float) -> float:
    """Return the share of the time of all their cores."""
    cores = sum(len(place.free) for place in places)
    return sum(place.busy for place in places) / (cores * seconds) if seconds else 0.0

"""Which of two ways to compute is faster, told by how long each took lately."""

AGAIN = 64  # calls after which the slower one is tried again
LATELY = 0.2  # the weight of the last call in the average

Seconds = dict[bool, float]


class Rivals:
    """Choose between the process (True) and this backend (False) for texts of about one length."""

    def __init__(self) -> None:
        self._seconds: Seconds = {}
        self._calls = 0

    def choose(self) -> bool:
        """Return the faster one; each is tried once first, and the slower one now and then."""
        for way in (True, False):
            if way not in self._seconds:
                return way
        self._calls += 1
        faster = self._seconds[True] < self._seconds[False]
        return faster if self._calls % AGAIN else not faster

    def took(self, way: bool, seconds: float) -> None:
        """Remember how long a call took."""
        before = self._seconds.get(way, seconds)
        self._seconds[way] = before + LATELY * (seconds - before)

"""Where the time of a compiled pass goes, step by step, and how near products come to the peak."""

from collections.abc import Sequence
from typing import NamedTuple

from pageformer.cpu_backend import _kernels as kernels
from pageformer.cpu_backend.compiled import CompiledEncoder
from pageformer.udfs.config import Config


class Step(NamedTuple):
    """Hold the seconds of one step in all layers, and its multiplications and additions."""

    name: str
    seconds: float
    operations: int  # 0: not counted, since they are few

    @property
    def rate(self) -> float:
        """Operations in a nanosecond: GFLOP/s."""
        return self.operations / self.seconds * 1e-9 if self.seconds else 0.0


class Profile(NamedTuple):
    """Hold the kernels' name, the GFLOP/s of a core's registers in float32, and the steps."""

    kernels: str
    peak: float
    steps: list[Step]


def profile(
    encoder: CompiledEncoder, config: Config, sequences: Sequence[Sequence[int]], rounds: int = 3
) -> Profile:
    """Encode sequences of token ids a few times, and tell the steps of the fastest round."""
    best = kernels.variants()[0]
    spent = min((encoder.spent(sequences) for _ in range(rounds)), key=lambda s: sum(s.values()))
    counted = operations(config, [len(ids) for ids in sequences])
    steps = [Step(name, time, counted.get(name, 0)) for name, time in spent.items() if time]
    return Profile(best, kernels.peak(best), steps)


def operations(config: Config, lengths: Sequence[int]) -> dict[str, int]:
    """Count the multiplications and additions of the steps that are products.

    Attention: scores and mixed values, q k^T and scores v.
    """
    hidden, inner, tokens = config.hidden, config.intermediate, sum(lengths)
    square, oblong = hidden * hidden * tokens, hidden * inner * tokens
    pairs = sum(length * length for length in lengths) * hidden
    products = {
        "query, key, value": 3 * square,
        "attention": 2 * pairs,
        "output": square,
        "up": oblong,
        "down": oblong,
    }
    return {name: 2 * config.layers * count for name, count in products.items()}

"""The steps of a version's pass, measured in this process on the pages that backends use."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from pageformer import client
from pageformer.errors import InvalidInput, NotBuilt, UnknownName
from pageformer.scaling.text_encoder import open_version

if TYPE_CHECKING:
    from pageformer.cpu_backend.profile import Step


COMPUTE = ("float32", "bfloat16", "int8", "auto")


class Measured(NamedTuple):
    """Hold what a profile tells: precision, kernels, GFLOP/s of a core at its peak, and steps."""

    compute: str
    kernels: str
    peak: float
    steps: "Sequence[Step]"


def measure(dsn: str | None, model: str, compute: str, tokens: int, texts: int) -> Measured:
    """Encode texts of random tokens on one core, with the deployed version of a model.

    Raises InvalidInput, UnknownName, MissingGrant, and NotBuilt for a pass of single operators.
    """
    if compute not in COMPUTE:
        raise InvalidInput(f"compute is {compute!r}", hint=f"it is one of {', '.join(COMPUTE)}")
    with client.connect(dsn) as connection:
        found = client.rows(connection, "deployed_hash", [model])
    if not found:
        raise UnknownName(f'there is no model "{model}"', hint="pageformer models")
    opened = open_version(client.choose_dsn(dsn), found[0]["hash"], compute, alone=True)
    try:
        from pageformer.cpu_backend import compiled, profile
    except ImportError as error:
        raise NotBuilt("there are no kernels here", hint="install with a C compiler") from error
    encoder, config = opened.encoder, opened.version.config
    if not isinstance(encoder, compiled.CompiledEncoder):
        raise NotBuilt(
            f"{model} is composed of single operators, whose time is not counted",
            hint="pageformer profile tells of models that are compiled in one piece",
        )
    chance, length = Random(0), min(tokens, config.max_length)
    ids = [[chance.randrange(config.vocabulary) for _ in range(length)] for _ in range(texts)]
    steps = profile.profile(encoder, config, ids)
    chosen = compiled.chosen_compute(config, compute)
    return Measured(chosen, compiled.kernels.variants()[0], profile.peak(), steps)

"""Who encodes the rows of a column: the server, asked by connections, or workers on Ray."""

from collections.abc import Callable
from functools import partial

from pageformer import embed
from pageformer.errors import InvalidInput

# dsn, request, workers, batch, progress, warn -> the rows that were written
Engine = Callable[..., int]


def engine(name: str, address: str | None) -> Engine:
    """Return the engine of a name.

    Raises InvalidInput for another name, and for an address that the engine has no use for.
    """
    if name == "ray":
        from pageformer.scaling import ray_engine  # Ray, which others do without

        return partial(ray_engine.embed, address=address)
    if name != "sql":
        raise InvalidInput(f"engine {name!r} is not one of sql, ray", hint="leave out --engine")
    if address is not None:
        raise InvalidInput("--address is of a Ray cluster", hint="add --engine ray")
    return embed.embed

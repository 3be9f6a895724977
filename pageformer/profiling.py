"""The steps of a version's pass, measured in this process on the pages that backends use."""

from random import Random
from typing import TYPE_CHECKING

from pageformer import client
from pageformer.errors import InvalidInput, UnknownName
from pageformer.scaling.text_encoder import open_version
from pageformer.udfs import backends

if TYPE_CHECKING:
    from pageformer.udfs.backends import Profile

COMPUTE = ("float32", "bfloat16", "int8", "auto")


def measure(dsn: str | None, model: str, compute: str, tokens: int, texts: int) -> "Profile":
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
    config, chance = opened.version.config, Random(0)
    length = min(tokens, config.max_length or tokens)
    ids = [[chance.randrange(config.vocabulary) for _ in range(length)] for _ in range(texts)]
    return backends.profile(opened.encoder, config, ids)

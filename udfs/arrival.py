"""Whether all of a version has arrived: a subscriber may have some of its tables before others.

Each table of a publication is copied by itself at first, so a version's row may be there while its
pages are not. What is computed from a part of a model would be a wrong vector.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from pageformer.errors import ServerUnready
from pageformer.udfs.layout import TensorRow


def check(
    version: Mapping[str, Any], tensors: Sequence[TensorRow], placed: Container[bytes]
) -> None:
    """Raise ServerUnready, naming what is missing, unless a version is here as a whole."""
    blocks = {hash for tensor in tensors for line in tensor.grid or () for hash in line}
    late = sum(hash not in placed for hash in blocks)
    if not tensors:
        missing = "its tensors are missing"
    elif late:
        missing = f"{late} of its {len(blocks)} blocks are on no page"
    elif version["tokenizer_hash"] and not version["tokenizer_is_here"]:
        missing = "its tokenizer is missing"
    else:
        return
    raise ServerUnready(
        f"version {version['hash'].hex()[:12]} is not here as a whole: {missing}",
        hint="wait until its subscription has copied every table (srsubstate 'r' in "
        "pg_subscription_rel); on any other server restore schema pageformer from a backup",
    )

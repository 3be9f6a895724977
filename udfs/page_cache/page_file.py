"""What a file of the page cache is called, what stands in it, and how damage to it shows.

A page in format f32 is a file named by its hash that holds the page itself. A page in 16 bits is
widened once, into a derived file:

    name     f32-<sha256 of the page's hash and its format, in hexadecimal>
    content  the elements in float32, then 32 bytes: the sha256 of what stands before them

A page of differences is likewise applied to its base blocks once; their names stand in the page, so
its hash covers them.

What a backend makes of blocks for itself is a derived file, too, in a form of the backend's own:

    name     <form>-<sha256 of what it is made of, in hexadecimal>
    content  bytes that the backend understands, then the sha256 of what stands before them

A file's time of modification is its seal: a value that follows from its name and its size. Whoever
writes to the file breaks the seal without knowing, so an intact seal (one `stat`) stands for what
hashing a megabyte would tell. A broken one is reason to hash.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pageformer.errors import DamagedPage
from pageformer.udfs import threads

Page = tuple[bytes, str]  # its sha256 and its format
Buffer = bytes | memoryview
ReadBlocks = Callable[[Sequence[bytes]], Mapping[bytes, Any]]  # names -> float32 [rows, cols]

TRAILER = 32
ELEMENT_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "delta": 1}


def file_name(page: Page) -> str:
    """Name the file that holds a page as float32, or what a backend made."""
    digest, form = page
    if form not in ELEMENT_BYTES:
        return f"{form}-{digest.hex()}"
    return digest.hex() if form == "f32" else f"f32-{derived_digest(page).hex()}"


def cost(name: str) -> int:
    """Tell what making a file again costs, in bytes read for each of its own: more when derived."""
    form, derived, _ = name.partition("-")
    return 1 if not derived else 2 if form == "f32" else 3


def derived_digest(page: Page) -> bytes:
    """Hash what a derived file follows from: the page's hash and its format."""
    digest, form = page
    return hashlib.sha256(digest + form.encode()).digest()


def seal(page: Page, size: int) -> int:
    """Return the time of modification, in nanoseconds, that a sound file of `size` bytes has."""
    digest = page[0] if page[1] == "f32" else derived_digest(page)
    return (int.from_bytes(digest[:8], "big") >> 4) + size  # before the year 2007


def no_blocks(names: Sequence[bytes]) -> Mapping[bytes, Any]:
    """Stand for a reader of blocks where no page of differences is expected."""
    raise DamagedPage(f"{len(names)} blocks to add differences to cannot be read here")


def content(page: Page, data: bytes, read_blocks: ReadBlocks = no_blocks) -> Buffer:
    """Make the content of a page's file from the page's own bytes.

    read_blocks: reads the blocks that a page of differences is based on. Raises DamagedPage when
    the bytes differ from the hash that names them.
    """
    digest, form = page
    if hashlib.sha256(data).digest() != digest or not data or len(data) % ELEMENT_BYTES[form]:
        raise DamagedPage(
            f"page {digest.hex()} in table pageformer.page is damaged: "
            "its bytes differ from the hash that names them",
            hint="restore the table from a backup, or drop the versions that use the page "
            "and load them again",
        )
    if form == "f32":
        return data
    floats = _floats_of(data, form, read_blocks)
    return floats + hashlib.sha256(floats).digest()


def _floats_of(data: bytes, form: str, read_blocks: ReadBlocks) -> bytes:
    """Compute a page's elements in float32; numpy, which a cache of f32 pages does without."""
    if form == "delta":
        with threads.kept_out():
            from pageformer.udfs.delta import DeltaPage

        differences = DeltaPage(data)
        return differences.expand(read_blocks(differences.bases))
    with threads.kept_out():
        from pageformer.udfs.blocks import widen

    return widen(data, form).tobytes()


def with_checksum(made: bytes) -> bytes:
    """Make the content of a file that a backend derives."""
    return made + hashlib.sha256(made).digest()


def is_sound(page: Page, stored: memoryview) -> bool:
    """Tell whether the content of a page's file is what was written there."""
    if page[1] == "f32":
        return hashlib.sha256(stored).digest() == page[0]
    return hashlib.sha256(stored[:-TRAILER]).digest() == bytes(stored[-TRAILER:])


def floats(page: Page, stored: memoryview) -> memoryview:
    """View the content of a page's file as float32 elements, read-only."""
    elements = stored if page[1] == "f32" else stored[:-TRAILER]
    return elements.toreadonly().cast("f")  # type: ignore[return-value]

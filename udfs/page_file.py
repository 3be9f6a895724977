"""What a file of the page cache is called, what stands in it, and how damage to it shows.

A page in format f32 is a file named by its hash that holds the page itself. A page in 16 bits is
widened once, into a derived file:

    name     f32-<sha256 of the page's hash and its format, in hexadecimal>
    content  the elements in float32, then 32 bytes: the sha256 of what stands before them

A file's time of modification is its seal: a value that follows from its name and its size. Whoever
writes to the file breaks the seal without knowing, so an intact seal (one `stat`) stands for what
hashing a megabyte would tell. A broken one is reason to hash.
"""

import hashlib

from pageformer.errors import DamagedPage

Page = tuple[bytes, str]  # its sha256 and its format
Buffer = bytes | memoryview

TRAILER = 32
ELEMENT_BYTES = {"f32": 4, "f16": 2, "bf16": 2}


def file_name(page: Page) -> str:
    """Name the file that holds a page as float32."""
    digest, form = page
    return digest.hex() if form == "f32" else f"f32-{derived_digest(page).hex()}"


def derived_digest(page: Page) -> bytes:
    """Hash what a derived file follows from: the page's hash and its format."""
    digest, form = page
    return hashlib.sha256(digest + form.encode()).digest()


def seal(page: Page, size: int) -> int:
    """Return the time of modification, in nanoseconds, that a sound file of `size` bytes has."""
    digest = page[0] if page[1] == "f32" else derived_digest(page)
    return (int.from_bytes(digest[:8], "big") >> 4) + size  # before the year 2007


def content(page: Page, data: bytes) -> Buffer:
    """Make the content of a page's file from the page's own bytes.

    Raises DamagedPage when the bytes differ from the hash that names them.
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
    from pageformer.udfs.blocks import widen  # numpy, which a cache of f32 pages does without

    floats = widen(data, form).tobytes()
    return floats + hashlib.sha256(floats).digest()


def is_sound(page: Page, stored: memoryview) -> bool:
    """Tell whether the content of a page's file is what was written there."""
    if page[1] == "f32":
        return hashlib.sha256(stored).digest() == page[0]
    return hashlib.sha256(stored[:-TRAILER]).digest() == bytes(stored[-TRAILER:])


def floats(page: Page, stored: memoryview) -> memoryview:
    """View the content of a page's file as float32 elements, read-only."""
    elements = stored if page[1] == "f32" else stored[:-TRAILER]
    return elements.toreadonly().cast("f")  # type: ignore[return-value]

from collections.abc import Sequence
from typing import Any

ReadableBuffer = Any  # bytes, a memoryview, an array of NumPy's, whose stubs do not tell
WriteableBuffer = Any

FLOAT32: int
BFLOAT16: int
INT8: int

class Matrix:
    def __new__(
        cls, blocks: Sequence[ReadableBuffer], rows: int, cols: int, side: int
    ) -> Matrix: ...

class LinearEdits:
    def __new__(
        cls,
        rows: int,
        cols: int,
        rank: int,
        entries: int,
        scale_in: ReadableBuffer | None,
        down: ReadableBuffer | None,
        up: ReadableBuffer | None,
        starts: ReadableBuffer | None,
        indices: ReadableBuffer | None,
        values: ReadableBuffer | None,
        kept: ReadableBuffer | None,
        scale_out: ReadableBuffer | None,
        bias: ReadableBuffer | None,
        /,
    ) -> LinearEdits: ...

class EndEdits:
    def __new__(
        cls,
        width: int,
        norm: tuple[ReadableBuffer, ReadableBuffer, float] | None,
        bottleneck: tuple[object, ...] | None,
        /,
    ) -> EndEdits: ...

class Encoder:
    def __new__(
        cls,
        variant: str,
        hidden: int,
        heads: int,
        intermediate: int,
        activation: str,
        eps: float,
        padding_id: int,
        longest: int,
        first_token: bool,
        tables: tuple[Matrix, ...],
        norm: tuple[ReadableBuffer, ReadableBuffer] | None,
        layers: tuple[tuple[object, ...], ...],
        relative: ReadableBuffer | None,
        norm_first: bool = ...,
        final_activation: bool = ...,
    ) -> Encoder: ...

class Job:
    def __new__(cls, encoder: Encoder, threads: int = ..., states: bool = ...) -> Job: ...
    def add(self, ids: Sequence[int], /) -> None: ...
    def add_rows(
        self,
        floats: ReadableBuffer,
        lengths: list[int],
        sites: list[tuple[int, int, list[tuple[int, int, Any]]]] = ...,
        /,
    ) -> None: ...
    def run(self) -> bool: ...
    def close(self) -> None: ...
    def texts(
        self, dimensions: int, normalized: bool, start: int = 0, stop: int = ..., /
    ) -> list[str]: ...
    @property
    def answer(self) -> bytes | None: ...
    @property
    def spent(self) -> dict[str, float] | None: ...

def variants() -> list[str]: ...
def heed_postgres() -> bool: ...
def interrupt(stop: bool, /) -> None: ...
def share(slots: WriteableBuffer, cores: int, /) -> None: ...
def panel_product(
    variant: str,
    form: int,
    x: ReadableBuffer,
    rows: int,
    depth: int,
    cols: int,
    panels: ReadableBuffer,
    bias: ReadableBuffer,
    y: WriteableBuffer,
    /,
) -> None: ...
def peak(variant: str, /) -> float: ...
def panels(matrix: Matrix, form: int, /) -> bytes: ...
def vector_text(floats: ReadableBuffer, /) -> str: ...
def linear(
    variant: str,
    x: ReadableBuffer,
    rows: int,
    matrix: Matrix,
    bias: ReadableBuffer | None,
    activation: int,
    residual: ReadableBuffer | None,
    y: WriteableBuffer,
    segments: list[tuple[int, int, LinearEdits]],
    /,
) -> None: ...
def add_norm(
    variant: str,
    x: ReadableBuffer,
    residual: ReadableBuffer | None,
    rows: int,
    width: int,
    weight: ReadableBuffer | None,
    bias: ReadableBuffer | None,
    eps: float,
    y: WriteableBuffer,
    segments: list[tuple[int, int, EndEdits]],
    /,
) -> None: ...
def attention(
    variant: str,
    q: ReadableBuffer,
    k: ReadableBuffer,
    v: ReadableBuffer,
    offsets: ReadableBuffer,
    width: int,
    heads: int,
    bias: ReadableBuffer | None,
    longest: int,
    window: int,
    y: WriteableBuffer,
    /,
) -> None: ...
def pool(
    variant: str,
    x: ReadableBuffer,
    offsets: ReadableBuffer,
    width: int,
    first_token: bool,
    y: WriteableBuffer,
    /,
) -> None: ...
def normalize(
    variant: str, x: ReadableBuffer, rows: int, width: int, y: WriteableBuffer, /
) -> None: ...
def word_table(
    vocabulary: dict[str, int],
    unknown: int,
    lowercase: bool,
    longest_word: int,
    before: list[int],
    after: list[int],
    refused: str,
    /,
) -> bytes: ...
def plain_ids(table: ReadableBuffer, text: str, limit: int, /) -> tuple[list[int], bool] | None: ...
def watch(path: str, /) -> int: ...

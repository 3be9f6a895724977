"""Blocks put together again are the tensor; pages hold blocks of one kind in order."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageformer.dedup.exact import BATCH, new_blocks
from pageformer.dedup.pages import PAGE_BYTES, Kind, pack
from pageformer.loader.cut import SIDES, Array, Weight, choose_side, sheets, tile
from pageformer.loader.manifest import build, cut_blocks
from pageformer.udfs.blocks import block_hash
from pageformer.udfs.config import Config

CONFIG = Config("encoder", 64, 2, 4, 0, "relu", 1e-5)


def counting(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def weights(**shapes: tuple[int, ...]) -> dict[str, Weight]:
    return {name: Weight(counting(*shape), "f32") for name, shape in shapes.items()}


@given(rows=st.integers(1, 300), cols=st.integers(1, 300), side=st.sampled_from(SIDES))
def test_tiles_put_together_are_the_matrix_and_zeros(rows: int, cols: int, side: int) -> None:
    matrix = counting(rows, cols) + 1
    block_rows, block_cols = -(-rows // side), -(-cols // side)
    whole = np.block(
        [
            [np.frombuffer(tile(matrix, i, j, side), "<f4").reshape(side, side)
             for j in range(block_cols)]
            for i in range(block_rows)
        ]
    )  # fmt: skip
    assert np.array_equal(whole[:rows, :cols], matrix)
    assert whole.sum(dtype=np.float64) == matrix.sum(dtype=np.float64)


def test_a_tile_of_a_transposed_view_is_row_major() -> None:
    assert bytes(tile(counting(32, 32).T, 0, 0, 32)) == counting(32, 32).T.tobytes()


def test_vectors_share_one_sheet_in_name_order() -> None:
    held = weights(b=(3,), a=(2,), matrix=(40, 40))
    manifest = build(CONFIG, None, held)
    bundle = next(sheet for sheet in sheets(held, manifest.side) if sheet.name == "bundle")
    assert bundle.array.reshape(-1)[:6].tolist() == [0, 1, 0, 1, 2, 0]
    assert (manifest.tensors["a"].offset, manifest.tensors["b"].offset) == (0, 2)
    assert manifest.tensors["bundle"].shape == (1, manifest.side)


def test_vectors_of_two_formats_share_a_float32_sheet() -> None:
    held = {
        "a": Weight(np.array([1.5, 2], "<f2"), "f16"),
        "b": Weight(np.array([0x3F80], "<u2"), "bf16"),  # 1.0
    }
    (bundle,) = sheets(held, 32)
    assert (bundle.form, bundle.array.reshape(-1)[:3].tolist()) == ("f32", [1.5, 2, 1])


@pytest.mark.parametrize(
    ("shapes", "side"),
    [
        ({"word": (30522, 384), "up": (384, 1536), "bias": (1536,)}, 128),  # MiniLM
        ({"word": (30522, 768), "up": (768, 3072), "bias": (3072,)}, 128),  # BERT-base
        ({f"linear{number}": (64, 64) for number in range(40)} | {"bias": (64,)}, 64),
        ({"query": (96, 96), "up": (96, 200), "bias": (96,)}, 32),
    ],
)
def test_a_side_other_than_128_is_taken_only_where_it_saves(
    shapes: Mapping[str, tuple[int, ...]], side: int
) -> None:
    assert choose_side(weights(**shapes)) == side


def test_a_manifest_names_blocks_by_format_shape_and_bytes() -> None:
    manifest = build(CONFIG, None, weights(matrix=(64, 64)))
    grid = manifest.tensors["matrix"].grid
    assert grid == [[block_hash("f32", 64, 64, counting(64, 64).tobytes())]]


def test_a_versions_hash_covers_config_tokenizer_and_every_block() -> None:
    plain = build(CONFIG, None, weights(matrix=(64, 64)))
    changed = counting(64, 64)
    changed[63, 63] = -1
    assert plain.hash == build(CONFIG, None, weights(matrix=(64, 64))).hash
    others = [
        build(CONFIG, b"{}", weights(matrix=(64, 64))),
        build(CONFIG, None, weights(other=(64, 64))),
        build(CONFIG, None, {"matrix": Weight(changed, "f32")}),
        build(Config("encoder", 64, 2, 2, 0, "relu", 1e-5), None, weights(matrix=(64, 64))),
    ]
    assert len({plain.hash, *(other.hash for other in others)}) == 5


def test_a_versions_hash_is_that_of_its_canonical_json() -> None:
    manifest = build(CONFIG, None, weights(matrix=(32, 32), bias=(2,)))
    matrix = block_hash("f32", 32, 32, counting(32, 32).tobytes()).hex()
    bias = counting(2).tobytes() + bytes(32 * 32 * 4 - 8)
    bundle = block_hash("f32", 32, 32, bias).hex()
    text = (
        f'{{"config":{CONFIG.to_json()},"tensors":{{"bias":{{"offset":0,"shape":[2]}},'
        f'"bundle":{{"grid":[["{bundle}"]],"shape":[1,32]}},'
        f'"matrix":{{"grid":[["{matrix}"]],"shape":[32,32]}}}},"tokenizer":null}}'
    )
    assert manifest.hash == hashlib.sha256(text.encode()).digest()


def test_a_small_versions_bundle_is_not_filled_up_with_zeros() -> None:
    held = weights(**{f"linear{n}": (64, 64) for n in range(8)}, bias=(1000,))
    manifest = build(CONFIG, None, held)
    assert manifest.side == 64
    assert manifest.tensors["bundle"].shape == (16, 64)
    [[name]] = manifest.tensors["bundle"].grid or []
    data = counting(1000).tobytes() + bytes(24 * 4)
    assert name == block_hash("f32", 16, 64, data)
    cut = list(cut_blocks(held, manifest, set(manifest.block_names())))
    assert cut[-1] == (Kind("f32", 16, 64), name, data)


def test_a_large_versions_bundle_is_filled_up() -> None:
    held = weights(word=(30720, 128), bias=(1000,))
    manifest = build(CONFIG, None, held)
    [[name]] = manifest.tensors["bundle"].grid or []
    assert name == block_hash("f32", 128, 128, counting(1000).tobytes() + bytes(65536 - 4000))


def test_equal_blocks_of_one_version_are_cut_once() -> None:
    held = {name: Weight(np.ones((128, 128), "<f4"), "f32") for name in ("a", "b")}
    manifest = build(CONFIG, None, held)
    names = list(manifest.block_names())
    assert len(names) > len(set(names))
    cut = list(cut_blocks(held, manifest, set(names)))
    assert [name for _, name, _ in cut] == list(dict.fromkeys(names))


def test_pages_are_at_most_a_mebibyte_of_one_kind_in_order() -> None:
    f32, f16 = Kind("f32", 128, 128), Kind("f16", 128, 128)
    blocks = [
        (kind, bytes([number]) * 32, memoryview(bytes([number]) * size))
        for number in range(40)
        for kind, size in [(f32, 65536) if number % 3 else (f16, 32768)]
    ]
    pages = list(pack(blocks))
    assert all(len(page.data) <= PAGE_BYTES for page in pages)
    assert [(page.kind.form, len(page.block_hashes)) for page in pages] == [
        ("f32", 16), ("f16", 14), ("f32", 10),
    ]  # fmt: skip
    for page in pages:
        assert page.hash == hashlib.sha256(page.data).digest()
        size = len(page.data) // len(page.block_hashes)
        slots = [page.data[start : start + 1] for start in range(0, len(page.data), size)]
        assert slots == [name[:1] for name in page.block_hashes]


def test_a_small_model_takes_a_small_page() -> None:
    (page,) = pack([(Kind("f32", 32, 32), b"n" * 32, memoryview(bytes(4096)))])
    assert len(page.data) == 4096


def test_a_block_larger_than_a_page_has_a_page_of_its_own() -> None:
    large = memoryview(bytes(PAGE_BYTES + 1))
    kind = Kind("f32", 1, 1)
    assert len(list(pack([(kind, b"a", large), (kind, b"b", large)]))) == 2


def test_new_blocks_are_asked_for_in_batches() -> None:
    names = [number.to_bytes(32, "big") for number in range(2 * BATCH + 1)]
    asked: list[int] = []

    def stored_among(batch: list[bytes]) -> list[bytes]:
        asked.append(len(batch))
        return batch[:1]

    new = new_blocks([*names, *names], stored_among)  # type: ignore[arg-type]
    assert (asked, len(new)) == ([BATCH, BATCH, 1], 2 * BATCH - 2)

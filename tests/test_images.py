"""Vectors and labels of images equal those of transformers; what is no image is told."""

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
import tiny_images
import tiny_models
from PIL import Image
from tiny_files import Json, write_json

from pageformer.errors import InvalidCheckpoint, ServerUnready
from pageformer.loader.checkpoint import read
from pageformer.loader.load import load
from pageformer.udfs import pixels

RECORDED = Path(__file__).parent / "reference" / "recorded"
TOLERANCE, DEEP_TOLERANCE = 1e-5, 2e-5

Session = psycopg.Connection[Any]
Array = npt.NDArray[Any]


def recorded(model: str, reading: str) -> dict[str, Array]:
    """Return a reading of every image, by the image's name."""
    with np.load(RECORDED / f"{model}.npz") as arrays:
        found = [name for name in arrays.files if name.startswith(f"{reading} ")]
        return {name.partition(" ")[2]: arrays[name] for name in found}


IMAGES = {name: data.tobytes() for name, data in recorded("vit-odd", "bytes").items()}


@pytest.fixture(scope="module")
def session(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A connection to a database that holds every tiny vision model, and one for texts."""
    folder = tmp_path_factory.mktemp("models")
    with psycopg.connect(module_database, autocommit=True) as connection:
        for name in tiny_images.MODELS:
            load(connection, str(tiny_images.write(name, folder)), name=name)
        load(connection, str(tiny_models.write("bert-mean", folder)), name="bert-mean")
        connection.execute("set search_path = pageformer, public")
        yield connection


def one(session: Session, sql: str, *arguments: object) -> Any:
    [[value]] = session.execute(sql, arguments).fetchall()
    return value


def vector(session: Session, image: bytes, model: str, options: str = "") -> Array:
    text = one(session, f"select encode_image(%s, %s{options})::text", image, model)
    return as_array(text)


def as_array(vector: str) -> Array:
    return np.array(vector.strip("[]").split(","), np.float32)


def refusal(session: Session, sql: str, *arguments: object) -> tuple[str, str]:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(sql, arguments)
    return caught.value.diag.message_primary or "", caught.value.diag.message_hint or ""


# -- what is computed -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", tiny_images.MODELS)
def test_images_of_every_mode_and_format_have_the_reference_vectors(
    session: Session, model: str
) -> None:
    tolerance = DEEP_TOLERANCE if model.endswith("-deep") else TOLERANCE
    expected = recorded(model, "vector")
    assert expected.keys() == IMAGES.keys()
    for name, data in IMAGES.items():
        found = vector(session, data, model)
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("model", tiny_images.MODELS)
def test_relations_make_the_same_vectors(session: Session, model: str) -> None:
    for name in ("rgb.png", "wide.bmp"):
        text = one(session, "select encode_image_relational(%s, %s)::text", IMAGES[name], model)
        joined, fused = as_array(text), vector(session, IMAGES[name], model)
        np.testing.assert_allclose(joined, fused, rtol=0, atol=TOLERANCE, err_msg=name)


def test_labels_of_images_have_the_reference_scores(session: Session) -> None:
    for name, logits in recorded("vit-labels", "logits").items():
        sql = "select label, score from classify_image(%s, 'vit-labels')"
        found = session.execute(sql, [IMAGES[name]]).fetchall()
        shares = np.exp(logits.astype(np.float64) - logits.max())
        expected = {f"label {i}": s for i, s in enumerate((shares / shares.sum()).tolist())}
        assert dict(found) == pytest.approx(expected, rel=0, abs=TOLERANCE)
        assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)


def test_dimensions_are_cut_then_normalised(session: Session) -> None:
    whole = vector(session, IMAGES["rgb.png"], "vit-odd")
    cut = vector(session, IMAGES["rgb.png"], "vit-odd", ", dimensions => 10, normalized => true")
    np.testing.assert_allclose(cut, whole[:10] / np.linalg.norm(whole[:10]), atol=1e-6)


def test_null_has_no_vector_and_no_labels(session: Session) -> None:
    assert one(session, "select encode_image(null, 'vit-odd')") is None
    assert one(session, "select encode_image_relational(null, 'vit-odd')") is None
    assert session.execute("select * from classify_image(null, 'vit-labels')").fetchall() == []


def test_images_are_found_by_an_index(session: Session) -> None:
    session.execute("create temp table picture (name text, embedding vector(96))")
    for name in ("photo.jpg", "grey.png", "wide.bmp"):
        sql = "insert into picture values (%s, encode_image(%s, 'vit-deep'))"
        session.execute(sql, [name, IMAGES[name]])
    session.execute("create index on picture using hnsw (embedding vector_cosine_ops)")
    sql = "select name from picture order by embedding <=> encode_image(%s, 'vit-deep') limit 1"
    assert one(session, sql, IMAGES["rgb.png"]) == "photo.jpg"


def test_describe_tells_how_pixels_become_numbers(session: Session) -> None:
    told = dict(session.execute("select * from describe('vit-odd')").fetchall())
    expected = {
        "family": "vit",
        "pooling": "cls",
        "image": "30 x 37 pixels in patches of 7 x 9",
        "resized": "by Pillow's filter 3",
        "pixels' mean": "[0.485, 0.456, 0.406]",
        "tokenizer sha256": "none",
    }
    assert expected.items() <= told.items()


# -- what is no image -----------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """Write a PNG that claims a size and holds almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 99)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a text",
        IMAGES["rgb.png"][:60],
        IMAGES["photo.jpg"][:200],
        IMAGES["moving.gif"][:30],
        IMAGES["scan.tiff"][: len(IMAGES["scan.tiff"]) // 2],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_bytes_that_are_no_whole_image_are_refused(session: Session, data: bytes) -> None:
    message, hint = refusal(session, "select encode_image(%s, 'vit-odd')", data)
    assert message.startswith("pageformer: the bytes are not an image that can be decoded")
    assert "PNG, JPEG, WEBP" in hint


def test_without_pillow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ServerUnready) as caught:
        pixels.decode(IMAGES["rgb.png"])
    assert "pip install 'pageformer[images]'" in caught.value.hint


@pytest.mark.parametrize("side", [9500, 60000])
def test_an_image_that_would_fill_the_memory_is_refused(session: Session, side: int) -> None:
    message, hint = refusal(session, "select encode_image(%s, 'vit-odd')", png(side, side))
    assert message == "pageformer: the image has more than the 89478485 pixels that are decoded"
    assert hint.startswith("make it smaller before")


def test_a_model_that_does_not_resize_wants_its_own_size(session: Session, tmp_path: Path) -> None:
    directory = tiny_images.write("vit-raw", tmp_path)
    settings = {**tiny_images.PROCESSOR, "do_resize": False, "do_rescale": False}
    write_json(directory / "preprocessor_config.json", settings)
    load(session, str(directory), name="unsized")
    session.execute("set search_path = pageformer, public")
    assert len(vector(session, IMAGES["model-size.png"], "unsized")) == 96
    message, _ = refusal(session, "select encode_image(%s, 'unsized')", IMAGES["rgb.png"])
    assert message.startswith("pageformer: the image is 53 x 41 pixels, but this model takes 16 x ")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("encode_image('\\x00', 'bert-mean')", "bert-mean does not take images"),
        ("encode_image_relational('\\x00', 'bert-mean')", "bert-mean does not take images"),
        ("encode('a', 'vit-odd')", "this model has no tokenizer: it encodes images, not text"),
        ("encode_relational('a', 'vit-odd')", "this model has no tokenizer: it encodes images or"),
        ("tokenize('a', 'vit-odd')", "this model has no tokenizer: it encodes images, not text"),
        ("classify_image('\\x00', 'vit-odd')", "vit-odd does not have a head that classifies im"),
        ("encode_image('\\x00', 'vit-odd', 97)", "dimensions is 97, but this model has 96"),
        ("encode_image('\\x00', 'vit-odd', task => 'a')", "this function takes no task"),
    ],
)
def test_a_model_of_the_other_kind_says_so(session: Session, call: str, message: str) -> None:
    assert refusal(session, f"select {call}")[0].startswith(f"pageformer: {message}")


# -- what is refused before a weight is read ------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_channels", 1),
        ("image_size", [30, 37, 3]),
        ("image_size", "large"),
        ("patch_size", 0),
        ("patch_size", 64),
        ("hidden_act", "quick_gelu"),
        ("qkv_bias", "yes"),
    ],
)
def test_a_config_that_is_not_followed_is_refused_by_key(
    tmp_path: Path, key: str, value: object
) -> None:
    directory = tiny_images.write("vit-odd", tmp_path)
    (directory / "model.safetensors").unlink()
    model = tiny_images.MODELS["vit-odd"]
    write_json(directory / "config.json", {**tiny_images.config_of(model), key: value})
    with pytest.raises(InvalidCheckpoint) as caught:
        read(directory)
    assert f"config.json has {key} = {value!r}" in caught.value.message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_processor_type", "CLIPImageProcessor"),
        ("do_center_crop", True),
        ("do_pad", True),
        ("size", {"shortest_edge": 30}),
        ("size", 224),
        ("size", {"height": 30, "width": 37, "longest_edge": 99}),
        ("resample", 9),
        ("rescale_factor", "1/255"),
        ("image_mean", [0.5]),
        ("image_std", [1, 0, 1]),
        ("do_resize", "no"),
        ("do_thumbnail", True),
        ("data_format", "channels_last"),
    ],
)
def test_a_processor_that_is_not_followed_is_refused_by_key(
    tmp_path: Path, key: str, value: object
) -> None:
    directory = tiny_images.write("vit-odd", tmp_path)
    (directory / "model.safetensors").unlink()
    settings: Json = {**tiny_images.PROCESSOR, "size": {"height": 30, "width": 37}, key: value}
    write_json(directory / "preprocessor_config.json", settings)
    with pytest.raises(InvalidCheckpoint) as caught:
        read(directory)
    assert f"preprocessor_config.json has {key} = {value!r}" in caught.value.message


def test_a_directory_without_a_processor_is_refused(tmp_path: Path) -> None:
    directory = tiny_images.write("vit-odd", tmp_path)
    (directory / "preprocessor_config.json").unlink()
    with pytest.raises(InvalidCheckpoint, match=r"preprocessor_config\.json is missing"):
        read(directory)


def test_an_upright_image_equals_the_one_that_its_camera_turned(session: Session) -> None:
    turned = Image.open(io.BytesIO(IMAGES["turned-6.jpg"]))
    file = io.BytesIO()
    turned.transpose(Image.Transpose.ROTATE_270).save(file, "PNG")
    found = vector(session, IMAGES["turned-6.jpg"], "vit-odd")
    np.testing.assert_allclose(found, vector(session, file.getvalue(), "vit-odd"), atol=1e-6)

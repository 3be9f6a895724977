"""Ask transformers and sentence-transformers about images; run by `record.py`.

The bytes of the images are recorded with what was read from them, so that no test depends on what
Pillow writes today.
"""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from sentence_transformers import SentenceTransformer
from transformers import ViTForImageClassification, ViTImageProcessorPil, ViTModel
from transformers.image_utils import load_image

Arrays = dict[str, npt.NDArray[Any]]


def image_readings(directory: Path) -> Arrays:
    """Take each image's pixels, vector and labels, from a file, as the processor reads one."""
    arrays: Arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, data in images():
            path = Path(folder) / name
            path.write_bytes(data)
            arrays[f"bytes {name}"] = np.frombuffer(data, np.uint8)
            for reading, value in read(directory, path):
                arrays[f"{reading} {name}"] = value
    return arrays


def read(directory: Path, path: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield what is read from one image."""
    processor = ViTImageProcessorPil.from_pretrained(str(directory))
    pixels = processor(images=[str(path)], return_tensors="pt")["pixel_values"].float()
    with torch.inference_mode():
        if (directory / "modules.json").exists():
            model = SentenceTransformer(str(directory), device="cpu")
            yield "vector", model.encode([load_image(str(path))])[0]
            return
        encoder = ViTModel.from_pretrained(str(directory)).eval()
        yield "vector", encoder(pixels).last_hidden_state[0, 0].numpy()
        if "ForImage" in (directory / "config.json").read_text():
            classifier = ViTForImageClassification.from_pretrained(str(directory)).eval()
            yield "logits", classifier(pixels).logits[0].numpy()


def images() -> Iterator[tuple[str, bytes]]:
    """Draw images of every mode and format that is read."""
    picture = drawn(53, 41)
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    palette = picture.quantize(9)
    yield "rgb.png", saved(picture, "PNG")
    yield "wide.bmp", saved(drawn(90, 7), "BMP")
    yield "one-pixel.png", saved(drawn(1, 1), "PNG")
    yield "model-size.png", saved(drawn(16, 24), "PNG")
    yield "large.png", saved(drawn(640, 480), "PNG")
    yield "grey.png", saved(picture.convert("L"), "PNG")
    yield "grey-alpha.png", saved(clear.convert("LA"), "PNG")
    yield "alpha.png", saved(clear, "PNG")
    yield "palette.png", saved(palette, "PNG")
    yield "palette-clear.png", saved(palette, "PNG", transparency=2)
    yield "black-and-white.png", saved(picture.convert("1"), "PNG")
    yield "photo.jpg", saved(picture, "JPEG", quality=80)
    yield "cmyk.jpg", saved(picture.convert("CMYK"), "JPEG")
    for orientation in (3, 6, 7):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"turned-{orientation}.jpg", saved(picture, "JPEG", exif=exif.tobytes())
    frames = [drawn(20, 30), drawn(30, 20).resize((20, 30))]
    yield "moving.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "photo.webp", saved(picture, "WEBP", lossless=True)
    yield "scan.tiff", saved(picture, "TIFF")
    yield "plain.ppm", saved(picture, "PPM")


def drawn(width: int, height: int) -> Image.Image:
    """Draw something of many colours that compresses well."""
    picture = Image.new("RGB", (width, height), (250, 200, 30))
    draw = ImageDraw.Draw(picture)
    for i in range(0, max(width, height), 5):
        colour = (i * 37 % 256, i * 91 % 256, i * 11 % 256)
        draw.line((i, 0, width - 2 * i, height), colour, 2)
        draw.ellipse((i, i // 2, i + 9, i + 7), colour)
    return picture


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    """Save an image as bytes."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()

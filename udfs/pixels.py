"""From the bytes of an image to the numbers that a vision model sees, as transformers makes them.

Follows ViTImageProcessor with Pillow: turned as its camera held it, made RGB, resized, scaled,
normalised per channel. Decoding is Pillow's, which the extra `images` brings.
"""

import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pageformer.errors import InvalidInput, ServerUnready
from pageformer.udfs.blocks import Array

if TYPE_CHECKING:
    from PIL import Image

# What Pillow decodes by itself; others start programs (EPS) or are not images of one picture.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


def patches(data: bytes, image: Mapping[str, Any]) -> Array:
    """Return an image's patches, row by row, each channel by channel.  # -> [patches, c h w]

    Raises InvalidInput for bytes that are no such image, and ServerUnready without Pillow.
    """
    picture = decode(data)
    height, width = image["size"]
    if image["resample"] is not None:
        picture = picture.resize((width, height), resample=image["resample"])
    elif (picture.height, picture.width) != (height, width):
        raise InvalidInput(
            f"the image is {picture.width} x {picture.height} pixels, but this model takes "
            f"{width} x {height} and does not resize",
            hint="resize it before",
        )
    return cut(normalize(np.asarray(picture), image), *image["patch"])


def decode(data: bytes) -> "Image.Image":
    """Decode an image as RGB, turned upright."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ServerUnready(
            "images are decoded by Pillow, which the server's Python does not have",
            hint="pip install 'pageformer[images]', then start the server again: pageformer up",
        ) from error
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=FORMATS)
            upright = ImageOps.exif_transpose(opened)
            return upright.convert("RGB")
    except bombs as error:
        raise InvalidInput(
            f"the image has more than the {Image.MAX_IMAGE_PIXELS} pixels that are decoded",
            hint="make it smaller before: a model sees some hundred pixels a side",
        ) from error
    except Exception as error:  # Pillow raises whatever a damaged file makes it stumble over
        raise InvalidInput(
            f"the bytes are not an image that can be decoded: {error}",
            hint=f"give the bytes of a file of one of these formats: {', '.join(FORMATS)}",
        ) from error


def normalize(pixels: Array, image: Mapping[str, Any]) -> Array:
    """Scale pixels, then subtract the mean and divide by the deviation of each channel.

    # [height, width, channels] -> the same
    """
    if image["scale"] is not None:
        pixels = (pixels.astype(np.float64) * image["scale"]).astype(np.float32)
    pixels = pixels.astype(np.float32)
    if image["mean"] is not None:
        mean, deviation = (np.array(image[name], np.float32) for name in ("mean", "std"))
        pixels = (pixels - mean) / deviation
    return pixels


def cut(pixels: Array, height: int, width: int) -> Array:
    """Cut into patches, leaving out what does not fill one.  # [h, w, c] -> [patches, c h w]"""
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    whole = pixels[: rows * height, : columns * width]
    grid = whole.reshape(rows, height, columns, width, -1).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(grid.reshape(rows * columns, -1))

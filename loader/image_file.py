"""Read how a directory makes numbers of pixels: its `preprocessor_config.json`.

Follows ViTImageProcessor of transformers 5.23 with Pillow. A setting that the server does not
follow exactly is refused by its key.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.json_file import Json, read_object
from pageformer.loader.steps import check_settings, refused

NAME = "preprocessor_config.json"
CLASSES = ("ViTImageProcessor", "ViTImageProcessorFast", "ViTImageProcessorPil")
FILTERS = range(6)  # of Pillow: nearest, Lanczos, bilinear, bicubic, box, Hamming

# Settings that change what the model sees, each with the values that do not.
HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "image_processor_type": (*CLASSES, None),
    "feature_extractor_type": ("ViTFeatureExtractor", None),
    "do_center_crop": (False, None),
    "do_pad": (False, None),
    "default_to_square": (True, None),
    "data_format": ("channels_first", None),
    "input_data_format": (None,),
    "auto_map": ({}, None),
}
# Settings that are read here, or that change nothing: an image is always made RGB.
KNOWN = {
    *HARMLESS,
    *("do_resize", "size", "resample", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std"),
    *("do_convert_rgb", "crop_size", "pad_size", "processor_class", "return_tensors"),
    *("disable_grouping", "device", "_valid_processor_keys", "transformers_version"),
}


def read_image_settings(folder: Path, image: Mapping[str, Any]) -> Json:
    """Return what is done to the pixels of an image before a model of these sizes sees it.

    resample: Pillow's filter, null where images must have the size already. scale: what a pixel
    is multiplied by. mean, std: per channel, null where nothing is subtracted.
    """
    path = folder / NAME
    if not path.exists():
        raise InvalidCheckpoint(
            f"{path} is missing", hint="Save it: ViTImageProcessor().save_pretrained(…)"
        )
    settings = read_object(path)
    check_settings(path, settings, HARMLESS)
    unknown = [key for key in settings if key not in KNOWN and settings[key] not in (None, False)]
    if unknown:
        raise refused(path, unknown[0], settings[unknown[0]], ("nothing",))
    normalizes = _flag(path, settings, "do_normalize")
    return {
        "resample": _resample(path, settings, list(image["size"])),
        "scale": _scale(path, settings),
        "mean": _channels(path, settings, "image_mean", image) if normalizes else None,
        "std": _channels(path, settings, "image_std", image) if normalizes else None,
    }


def _flag(path: Path, settings: Json, key: str) -> bool:
    value = settings.get(key)
    if not isinstance(value, bool | None):
        raise refused(path, key, value, ("true", "false"))
    return value is not False


def _resample(path: Path, settings: Json, wanted: list[int]) -> int | None:
    if not _flag(path, settings, "do_resize"):
        return None
    named = settings.get("size") or 224
    size = {"height": named, "width": named} if isinstance(named, int) else named
    exact = dict(zip(("height", "width"), wanted, strict=True))
    given = isinstance(size, dict) and {k: v for k, v in size.items() if v is not None}
    if given != exact:
        raise refused(path, "size", named, (f"the model's {exact}",))
    resample = settings.get("resample")
    resample = 2 if resample is None else resample
    if resample not in FILTERS:
        raise refused(path, "resample", resample, ("0 to 5",))
    return int(resample)


def _scale(path: Path, settings: Json) -> float | None:
    if not _flag(path, settings, "do_rescale"):
        return None
    value = settings.get("rescale_factor")
    value = 1 / 255 if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise refused(path, "rescale_factor", value, ("a number above 0",))
    return float(value)


def _channels(path: Path, settings: Json, key: str, image: Mapping[str, Any]) -> list[float]:
    value = settings.get(key)
    value = [0.5] * image["channels"] if value is None else value
    values = value if isinstance(value, list) else [value] * image["channels"]
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in values)
    if not numbers or len(values) != image["channels"] or (key == "image_std" and 0 in values):
        raise refused(path, key, value, (f"{image['channels']} numbers",))
    return [float(n) for n in values]

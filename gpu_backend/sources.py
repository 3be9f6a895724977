"""The CUDA source of the kernels: each file with what it includes, as one text."""

import re
from importlib.resources import files

FILES = ("activation", "attention", "layer_norm", "softmax")
ELEMENTS = ("float32", "float16", "bfloat16")
INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


def source(file: str) -> str:
    """Return a file with the text of what it includes in place: a compiler needs no path."""
    folder = files("pageformer.gpu_backend").joinpath("cuda")
    text = folder.joinpath(f"{file}.cu").read_text("utf-8")
    return INCLUDE.sub(lambda found: folder.joinpath(found[1]).read_text("utf-8"), text)


def kernels(file: str) -> list[str]:
    """Return the names of the kernels in a file."""
    if file == "attention":
        return [f"attention_{width}_{element}" for width in (32, 64, 128) for element in ELEMENTS]
    return [f"{file}_{element}" for element in ELEMENTS]

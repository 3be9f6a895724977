"""Fine-tunes for tests: a model's own files with seeded noise on some of its tensors."""

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def tune(source: Path, directory: Path, *, seed: int = 1, half: bool = False) -> Path:
    """Write a fine-tune of the model in `source`: noise on the last layer, in float16 if `half`."""
    shutil.copytree(source, directory)
    file = directory / "model.safetensors"
    tensors, random = load_file(file), np.random.default_rng(seed)
    numbers = {int(name.split("layer.")[1].split(".")[0]) for name in tensors if "layer." in name}
    for name, tensor in tensors.items():
        if f"layer.{max(numbers)}." in name and tensor.ndim == 2:
            noise = random.normal(0, 0.05 * tensor.std(), tensor.shape)
            tensors[name] = tensor + noise.astype(tensor.dtype)
        if half and tensors[name].dtype == np.float32:
            tensors[name] = tensors[name].astype(np.float16)
    save_file(tensors, file, metadata={"format": "pt"})
    return directory


def tune_part(source: Path, directory: Path, part: float) -> int:
    """Write a fine-tune with noise on whole matrices of the layers; return how many bytes moved.

    part: of the bytes of all tensors, at most.
    """
    shutil.copytree(source, directory)
    file = directory / "model.safetensors"
    tensors, random = load_file(file), np.random.default_rng(1)
    most = part * sum(tensor.nbytes for tensor in tensors.values())
    moved = 0
    for name in random.permutation([n for n in sorted(tensors) if "layer." in n]).tolist():
        tensor = tensors[name]
        if tensor.ndim == 2 and moved + tensor.nbytes <= most:
            noise = random.normal(0, 0.05 * tensor.std(), tensor.shape)
            tensors[name] = tensor + noise.astype(tensor.dtype)
            moved += tensor.nbytes
    save_file(tensors, file, metadata={"format": "pt"})
    return moved

"""The package `deltatensors` on one variant, run by build/bench's interpreter.

`python deltatensors_peer.py BASE VARIANT FOLDER STRATEGY` writes FOLDER/variant.wdelta and the
model that comes back from it, and prints the bytes of the former.
"""

import sys
from pathlib import Path

import deltatensors
import numpy as np
import torch
from safetensors.torch import load_file, save_file


def main(base: Path, variant: Path, folder: Path, strategy: str) -> None:
    """Compress the tensors that both models have, restore them, and keep the others."""
    before, after = (load_file(path / "model.safetensors") for path in (base, variant))
    shared = {name: t for name, t in after.items() if name in before and t.is_floating_point()}
    bases = {name: before[name] for name in shared}
    file = folder / "variant.wdelta"
    deltatensors.save_delta(file, shared, bases, strategy=strategy)
    restored = deltatensors.load_delta(file, bases)
    tensors = {name: torch.from_numpy(np.array(restored[name])) for name in shared}
    tensors = {name: t.to(after[name].dtype).contiguous() for name, t in tensors.items()}
    save_file({**after, **tensors}, folder / "model.safetensors", metadata={"format": "pt"})
    print(file.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])

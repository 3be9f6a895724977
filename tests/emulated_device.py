"""The GPU's operators without a GPU: its kernels, compiled for the CPU, over NumPy's arrays.

Arrays keep apart from the host's as in separate_memory.py; kernels run thread by thread in
emulated_device.h.
"""

import ctypes
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from separate_memory import ArrayModule, DeviceArray

from pageformer.gpu_backend.arena import Arena, Lease
from pageformer.gpu_backend.buffer_pool import BufferPool
from pageformer.gpu_backend.fused import FLOAT32, FusedOperators
from pageformer.gpu_backend.launches import SHARED_BYTES, Launch
from pageformer.gpu_backend.sources import kernels, source
from pageformer.udfs.blocks import Array

HEADER = Path(__file__).with_name("emulated_device.h")


@cache
def library(file: str) -> ctypes.CDLL:
    """Compile a file of kernels for this CPU."""
    text = f'#include "{HEADER}"\n' + source(file).replace("extern __shared__ float shared[];", "")
    text += "".join(f"LAUNCH({name})\n" for name in kernels(file))
    with tempfile.TemporaryDirectory() as folder:
        written, made = Path(folder, f"{file}.cpp"), Path(folder, f"{file}.so")
        written.write_text(text)
        command = ["g++", "-std=c++17", "-O1", "-mf16c", "-w", "-shared", "-fPIC", "-o", str(made)]
        subprocess.run([*command, str(written)], check=True)
        return ctypes.CDLL(str(made))


def address(value: Any) -> Any:
    """Return a C value: a pointer to an array's numbers, or the number itself."""
    if value is None:
        return ctypes.c_void_p()
    if isinstance(value, DeviceArray):
        assert value.held.flags.c_contiguous
        return ctypes.c_void_p(value.held.ctypes.data)
    return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())


def leased(memory: Any, start: int, stop: int, lease: Lease) -> DeviceArray:
    """View bytes of a NumPy array; every view of them keeps the lease."""
    kept = (ctypes.c_ubyte * (stop - start)).from_buffer(memory, start)
    kept.lease = lease  # type: ignore[attr-defined]
    return DeviceArray(np.frombuffer(kept, np.uint8))


class EmulatedOperators(FusedOperators):
    """Compute the operators with emulated kernels."""

    name = "emulated device"
    xp: Any = ArrayModule()

    def __init__(self, element: Any = FLOAT32, limit: int = 1 << 30) -> None:
        super().__init__(BufferPool(limit), element)
        self.launched: list[str] = []
        self.arena = Arena(lambda size: np.full(size, 255, np.uint8), leased)

    def launch(self, launch: Launch, *arguments: Any) -> None:
        assert launch.shared <= SHARED_BYTES
        self.launched.append(launch.kernel)
        held = [address(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
        run = getattr(library(launch.file), f"launch_{launch.kernel}")
        run(*launch.grid, launch.threads, pointers)

    def product(self, x: Any, W: Any, out: Any) -> None:
        out.held[:] = x.held.astype(np.float32) @ W.held.astype(np.float32)

    def empty(self, shape: tuple[int, ...], element: Any) -> Any:
        size = int(np.prod(shape)) * np.dtype(element).itemsize
        if not size:
            return super().empty(shape, element)
        return self.arena.take(size).view(element).reshape(shape)

    def fetched(self, values: Any) -> Array:
        """Copy an array of the device to the host."""
        return values.held.copy()  # type: ignore[no-any-return]


def emulated(**options: Any) -> EmulatedOperators:
    """Return emulated operators; skip where no compiler can make them."""
    if not shutil.which("g++") or not sys.platform.startswith("linux"):
        pytest.skip("no g++ to compile the GPU's kernels for the CPU with")
    if "f16c" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor does not convert half precision")
    return EmulatedOperators(**options)

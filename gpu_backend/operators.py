"""The operators on an NVIDIA GPU: CuPy's memory and cuBLAS's products around kernels of our own."""

from functools import cache
from typing import Any

import cupy
import numpy as np
from cupy.cuda import MemoryPointer, UnownedMemory

from pageformer.errors import NotBuilt, ServerUnready
from pageformer.gpu_backend.arena import Arena, Lease
from pageformer.gpu_backend.buffer_pool import BufferPool
from pageformer.gpu_backend.fused import FLOAT32, FusedOperators
from pageformer.gpu_backend.launches import Launch
from pageformer.gpu_backend.sources import source
from pageformer.udfs.blocks import Array

PART_FOR_WEIGHTS = 0.7  # of the memory that is free when the first model comes
CUDA_TYPES = {"float32": 0, "float16": 2, "bfloat16": 14}  # cudaDataType_t
ONE, ZERO = np.ones(1, np.float32), np.zeros(1, np.float32)


class GpuOperators(FusedOperators):
    """Compute the operators of an encoder on the current device."""

    name = "gpu"
    xp: Any = cupy

    def __init__(self, kept: BufferPool | None = None, element: Any = FLOAT32) -> None:
        if kept is None:
            free, _ = device_memory()
            kept = BufferPool(int(free * PART_FOR_WEIGHTS))
        super().__init__(kept, element)
        self.arena = Arena(allocate, leased)
        self._others: dict[str, GpuOperators] = {}

    def at(self, compute: str) -> "GpuOperators":
        """Return the operators that compute in a precision, over the same weights' memory."""
        if compute in ("auto", self.element.name):
            return self
        if compute not in self._others:
            self._others[compute] = GpuOperators(self.kept, element_type(compute))
        return self._others[compute]

    def launch(self, launch: Launch, *arguments: Any) -> None:
        """Run a kernel on the current stream."""
        function = module(launch.file).get_function(launch.kernel)
        function(launch.grid, (launch.threads,), arguments, shared_mem=launch.shared)

    def product(self, x: Array, W: Array, out: Array) -> None:
        """Compute x W by cuBLAS, whose matrices are transposed: W^T x^T.  # [n, k], [k, m]"""
        from cupy_backends.cuda.libs import cublas

        (n, k), m, given = x.shape, W.shape[1], CUDA_TYPES[x.dtype.name]
        cublas.gemmEx(
            *(cupy.cuda.device.get_cublas_handle(), cublas.CUBLAS_OP_N, cublas.CUBLAS_OP_N),
            *(m, n, k, ONE.ctypes.data),
            *(W.data.ptr, given, m, x.data.ptr, given, k),  # type: ignore[attr-defined]
            *(ZERO.ctypes.data, out.data.ptr, CUDA_TYPES[out.dtype.name], m),  # type: ignore[attr-defined]
            *(cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT),
        )

    def empty(self, shape: tuple[int, ...], element: Any) -> Array:
        """Return an array of the arena, whose numbers are not set yet."""
        size = int(np.prod(shape)) * np.dtype(element).itemsize
        if not size:
            return super().empty(shape, element)
        return self.arena.take(size).view(element).reshape(shape)  # type: ignore[no-any-return]

    def fetched(self, values: Array) -> Array:
        """Copy an array of the device to the host."""
        copied: Array = cupy.asnumpy(values)
        return copied


@cache
def module(file: str) -> Any:
    """Compile a file of kernels for the current device; CuPy keeps what was compiled."""
    return cupy.RawModule(code=source(file), options=("--std=c++17",))


def allocate(size: int) -> Any:
    """Take memory from CuPy's pool."""
    return cupy.cuda.alloc(size)


def leased(memory: Any, start: int, stop: int, lease: Lease) -> Any:
    """View bytes of a piece of memory; every view of them keeps it and the lease."""
    part = UnownedMemory(memory.ptr + start, stop - start, (memory, lease))
    return cupy.ndarray(stop - start, np.uint8, MemoryPointer(part, 0))


def element_type(compute: str) -> Any:
    """Return the element type of a precision.

    Raises NotBuilt when there is none, ServerUnready when it needs what is not installed.
    """
    if compute in ("float32", "float16"):
        return np.dtype(compute)
    if compute != "bfloat16":
        raise NotBuilt(
            f"this model is not computed in {compute} by backend 'gpu'",
            hint="run: select pageformer.set_compute(model, 'bfloat16')",
        )
    try:
        from ml_dtypes import bfloat16
    except ImportError as error:
        raise ServerUnready(
            "bfloat16 on the backend 'gpu' needs the package ml_dtypes",
            hint="install pageformer[gpu] for the server's Python",
        ) from error
    return np.dtype(bfloat16)


def device_memory() -> tuple[int, int]:
    """Return the bytes that are free on the current device, and all; raises ServerUnready."""
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            raise missing("it counts none")
        free, total = cupy.cuda.runtime.memGetInfo()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise missing(str(error)) from error
    return free, total


def missing(reason: str) -> ServerUnready:
    """Describe that CuPy is there and a device is not."""
    return ServerUnready(
        f"backend 'gpu' is not available: CuPy {cupy.__version__} finds no device: {reason}",
        hint="see what nvidia-smi says, or set backend to 'numpy'",
    )

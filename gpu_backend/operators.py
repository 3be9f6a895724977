"""The operators on an NVIDIA GPU, through CuPy."""

from typing import Any

import cupy
import numpy as np

from pageformer.errors import ServerUnready
from pageformer.gpu_backend.device import DeviceOperators
from pageformer.udfs.blocks import Array


class GpuOperators(DeviceOperators):
    """Compute the operators of an encoder with CuPy on the current device."""

    name = "gpu"
    xp: Any = cupy

    def __init__(self) -> None:
        try:
            devices = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise missing(str(error)) from error
        if not devices:
            raise missing("it counts none")

    def to_host(self, values: Array) -> Array:
        """Copy an array of the device to the host."""
        fetched: Array = np.asarray(cupy.asnumpy(values))
        return fetched


def missing(reason: str) -> ServerUnready:
    """Describe that CuPy is there and a device is not."""
    return ServerUnready(
        f"backend 'gpu' is not available: CuPy {cupy.__version__} finds no device: {reason}",
        hint="see what nvidia-smi says, or set backend to 'numpy'",
    )

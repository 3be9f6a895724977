"""Arrays that keep apart from NumPy's as a GPU's do, so that the device code runs without one.

An array of the host given where one of the device belongs is a TypeError, as in CuPy; as there,
numbers and index arrays are taken from either side.
"""

from typing import Any

import numpy as np

from pageformer.gpu_backend.device import DeviceOperators
from pageformer.udfs.blocks import Array

SCALARS = (int, float, np.generic)


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in the memory of a device that exists only in this test."""

    __array_priority__ = 100
    shape = property(lambda self: self.held.shape)
    ndim = property(lambda self: self.held.ndim)
    dtype = property(lambda self: self.held.dtype)
    T = property(lambda self: DeviceArray(self.held.T))

    def __init__(self, held: Any) -> None:
        self.held = held

    def __array__(self, *_: object, **__: object) -> Any:
        raise TypeError("implicit copy of a device array to the host")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return on_device(getattr(ufunc, method), inputs, options)

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: Any) -> Any:
        return DeviceArray(self.held[indices(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.held[indices(index)] = unwrap(value)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.held, name)
        return lambda *args, **options: on_device(method, args, options)


def indices(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(indices, index))
    return index.held if isinstance(index, DeviceArray) else index


def unwrap(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(unwrap, value))
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the host where one of the device belongs")
    return value.held if isinstance(value, DeviceArray) else value


def on_device(function: Any, args: Any, options: dict[str, Any]) -> Any:
    result = function(*unwrap(args), **{name: unwrap(value) for name, value in options.items()})
    return DeviceArray(result) if isinstance(result, np.ndarray) else result


class ArrayModule:
    """Offer NumPy's functions over device arrays."""

    def asarray(self, values: Any) -> DeviceArray:
        return values if isinstance(values, DeviceArray) else DeviceArray(np.array(values))

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        return lambda *args, **options: on_device(function, args, options)


class SeparateOperators(DeviceOperators):
    """Compute the operators in separate memory."""

    name = "separate memory"
    xp: Any = ArrayModule()

    def to_host(self, values: Array) -> Array:
        """Copy an array of the device to the host."""
        return unwrap(values).copy()  # type: ignore[no-any-return]

"""What changes when arrays live in memory of their own, whatever library computes there.

All else is inherited: NumPy's operators are written against an array module `xp`.
"""

import numpy as np

from pageformer.udfs.activations import ACTIVATIONS
from pageformer.udfs.blocks import Array
from pageformer.udfs.operators import Operators


class DeviceOperators(Operators):
    """Compute the operators with an array module that has NumPy's interface and its own memory."""

    def page_array(self, page: memoryview, name: bytes | None = None) -> Array:
        """Copy a page to the device, once: its blocks are views there from then on."""
        return self.array(np.frombuffer(page, np.float32))

    def activate(self, x: Array, activation: str) -> Array:
        """Apply an activation by name to all rows at once."""
        if activation not in ACTIVATIONS:
            return super().activate(x, activation)  # which refuses it
        return ACTIVATIONS[activation](self.xp, x)

    def normalize(self, x: Array) -> Array:
        """Scale each row to length 1 where it is: on the device, or fetched already."""
        return Operators().normalize(x) if isinstance(x, np.ndarray) else super().normalize(x)

"""Pages on the device: copied when a block is wanted, and once for all versions that share them."""

from collections.abc import Callable
from typing import Any

Opened = Callable[[], Any]  # returns the page as an array of the device


class PagedArray:
    """View elements of a page that is on the device only while there is room for it.

    What asks for numbers gets an array of the device; slicing and shaping copy nothing.
    """

    def __init__(
        self, opened: Opened, start: int, stop: int, shape: tuple[int, ...] | None = None
    ) -> None:
        self._opened = opened
        self._span = slice(start, stop)
        self.shape = shape or (stop - start,)

    def __getitem__(self, index: Any) -> Any:
        if len(self.shape) > 1 or not isinstance(index, slice):
            return self.array()[index]
        start, stop, _ = index.indices(self.shape[0])
        return PagedArray(self._opened, self._span.start + start, self._span.start + stop)

    def reshape(self, *shape: int) -> "PagedArray":
        """Return the same elements in another shape."""
        return PagedArray(self._opened, self._span.start, self._span.stop, shape)

    def ravel(self) -> Any:
        """Return the elements in storage order, on the device."""
        return self._opened()[self._span]

    def array(self) -> Any:
        """Return the elements as an array of the device."""
        return self.ravel().reshape(self.shape)

"""Memory that is kept from step to step: fresh pages cost more than arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm._layout import inverse_order, memory_order

Array = npt.NDArray[Any]


class Buffers:
    """Named arrays that share one allocation each, as large as was ever needed.

    An array of a name is overwritten when the name is asked for again.

    Examples
    --------
    >>> buffers = Buffers()
    >>> first = buffers.get("x", (4, 2), np.dtype("f4"))
    >>> np.shares_memory(first, buffers.get("x", (3, 2), np.dtype("f4")))
    True
    """

    def __init__(self) -> None:
        self._flat: dict[str, Array] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return a C-contiguous array with undefined contents."""
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.size < size or flat.dtype != dtype:
            flat = self._flat[name] = np.empty(size, dtype)
        return flat[:size].reshape(shape)

    def like(self, name: str, array: Array) -> Array:
        """Return an array of the same shape, dtype and order of axes in memory."""
        order = memory_order(array)
        stored = self.get(name, tuple(array.shape[i] for i in order), array.dtype)
        return stored.transpose(inverse_order(order))

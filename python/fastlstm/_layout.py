"""Order of axes in memory: sequences are taken as they lie, without a copy.

A recurrent layer may hand out (N, T, H) as a view of (T, N, H).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def memory_order(array: Array) -> list[int]:
    """Return the axes from the largest stride down, the last axis kept last.

    Examples
    --------
    >>> memory_order(np.zeros((2, 3, 4)).transpose(1, 0, 2))
    [1, 0, 2]
    """
    last = array.ndim - 1
    return [*sorted(range(last), key=lambda axis: -abs(array.strides[axis])), last]


def inverse_order(order: list[int]) -> list[int]:
    """Return the order that undoes a transposition.

    Examples
    --------
    >>> inverse_order([1, 2, 0])
    [2, 0, 1]
    """
    return sorted(range(len(order)), key=order.__getitem__)


def as_rows(array: Array, order: list[int]) -> Array:
    """Return the array as (rows, columns), rows in the given order of axes.

    A view where the array lies in this order, a copy where it does not.
    """
    ordered = np.ascontiguousarray(array.transpose(order))
    return ordered.reshape(math.prod(ordered.shape[:-1]), ordered.shape[-1])


def empty_in_order(
    shape: tuple[int, ...], order: list[int], dtype: np.dtype[Any]
) -> Array:
    """Return a new array of this shape whose axes lie in this order in memory."""
    stored = np.empty([shape[axis] for axis in order], dtype)
    return stored.transpose(inverse_order(order))

"""Checks of arguments at the door, with one clear line for what is wrong.

Only what C++ cannot see is checked here; the bindings check what they are handed.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGEST = 2**63 - 1  # the core's Index


def check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a layer's dtype; TypeError unless it is float32 or float64.

    Examples
    --------
    >>> check_dtype("float32")
    dtype('float32')
    """
    try:
        result = None if dtype is None else np.dtype(dtype)
    except TypeError:
        result = None
    if result not in (np.dtype(np.float32), np.dtype(np.float64)):
        shown = repr(dtype) if result is None else result
        raise TypeError(f"dtype must be float32 or float64, got {shown}")
    return result


def check_size(name: str, value: object, *, minimum: int = 1) -> int:
    """Return a size as int; an error that names it unless it is an int >= minimum.

    Examples
    --------
    >>> check_size("hidden_size", 128)
    128
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an int, got {_shown(value)}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    if int(value) > _LARGEST:
        raise ValueError(f"{name} must be at most {_LARGEST}, got {value}")
    return int(value)


def check_rng(rng: object) -> np.random.Generator:
    """Return a Generator; TypeError or ValueError unless it can be made of `rng`.

    Examples
    --------
    >>> check_rng(0).integers(10)
    np.int64(8)
    """
    try:
        return np.random.default_rng(rng)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        message = f"rng must be None, an int >= 0 or a Generator, got {_shown(rng)}"
        raise type(error)(message) from None


def check_real(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    above: float = -math.inf,
    high: float = math.inf,
    below: float = math.inf,
) -> float:
    """Return a finite number as float; an error that names it outside its range.

    Parameters
    ----------
    name : str
        What the message calls it.
    value : object
        A Python or NumPy number; bool is none.
    low, high : float
        Bounds that the value may reach.
    above, below : float
        Bounds that the value may not reach.

    Examples
    --------
    >>> check_real("momentum", 0.9, low=0, below=1)
    0.9
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {_shown(value)}")
    number = float(value)
    inside = low <= number <= high and above < number < below
    if not (math.isfinite(number) and inside):
        limits = [
            f"{sign} {bound:g}"
            for sign, bound in ((">=", low), (">", above), ("<=", high), ("<", below))
            if math.isfinite(bound)
        ]
        wanted = " and ".join(["finite", *limits])
        raise ValueError(f"{name} must be {wanted}, got {value}")
    return number


def check_array(
    name: str,
    value: object,
    dtype: npt.DTypeLike,
    shape: tuple[int, ...] | None = None,
) -> npt.NDArray[Any]:
    """Return the array; an error that names it unless dtype and shape fit exactly.

    Examples
    --------
    >>> check_array("bias", np.zeros(3), np.float64, (3,))
    array([0., 0., 0.])
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {_shown(value)}")
    if shape is not None and value.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
    expected = np.dtype(dtype)
    if value.dtype != expected:
        raise TypeError(
            f"{name} must have dtype {expected}, got {value.dtype}: "
            f"convert it with {name}.astype(np.{expected})"
        )
    return value


def _shown(value: object) -> str:
    text = repr(value)
    kind = type(value).__name__
    return f"{text} ({kind})" if len(text) <= 40 else f"a {kind}"

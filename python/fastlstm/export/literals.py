"""Arrays as the text of C initialisers, exact to the last bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_WIDTH = 88


def literals(array: npt.NDArray[Any]) -> list[str]:
    """Return each value as C reads it back: integers, or the shortest exact floats.

    Hexadecimal floats would need C++17.

    Examples
    --------
    >>> literals(np.array([0.1, -2, 1e-8], np.float32))
    ['0.1f', '-2.0f', '1e-08f']
    >>> literals(np.array([-128, 127], np.int8))
    ['-128', '127']
    """
    if array.dtype == np.float32:
        return [str(value) + "f" for value in array.ravel()]
    return [str(value) for value in array.ravel().tolist()]


def initializer(array: npt.NDArray[Any], indent: int) -> str:
    """Return nested braces, wrapped, that start at column `indent`.

    Examples
    --------
    >>> print(initializer(np.arange(4, dtype=np.int8).reshape(2, 2), 2))
    {
      {0, 1},
      {2, 3}}
    """
    pad = " " * indent
    if array.ndim > 1:
        inner = ",\n".join(pad + initializer(row, indent) for row in array)
        return f"{{\n{inner}}}"
    lines, line = [], "{"
    for index, text in enumerate(literals(array)):
        word = text + ("}" if index == math.prod(array.shape) - 1 else ",")
        if indent + len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line = f"{pad} {word}"
        else:
            line += word if line == "{" else f" {word}"
    return "\n".join([*lines, line])

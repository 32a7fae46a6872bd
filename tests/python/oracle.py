"""Everything that the slow NumPy reference computes, by name, and the comparison.

For the tests of the reference itself and of the library against it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golden_files import name_state

sys.path.append(str(Path(__file__).parents[1] / "reference"))

import recurrent as reference
import variants as variants

Array = npt.NDArray[Any]

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""Of the norm of the difference to the norm of the expected value."""


def check(wanted: dict[str, Array], got: dict[str, Array], dtype: str) -> None:
    assert set(got) == set(wanted)
    for name, value in got.items():
        assert value.shape == wanted[name].shape, name
        error = np.linalg.norm(value - wanted[name])
        assert error <= TOLERANCE[dtype] * np.linalg.norm(wanted[name]), name


def run_reference(
    net: reference.Network,
    params: dict[str, Array],
    x: Array,
    state: tuple[Array, ...],
    d_output: Array,
    d_state: tuple[Array, ...],
    marks: reference.Marks = reference.EVERY_STEP,
) -> dict[str, Array]:
    """Everything that follows from the given, by name; gradients by param's name."""
    output, last, tape = reference.forward(net, params, x, state, marks)
    d_x, d_first, grads = reference.backward(
        net, params, tape, d_output, d_state, marks
    )
    results = {"output": output, "d_x": d_x, **grads}
    return results | name_state(last, "{}_n") | name_state(d_first, "d_{}0")

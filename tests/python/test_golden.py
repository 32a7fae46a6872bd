"""Layers against what PyTorch computes, on every ISA, forward and every gradient."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from golden_files import FILES, Case, load_case, make_layer, name_state, state_parts

TOLERANCE = {"float32": 1e-5, "float64": 1e-11}
"""Of the norm of the difference to the norm of the expected value."""


@pytest.fixture(params=FILES, ids=[file.stem for file in FILES])
def case(request: pytest.FixtureRequest) -> Case:
    return load_case(request.param)


def take_state(case: Case, pattern: str) -> Any:
    parts = state_parts(case, pattern)
    return parts if len(parts) == 2 else parts[0]


def parts_of(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def check(wanted: dict[str, Any], got: dict[str, Any]) -> None:
    for name, value in got.items():
        expected = wanted[name]
        assert value.dtype == expected.dtype, name
        assert value.shape == expected.shape, name
        error = np.linalg.norm(value - expected) / np.linalg.norm(expected)
        assert error <= TOLERANCE[expected.dtype.name], name


def test_golden_values_cover_the_grid() -> None:
    names = ("num_layers", "bidirectional", "bias", "batch_first", "dtype")
    found: dict[str, set[tuple[Any, ...]]] = {"LSTM": set(), "GRU": set(), "RNN": set()}
    for file in FILES:
        about = load_case(file)["about"]
        defaults = {"num_layers": 1, "bias": True}
        options = defaults | about["options"]
        found[about["layer"]].add(tuple(options.get(name, False) for name in names))
    both, dtypes = (False, True), TOLERANCE
    grid = set(itertools.product((1, 2, 3), both, both, both, dtypes))
    assert found["LSTM"] == grid
    smaller = set(itertools.product((1, 2), both, [True], [False], dtypes))
    assert found["GRU"] >= smaller
    assert found["RNN"] >= smaller


def test_inference_agrees_with_torch(isa: str, case: Case) -> None:
    layer = make_layer(case)
    output, state = layer(case["x"], take_state(case, "{}0"))
    check(case, {"output": output} | name_state(parts_of(state), "{}_n"))


def test_training_agrees_with_torch(isa: str, case: Case) -> None:
    layer = make_layer(case)
    output, state, tape = layer.forward(case["x"], take_state(case, "{}0"))
    check(case, {"output": output} | name_state(parts_of(state), "{}_n"))

    d_state = take_state(case, "d_{}_n")
    d_x, d_first = layer.backward(case["d_output"], tape, d_state)
    check(case, {"d_x": d_x} | name_state(parts_of(d_first), "d_{}0"))
    assert set(layer.grads) == set(case["grads"])
    check(case["grads"], layer.grads)


def test_backward_twice_doubles_the_gradients(isa: str, case: Case) -> None:
    layer = make_layer(case)
    for _ in range(2):
        _, _, tape = layer.forward(case["x"], take_state(case, "{}0"))
        layer.backward(case["d_output"], tape, take_state(case, "d_{}_n"))
    check(case["grads"], {name: grad / 2 for name, grad in layer.grads.items()})

"""Layers against what PyTorch computes, on every ISA, forward and every gradient.

The values lie in golden/, written by tests/reference/generate_golden.py.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastlstm as fl

Array = npt.NDArray[Any]

FILES = sorted((Path(__file__).parent / "golden").glob("*.npz"))

TOLERANCE = {"float32": 1e-5, "float64": 1e-11}
"""Of the norm of the difference to the norm of the expected value."""


@pytest.fixture(params=FILES, ids=[file.stem for file in FILES])
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    with np.load(request.param) as file:
        case = dict(file)
    case["about"] = json.loads(str(case["about"]))
    for name in ("state", "grads"):
        case[name] = split(case[name], case["about"][name])
    return case


def split(flat: Array, shapes: dict[str, list[int]]) -> dict[str, Array]:
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(flat, ends[:-1])
    return {
        name: part.reshape(shape)
        for part, (name, shape) in zip(parts, shapes.items(), strict=True)
    }


def make_layer(case: dict[str, Any]) -> Any:
    about = case["about"]
    layer = getattr(fl, about["layer"])(*about["sizes"], **about["options"])
    layer.load_state_dict(case["state"])
    return layer


def take_state(case: dict[str, Any], pattern: str) -> Any:
    if pattern.format("c") in case:
        return case[pattern.format("h")], case[pattern.format("c")]
    return case[pattern.format("h")]


def name_state(state: Any, pattern: str) -> dict[str, Any]:
    parts = state if isinstance(state, tuple) else (state,)
    return {pattern.format(v): part for v, part in zip("hc", parts, strict=False)}


def check(wanted: dict[str, Any], got: dict[str, Any]) -> None:
    for name, value in got.items():
        expected = wanted[name]
        assert value.dtype == expected.dtype, name
        assert value.shape == expected.shape, name
        error = np.linalg.norm(value - expected) / np.linalg.norm(expected)
        assert error <= TOLERANCE[expected.dtype.name], name


def test_golden_values_cover_every_kind_of_layer() -> None:
    names = {file.stem.split("_")[0] for file in FILES}
    assert names == {"lstm", "gru", "rnn"}
    assert len(FILES) == 84


def test_inference_agrees_with_torch(isa: str, case: dict[str, Any]) -> None:
    layer = make_layer(case)
    output, state = layer(case["x"], take_state(case, "{}0"))
    check(case, {"output": output} | name_state(state, "{}_n"))


def test_training_agrees_with_torch(isa: str, case: dict[str, Any]) -> None:
    layer = make_layer(case)
    output, state, tape = layer.forward(case["x"], take_state(case, "{}0"))
    check(case, {"output": output} | name_state(state, "{}_n"))

    d_state = take_state(case, "d_{}_n")
    d_x, d_first = layer.backward(case["d_output"], tape, d_state)
    check(case, {"d_x": d_x} | name_state(d_first, "d_{}0"))
    assert set(layer.grads) == set(case["grads"])
    check(case["grads"], layer.grads)


def test_backward_twice_doubles_the_gradients(isa: str, case: dict[str, Any]) -> None:
    layer = make_layer(case)
    for _ in range(2):
        _, _, tape = layer.forward(case["x"], take_state(case, "{}0"))
        layer.backward(case["d_output"], tape, take_state(case, "d_{}_n"))
    check(case["grads"], {name: grad / 2 for name, grad in layer.grads.items()})

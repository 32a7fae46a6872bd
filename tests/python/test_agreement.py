"""The library against the slow NumPy reference, forward and every gradient.

Random shapes in float64; in both precisions, the shapes at which the core takes another
way through its work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlstm as fl
from golden_files import name_state
from oracle import TOLERANCE, check, reference, run_reference

Array = npt.NDArray[Any]

ACTIVATIONS = st.sampled_from(["tanh", "relu", "sigmoid", "linear"])

shapes = st.fixed_dictionaries(
    {
        "T": st.integers(1, 9),
        "N": st.integers(1, 20),
        "I": st.integers(1, 20),
        "H": st.integers(1, 36),
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "bias": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
    }
)

# T, N, I, H, and what they lead to in the core.
SHAPES = {
    "partly filled vectors": (5, 7, 3, 33),
    "chunks of several steps in BPTT": (70, 9, 5, 20),
    "chunks of one step": (3, 270, 9, 20),
    "steps cut in the d_W product": (2, 600, 9, 8),
    "one row, W_hh in place": (12, 1, 9, 100),
    "one row, W_hh packed": (6, 1, 9, 190),
    "one row, too few steps to pack": (3, 1, 9, 190),
    "two groups of rows in BPTT": (60, 17, 3, 20),
    "eight groups of rows in BPTT": (30, 130, 5, 18),
    "threads split the rows": (20, 40, 60, 60),
    "threads split the panels": (4, 8, 30, 370),
}

few_examples = settings(max_examples=25, deadline=None, derandomize=True)


def exact(value: Array) -> Array:
    return value.astype(np.float64)


def check_agreement(
    name: str, shape: dict[str, Any], *, dtype: str = "float64", **options: str
) -> None:
    T, N, I, H = (shape[size] for size in "TNIH")  # noqa: E741
    layers, two = shape["num_layers"], shape["bidirectional"]
    rng = np.random.default_rng(shape["seed"])
    layer = getattr(fl, name.upper())(
        I,
        H,
        layers,
        bidirectional=two,
        bias=shape["bias"],
        dtype=dtype,
        rng=rng,
        **options,
    )
    activations = {
        "cell_activation": options.get("nonlinearity", "tanh"),
        **{k: v for k, v in options.items() if k != "nonlinearity"},
    }
    net = reference.Network(name, layers, two, **activations)

    rows = layers * (2 if two else 1)
    parts = 2 if name == "lstm" else 1

    def draw(*size: int) -> Array:
        return rng.standard_normal(size).astype(dtype)

    def draw_state() -> tuple[Array, ...]:
        return tuple(draw(rows, N, H) for _ in range(parts))

    x, state, d_state = draw(T, N, I), draw_state(), draw_state()
    d_output = draw(T, N, H * (2 if two else 1))
    wanted = run_reference(
        net,
        {key: exact(value) for key, value in layer.params.items()},
        exact(x),
        tuple(map(exact, state)),
        exact(d_output),
        tuple(map(exact, d_state)),
    )

    def pack(parts: tuple[Any, ...]) -> Any:
        return parts if name == "lstm" else parts[0]

    def unpack(state: Any) -> tuple[Any, ...]:
        return state if name == "lstm" else (state,)

    output, last = layer(x, pack(state))
    got = {"output": output} | name_state(unpack(last), "{}_n")
    check({key: wanted[key] for key in got}, got, dtype)

    output, last, tape = layer.forward(x, pack(state))
    d_x, d_first = layer.backward(d_output, tape, pack(d_state))
    got = {"output": output, "d_x": d_x, **layer.grads}
    got |= name_state(unpack(last), "{}_n") | name_state(unpack(d_first), "d_{}0")
    check(wanted, got, dtype)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_every_way_of_the_core_agrees_with_reference(
    isa: str,
    name: str,
    dtype: str,
    shape: tuple[int, int, int, int],
    threads: Callable[[int], None],
) -> None:
    threads(3)
    options = {"num_layers": 1, "bidirectional": True, "bias": True, "seed": 8}
    check_agreement(name, dict(zip("TNIH", shape, strict=True)) | options, dtype=dtype)


@few_examples
@given(shapes, ACTIVATIONS, ACTIVATIONS)
def test_lstm_agrees_with_reference(
    shape: dict[str, Any], cell: str, output: str
) -> None:
    check_agreement("lstm", shape, cell_activation=cell, output_activation=output)


@few_examples
@given(shapes)
def test_gru_agrees_with_reference(shape: dict[str, Any]) -> None:
    check_agreement("gru", shape)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@few_examples
@given(shape=shapes)
def test_rnn_agrees_with_reference(nonlinearity: str, shape: dict[str, Any]) -> None:
    check_agreement("rnn", shape, nonlinearity=nonlinearity)

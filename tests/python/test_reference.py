"""The library against the slow NumPy reference, in float64, on random shapes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlstm as fl

sys.path.append(str(Path(__file__).parents[1] / "reference"))

import recurrent as reference

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

few_examples = settings(max_examples=25, deadline=None, derandomize=True)


def check_agreement(name: str, shape: dict[str, Any], **options: str) -> None:
    T, N, I, H = (shape[size] for size in "TNIH")  # noqa: E741
    layers, two = shape["num_layers"], shape["bidirectional"]
    rng = np.random.default_rng(shape["seed"])
    layer = getattr(fl, name.upper())(
        I,
        H,
        layers,
        bidirectional=two,
        bias=shape["bias"],
        dtype=np.float64,
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

    def draw_state() -> tuple[npt.NDArray[np.float64], ...]:
        return tuple(rng.standard_normal((rows, N, H)) for _ in range(parts))

    x, state, d_state = rng.standard_normal((T, N, I)), draw_state(), draw_state()
    output, last, tape = reference.forward(net, layer.params, x, state)
    d_output = rng.standard_normal(output.shape)
    d_x, d_first, grads = reference.backward(net, layer.params, tape, d_output, d_state)

    def pack(parts: tuple[Any, ...]) -> Any:
        return parts if name == "lstm" else parts[0]

    def unpack(state: Any) -> tuple[Any, ...]:
        return state if name == "lstm" else (state,)

    called, called_last = layer(x, pack(state))
    got, got_last, got_tape = layer.forward(x, pack(state))
    got_d_x, got_d_first = layer.backward(d_output, got_tape, pack(d_state))
    pairs = [("output", got, output), ("call", called, output), ("d_x", got_d_x, d_x)]
    for i in range(parts):
        pairs.append((f"state {i}", unpack(got_last)[i], last[i]))
        pairs.append((f"call's state {i}", unpack(called_last)[i], last[i]))
        pairs.append((f"d_state {i}", unpack(got_d_first)[i], d_first[i]))
    pairs += [(key, layer.grads[key], grads[key]) for key in grads]
    for key, value, expected in pairs:
        error = np.linalg.norm(value - expected)
        assert error <= 1e-12 * np.linalg.norm(expected), key


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

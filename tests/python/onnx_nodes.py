"""Runs an LSTM, GRU or RNN node of ONNX with the library's layers, for tests.

Takes attributes and inputs by ONNX's names and gives its outputs; gates, biases and
peepholes are put in the library's order. https://onnx.ai/onnx/operators/onnx__LSTM.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import fastlstm as fl

Array = npt.NDArray[Any]

GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Places of the library's gates in ONNX's i, o, f, c and z, r, h."""

ACTIVATIONS = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "RNN": ["Tanh"],
}
"""ONNX's defaults in one direction."""

KEYWORDS = {
    "LSTM": ("recurrent_activation", "cell_activation", "output_activation"),
    "GRU": ("recurrent_activation", "cell_activation"),
    "RNN": ("nonlinearity",),
}

NAMES = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Affine": "affine",
    "LeakyRelu": "leaky_relu",
    "ThresholdedRelu": "thresholded_relu",
    "ScaledTanh": "scaled_tanh",
    "HardSigmoid": "hard_sigmoid",
    "Elu": "elu",
    "Softsign": "softsign",
    "Softplus": "softplus",
}

TAKES_ALPHA = {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid"}
TAKES_ALPHA |= {"Elu"}
TAKES_BETA = {"Affine", "ScaledTanh", "HardSigmoid"}


def run_node(
    kind: str, attrs: dict[str, Any], given: dict[str, Array]
) -> dict[str, Array]:
    """Y (T, D, N, H), Y_h and, of an LSTM, Y_c (D, N, H); batch first with layout 1."""
    batch_first = attrs.get("layout", 0) == 1
    directions, _, hidden = given["R"].shape
    reverse = attrs.get("direction") == "reverse"
    layer = make_layer(kind, attrs, given)
    x = given["X"]
    batch = x.shape[0 if batch_first else 1]
    lengths = given.get("sequence_lens")
    lengths = None if lengths is None else lengths.astype(np.int64)

    def state(name: str) -> Array:
        if name not in given:
            return np.zeros((directions, batch, hidden), x.dtype)
        value = given[name]
        return np.ascontiguousarray(value.swapaxes(0, 1)) if batch_first else value

    order = backwards(x, lengths, batch_first) if reverse else ...
    first: Any = state("initial_h")
    if kind == "LSTM":
        first = (first, state("initial_c"))
    out, last = run(layer, x[order], first, lengths=lengths)
    y = out[order]
    y = y.reshape(*y.shape[:2], directions, hidden)
    finals = last if kind == "LSTM" else (last,)
    results = {"Y": y if batch_first else y.swapaxes(1, 2)}
    for name, value in zip(("Y_h", "Y_c"), finals, strict=False):
        results[name] = value.swapaxes(0, 1) if batch_first else value
    return results


def make_layer(kind: str, attrs: dict[str, Any], given: dict[str, Array]) -> Any:
    directions, _, inputs = given["W"].shape
    hidden = given["R"].shape[2]
    options: dict[str, Any] = {
        "bias": "B" in given,
        "batch_first": attrs.get("layout", 0) == 1,
        "bidirectional": directions == 2,
        "dtype": given["W"].dtype,
    }
    for keyword, both in zip(KEYWORDS[kind], activations(kind, attrs), strict=True):
        options[keyword] = both if directions == 2 else both[0]
    if attrs.get("clip"):
        options["clip"] = attrs["clip"]
    if kind == "LSTM":
        options |= {
            "peepholes": "P" in given,
            "coupled": bool(attrs.get("input_forget")),
        }
    if kind == "GRU":
        options["reset_after"] = bool(attrs.get("linear_before_reset", 0))
    layer = getattr(fl, kind)(inputs, hidden, **options)
    for d, end in enumerate(("_l0", "_l0_reverse")[:directions]):
        layer.params["weight_ih" + end][...] = our_order(kind, given["W"][d])
        layer.params["weight_hh" + end][...] = our_order(kind, given["R"][d])
        if "B" in given:
            side_x, side_h = (our_order(kind, b) for b in np.split(given["B"][d], 2))
            if kind == "GRU":  # the bias of n on the side of h stands apart
                layer.params["bias_hn" + end][...] = side_h[2 * hidden :]
                side_h[2 * hidden :] = 0
            layer.params["bias" + end][...] = side_x + side_h
        if "P" in given:
            i, o, f = np.split(given["P"][d], 3)
            layer.params["weight_peephole" + end][...] = np.concatenate([i, f, o])
    return layer


def activations(kind: str, attrs: dict[str, Any]) -> Iterator[list[Any]]:
    """Of each place in the cell: forward and reverse, with their alpha and beta."""
    names = attrs.get("activations") or ACTIVATIONS[kind] * 2
    alphas, betas = (iter(attrs.get(f"activation_{p}", [])) for p in ("alpha", "beta"))
    found = []
    for name in names:
        known = next(known for known in NAMES if known.lower() == name.lower())
        numbers = [next(alphas, None)] if known in TAKES_ALPHA else []
        numbers += [next(betas, None)] if known in TAKES_BETA else []
        numbers = [number for number in numbers if number is not None]
        found.append((NAMES[known], *numbers) if numbers else NAMES[known])
    places = len(ACTIVATIONS[kind])
    for place in range(places):
        yield [found[place], found[(place + places) % len(found)]]


def our_order(kind: str, rows: Array) -> Array:
    parts = np.split(rows, len(GATES[kind]))
    return np.concatenate([parts[k] for k in GATES[kind]])


def backwards(x: Array, lengths: Array | None, batch_first: bool) -> Any:
    """Index that turns every sequence around, its padding left where it is."""
    rows, steps = x.shape[:2] if batch_first else x.shape[1::-1]
    row, time = np.indices((rows, steps))
    length = np.full((rows, 1), steps) if lengths is None else lengths[:, None]
    turned = np.where(time < length, length - 1 - time, time)
    return (row, turned) if batch_first else (turned.T, row.T)


def run(layer: Any, x: Array, state: Any, **marks: Any) -> Any:
    """Output and last state in inference, of which training must give the same bits."""
    output, last = layer(x, state, **marks)
    trained, trained_last, _ = layer.forward(x, state, **marks)
    pairs = [(trained, output)]
    if isinstance(last, tuple):
        pairs += zip(trained_last, last, strict=True)
    else:
        pairs.append((trained_last, last))
    for got, want in pairs:
        np.testing.assert_array_equal(got, want)
    return output, last

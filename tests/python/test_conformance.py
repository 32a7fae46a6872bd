"""fl.LSTM on public test cases of other libraries, on every ISA.

The cases lie outside the repository: $FASTLSTM_CONFORMANCE_DIR/cases.json, two kinds of
them, "onnx" (an LSTM node) and "torch" (weights in torch's layout, from several
libraries). One that needs what fl.LSTM does not have is skipped, saying what.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastlstm as fl

Array = npt.NDArray[Any]
Case = dict[str, Any]

FOLDER = os.environ.get("FASTLSTM_CONFORMANCE_DIR")

ONNX_ACTIVATIONS = ["sigmoid", "tanh", "tanh"]
"""What an ONNX node has by default, each direction: of i, f and o; of g; of c."""

UNSUPPORTED = {
    "peephole": "peepholes",
    "clip": "a clip of the gates",
}
"""Tags of features, and what they are called when a case is skipped."""


def load_cases() -> list[Any]:
    if FOLDER is None:
        skip = pytest.mark.skip(reason="FASTLSTM_CONFORMANCE_DIR is not set")
        return [pytest.param({}, marks=skip, id="cases")]
    cases = json.loads((Path(FOLDER) / "cases.json").read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["id"]) for case in cases]


def missing_feature(case: Case) -> str | None:
    for feature, name in UNSUPPORTED.items():
        if feature in case["features"]:
            return name
    attrs = case.get("attrs", {})
    if attrs.get("input_forget"):
        return "coupled gates"
    used = activations(attrs)
    if any(used[k : k + 3] != used[:3] for k in range(0, len(used), 3)):
        return "activations that differ by direction"
    return None if used[0] == "sigmoid" else f"gates through {used[0]}"


def activations(attrs: Case) -> list[str]:
    return [name.lower() for name in attrs.get("activations", ONNX_ACTIVATIONS)]


def tensor(value: Case, dtype: type) -> Array:
    return np.array(value["data"], dtype).reshape(value["dims"])


def run_onnx(case: Case, dtype: type) -> dict[str, Array]:
    """Outputs of the node: Y (T, D, N, H), Y_h and Y_c (D, N, H), or batch first."""
    attrs = case["attrs"]
    given = {name: tensor(value, dtype) for name, value in case["inputs"].items()}
    lengths = given.pop("sequence_lens", None)
    directions, rows, inputs = given["W"].shape
    hidden = rows // 4
    batch_first = attrs.get("layout", 0) == 1
    reverse = attrs.get("direction") == "reverse"
    _, cell, output = activations(attrs)[:3]
    layer = fl.LSTM(
        inputs,
        hidden,
        bias="B" in given,
        batch_first=batch_first,
        bidirectional=directions == 2,
        cell_activation=cell,
        output_activation=output,
        dtype=dtype,
    )
    for d, end in enumerate(("", "_reverse")[:directions]):
        layer.params["weight_ih_l0" + end][...] = torch_order(given["W"][d])
        layer.params["weight_hh_l0" + end][...] = torch_order(given["R"][d])
        if "B" in given:
            bias = given["B"][d].reshape(2, rows).sum(axis=0)
            layer.params["bias_l0" + end][...] = torch_order(bias)

    x = given["X"]
    batch = x.shape[0 if batch_first else 1]
    zeros = np.zeros((directions, batch, hidden), dtype)
    state = (given.get("initial_h", zeros), given.get("initial_c", zeros))
    if lengths is not None:
        lengths = lengths.astype(np.int64)
    order = backwards(x, lengths, batch_first) if reverse else ...
    out, (h_n, c_n) = run(layer, x[order], state, lengths=lengths)
    y = out[order]
    y = y.reshape(*y.shape[:2], directions, hidden)
    if batch_first:
        return {"Y": y, "Y_h": h_n.swapaxes(0, 1), "Y_c": c_n.swapaxes(0, 1)}
    return {"Y": y.swapaxes(1, 2), "Y_h": h_n, "Y_c": c_n}


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
    for got, want in zip((trained, *trained_last), (output, *last), strict=True):
        np.testing.assert_array_equal(got, want)
    return output, last


def torch_order(rows: Array) -> Array:
    """Gates i, f, g, o from ONNX's i, o, f, c."""
    return np.concatenate([np.split(rows, 4)[k] for k in (0, 2, 3, 1)])


def run_torch(case: Case, dtype: type) -> dict[str, Array]:
    """Y (T, N, D*H), h_n and c_n (N, H), or (2, N, H) of two directions, and out."""
    x = tensor(case["x"], dtype)
    if "pre_dense_tanh" in case:
        x = np.tanh(dense(case["pre_dense_tanh"], x))
    two = case.get("direction") == "bidirectional"
    hidden = case["layers"][0]["W_hh"]["dims"][1]
    layer = fl.LSTM(x.shape[2], hidden, bidirectional=two, dtype=dtype)
    names = {"W_ih": "weight_ih", "W_hh": "weight_hh", "b_ih": "bias_ih"}
    names["b_hh"] = "bias_hh"
    ends = ("", "_reverse") if two else ("",)
    layer.load_state_dict(
        {
            f"{name}_l0{end}": tensor(weights[key], dtype)
            for weights, end in zip(case["layers"], ends, strict=True)
            for key, name in names.items()
        }
    )
    state = None
    if "h0" in case:
        shape = (len(ends), x.shape[1], hidden)
        h0, c0 = (tensor(case[key], dtype).reshape(shape) for key in ("h0", "c0"))
        state = (h0, c0)
    mask = np.array(case["mask"], bool) if "mask" in case else None
    y, (h_n, c_n) = run(layer, x, state, mask=mask)
    results = {"Y": y, "h_n": h_n, "c_n": c_n}
    if not two:
        results |= {"h_n": h_n[0], "c_n": c_n[0]}
    if "post_linear" in case:
        results["out"] = dense(case["post_linear"], y)
    return results


def dense(weights: Case, x: Array) -> Array:
    W, b = (tensor(weights[key], x.dtype.type) for key in ("W", "b"))
    return x @ W.T + b


@pytest.mark.parametrize("case", load_cases())
def test_outputs_are_within_the_tolerance_of_the_case(isa: str, case: Case) -> None:
    missing = missing_feature(case)
    if missing:
        assert not case["core"]
        pytest.skip(f"fl.LSTM has no way to express {missing}")
    dtype = np.float64 if "double" in case["features"] else np.float32
    run_kind, wanted = {
        "onnx": (run_onnx, case.get("outputs")),
        "torch": (run_torch, case.get("expect")),
    }[case["kind"]]
    got = run_kind(case, dtype)
    assert wanted
    for name, value in wanted.items():
        expected = tensor(value, np.float64)
        assert got[name].shape == expected.shape, name
        error = np.abs(got[name] - expected)
        limit = case["tol"]["atol"] + case["tol"]["rtol"] * np.abs(expected)
        assert (error <= limit).all(), name

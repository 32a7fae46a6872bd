"""fl.LSTM on public test cases of other libraries, on every ISA.

The cases lie outside the repository: $FASTLSTM_CONFORMANCE_DIR/cases.json, two kinds of
them, "onnx" (an LSTM node) and "torch" (weights in torch's layout, from several
libraries).
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
from onnx_nodes import run, run_node

Array = npt.NDArray[Any]
Case = dict[str, Any]

FOLDER = os.environ.get("FASTLSTM_CONFORMANCE_DIR")


def load_cases() -> list[Any]:
    if FOLDER is None:
        skip = pytest.mark.skip(reason="FASTLSTM_CONFORMANCE_DIR is not set")
        return [pytest.param({}, marks=skip, id="cases")]
    cases = json.loads((Path(FOLDER) / "cases.json").read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["id"]) for case in cases]


def tensor(value: Case, dtype: type) -> Array:
    return np.array(value["data"], dtype).reshape(value["dims"])


def run_onnx(case: Case, dtype: type) -> dict[str, Array]:
    given = {name: tensor(value, dtype) for name, value in case["inputs"].items()}
    return run_node("LSTM", case["attrs"], given)


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

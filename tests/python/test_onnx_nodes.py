"""LSTM, GRU and RNN on the node tests that the package onnx carries, on every ISA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_nodes import run_node

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"

CASES = sorted(
    folder
    for pattern in ("test_lstm_*", "test_gru_*", "test_rnn_*", "test_simple_rnn_*")
    for folder in FOLDER.glob(pattern)
)


def test_all_node_tests_are_found() -> None:
    assert len(CASES) == 12  # of onnx 1.22.0


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_outputs_are_those_of_the_node(isa: str, folder: Path) -> None:
    (node,) = onnx.load(folder / "model.onnx").graph.node
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attrs = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in attrs.items()
    }

    def tensors(kind: str, names: list[str]) -> dict[str, np.ndarray]:
        named = [name for name in names if name]
        files = [
            folder / "test_data_set_0" / f"{kind}_{i}.pb" for i in range(len(named))
        ]
        return {
            name: numpy_helper.to_array(onnx.load_tensor(file))
            for name, file in zip(named, files, strict=True)
        }

    got = run_node(node.op_type, attrs, tensors("input", list(node.input)))
    wanted = tensors("output", list(node.output))
    assert wanted
    for name, expected in wanted.items():
        assert got[name].shape == expected.shape
        # The tolerance of onnx's own test runner.
        np.testing.assert_allclose(got[name], expected, rtol=1e-3, atol=1e-7)

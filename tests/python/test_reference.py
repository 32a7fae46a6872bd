"""The slow NumPy reference itself: against PyTorch, differences and ONNX's equation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastlstm as fl
from golden_files import FILES, load_case, make_layer, name_state, state_parts
from oracle import check, reference, run_reference

Array = npt.NDArray[Any]


@pytest.mark.parametrize(
    "file",
    # A projection is a variant: tests/reference/variants.py.
    [f for f in FILES if f.stem.endswith("float64") and "proj" not in f.stem],
    ids=lambda file: file.stem,
)
def test_reference_agrees_with_torch(file: Path) -> None:
    case = load_case(file)
    options = case["about"]["options"]
    net = reference.Network(
        case["about"]["layer"].lower(),
        options.get("num_layers", 1),
        options.get("bidirectional", False),
        cell_activation=options.get("nonlinearity", "tanh"),
    )

    def time_first(value: Array) -> Array:
        return value.swapaxes(0, 1) if options.get("batch_first") else value

    got = run_reference(
        net,
        make_layer(case).params,
        time_first(case["x"]),
        state_parts(case, "{}0"),
        time_first(case["d_output"]),
        state_parts(case, "d_{}_n"),
    )
    wanted = {key: time_first(case[key]) for key in ("output", "d_x")} | case["grads"]
    wanted |= name_state(state_parts(case, "{}_n"), "{}_n")
    wanted |= name_state(state_parts(case, "d_{}0"), "d_{}0")
    check(wanted, got, "float64")


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("reset_after", [False, True])
def test_reference_gru_gradients(reset_after: bool, bidirectional: bool) -> None:
    net = reference.Network("gru", 2, bidirectional, reset_after=reset_after)
    rng = np.random.default_rng(3)

    def draw(*size: int) -> Array:
        return rng.standard_normal(size).astype(np.longdouble)

    layer = fl.GRU(3, 4, 2, bidirectional=bidirectional)
    params = {key: draw(*value.shape) for key, value in layer.params.items()}
    rows = len(net.suffixes())
    given = {"x": draw(4, 2, 3), "h0": draw(rows, 2, 4)} | params
    d_output, d_h_n = draw(4, 2, 8 if bidirectional else 4), draw(rows, 2, 4)

    def loss() -> np.longdouble:
        output, (h_n,), _ = reference.forward(net, params, given["x"], (given["h0"],))
        return (output * d_output).sum() + (h_n * d_h_n).sum()

    got = run_reference(net, params, given["x"], (given["h0"],), d_output, (d_h_n,))
    for name, value in given.items():
        gradient = got[name if name in params else f"d_{name}"]
        expected = np.array([difference(loss, value, at) for at in range(value.size)])
        error = np.linalg.norm(gradient.reshape(-1) - expected)
        assert error <= 1e-10 * np.linalg.norm(expected), name


def difference(loss: Callable[[], Any], array: Array, at: int) -> Any:
    """Derivative by one entry in extended precision, by the five-point formula."""
    flat, step = array.reshape(-1), np.longdouble(1e-4)
    kept = flat[at]
    values = []
    for k in (-2, -1, 1, 2):
        flat[at] = kept + k * step
        values.append(loss())
    flat[at] = kept
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)


def test_reference_gru_with_reset_before_the_product() -> None:
    rng = np.random.default_rng(4)
    w_ih, w_hh, bias = (rng.standard_normal((3, *s)) for s in [(1, 1), (1, 1), (1,)])
    b_hn, x, h = 0.3, 0.7, -0.4
    params = {
        "weight_ih_l0": w_ih.reshape(3, 1),
        "weight_hh_l0": w_hh.reshape(3, 1),
        "bias_l0": bias.reshape(3),
        "bias_hn_l0": np.array([b_hn]),
    }
    net = reference.Network("gru", reset_after=False)
    output, _, _ = reference.forward(
        net, params, np.full((1, 1, 1), x), (np.full((1, 1, 1), h),)
    )
    # ONNX's equation for linear_before_reset = 0.
    r, z = 1 / (1 + np.exp(-(w_ih * x + w_hh * h).ravel() - bias.ravel()))[:2]
    n = np.tanh(w_ih[2] * x + bias[2] + w_hh[2] * (r * h) + b_hn)
    np.testing.assert_allclose(output.item(), ((1 - z) * n + z * h).item(), rtol=1e-14)

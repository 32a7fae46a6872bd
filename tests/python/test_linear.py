"""The dense layer against NumPy and central differences; layouts; bad input."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastlstm as fl


def reference(layer, x):
    out = x @ layer.params["weight"].T
    return out + layer.params["bias"] if "bias" in layer.params else out


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 3, 4, 9])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 4), (8, 5), (17, 10)])
def test_forward_and_backward(rows, inputs, outputs, dtype, bias):
    layer = fl.Linear(inputs, outputs, bias=bias, dtype=dtype, rng=0)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, inputs)).astype(dtype)
    d_output = rng.normal(size=(rows, outputs)).astype(dtype)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12}
    output, tape = layer.forward(x)
    assert output.dtype == dtype
    np.testing.assert_allclose(output, reference(layer, x), **tolerance)
    for grad in layer.grads.values():
        grad.fill(1)
    d_x = layer.backward(d_output, tape)
    np.testing.assert_allclose(d_x, d_output @ layer.params["weight"], **tolerance)
    np.testing.assert_allclose(layer.grads["weight"], 1 + d_output.T @ x, **tolerance)
    if bias:
        np.testing.assert_allclose(
            layer.grads["bias"], 1 + d_output.sum(axis=0), **tolerance
        )


def test_gradients_against_central_differences():
    layer = fl.Linear(3, 2, dtype=np.float64, rng=0)
    rng = np.random.default_rng(0)
    x, d_output = rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 5, 2))
    d_x = layer.backward(d_output, layer.forward(x)[1])
    for array, gradient in (
        (x, d_x),
        (layer.params["weight"], layer.grads["weight"]),
        (layer.params["bias"], layer.grads["bias"]),
    ):
        numeric = np.empty_like(array)
        for index in np.ndindex(array.shape):
            values = []
            for step in (1e-4, -2e-4):
                array[index] += step
                values.append((layer(x) * d_output).sum())
            array[index] += 1e-4
            numeric[index] = (values[0] - values[1]) / 2e-4
        error = np.linalg.norm(gradient - numeric) / np.linalg.norm(numeric)
        assert error < 1e-8


def test_result_does_not_depend_on_rows_or_layout():
    layer = fl.Linear(7, 6, rng=0)
    x = np.random.default_rng(0).normal(size=(5, 3, 7)).astype(np.float32)
    whole = layer(x)
    swapped = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    other = layer(swapped)
    np.testing.assert_array_equal(whole, other)
    assert other.swapaxes(0, 1).flags.c_contiguous  # lies in memory as x does
    np.testing.assert_array_equal(whole[2, 1], layer(x[2, 1]))
    np.testing.assert_array_equal(whole, layer(x[:, :, ::-1][:, :, ::-1]))


def test_out_and_need_d_x():
    layer = fl.Linear(3, 2, rng=0)
    x = np.ones((4, 3), np.float32)
    out = np.empty((4, 2), np.float32)
    assert layer(x, out=out) is out
    np.testing.assert_array_equal(out, layer(x))
    assert layer.backward(out, x, need_d_x=False) is None
    d_x = np.empty_like(x)
    assert layer.backward(out, x, out=d_x) is d_x


def test_initial_values_are_in_torchs_range():
    layer = fl.Linear(16, 1000, rng=0)
    weight = layer.params["weight"]
    assert np.abs(weight).max() <= 0.25
    assert np.abs(weight).max() > 0.249
    again = fl.Linear(16, 1000, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(weight, again.params["weight"])


def test_state_dict_is_a_copy_and_loads_all_or_nothing():
    layer = fl.Linear(3, 2, rng=0)
    state = layer.state_dict()
    layer.params["weight"].fill(0)
    assert state["weight"].any()
    before = layer.state_dict()
    with pytest.raises(ValueError, match=r"bias must have shape \(2,\), got \(3,\)"):
        layer.load_state_dict(state | {"bias": np.zeros(3, np.float32)})
    np.testing.assert_array_equal(layer.params["weight"], before["weight"])
    weight = layer.params["weight"]
    layer.load_state_dict(state)
    assert layer.params["weight"] is weight  # in place
    np.testing.assert_array_equal(weight, state["weight"])


def test_load_state_dict_names_what_is_wrong():
    layer = fl.Linear(3, 2, rng=0)
    state = layer.state_dict()
    with pytest.raises(ValueError, match="lacks bias"):
        layer.load_state_dict({"weight": state["weight"]})
    with pytest.raises(ValueError, match="unknown extra; expected weight, bias"):
        layer.load_state_dict(state | {"extra": state["bias"]})
    with pytest.raises(TypeError, match="weight must have dtype float32, got float64"):
        layer.load_state_dict(state | {"weight": np.zeros((2, 3))})
    new = np.full(2, 7, np.float32)
    layer.load_state_dict({"bias": new, "extra": new}, strict=False)
    np.testing.assert_array_equal(layer.params["bias"], new)


def test_copies_and_pickles_are_equal_and_separate():
    layer = fl.Linear(3, 2, rng=0)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin.params["weight"], layer.params["weight"])
        twin.params["weight"].fill(0)
        assert layer.params["weight"].any()
    assert type(layer)(**layer.config()).config() == layer.config()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fl.Linear(0, 2), ValueError, "in_features must be at least 1, got 0"),
        (lambda: fl.Linear(3, 2.0), TypeError, "out_features must be an int, got 2.0"),
        (lambda: fl.Linear(3, True), TypeError, "out_features must be an int"),
        (lambda: fl.Linear(3, 2, dtype="i4"), TypeError, "dtype must be float32"),
        (
            lambda: fl.Linear(3, 2)(np.zeros((4, 2), np.float32)),
            ValueError,
            r"x must have shape \(\.\.\., in_features\) = \(\.\.\., 3\), got \(4, 2\)",
        ),
        (
            lambda: fl.Linear(3, 2)(np.zeros((4, 3))),
            TypeError,
            r"x must have dtype float32, got float64: .*x.astype\(np.float32\)",
        ),
        (
            lambda: fl.Linear(3, 2)([[1.0, 2.0, 3.0]]),
            TypeError,
            "x must be a NumPy array",
        ),
        (
            lambda: fl.Linear(3, 2)(
                np.zeros((4, 3), np.float32), out=np.zeros((4, 4), np.float32)[:, ::2]
            ),
            ValueError,
            "out must lie in memory as x does",
        ),
        (
            lambda: fl.Linear(3, 2).backward(
                np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float32)
            ),
            ValueError,
            r"d_output must have shape \(4, 2\), got \(4, 3\)",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

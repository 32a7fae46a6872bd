"""The table look-up: rows, gradients, indices out of range."""

from __future__ import annotations

import numpy as np
import pytest

import fastlstm as fl


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_and_gradient(dtype):
    table = fl.Embedding(5, 3, dtype=dtype, rng=0)
    x = np.array([[4, 0, 4], [1, 4, 1]], np.uint8)
    out, tape = table.forward(x)
    np.testing.assert_array_equal(out, table.params["weight"][x])
    np.testing.assert_array_equal(out, table(x))
    d_output = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(dtype)
    expected = np.zeros((5, 3), dtype)
    np.add.at(expected, x, d_output)
    table.backward(d_output, tape)
    np.testing.assert_array_equal(table.grads["weight"], expected)
    table.backward(d_output.swapaxes(0, 1).copy().swapaxes(0, 1), tape)
    np.testing.assert_allclose(table.grads["weight"], 2 * expected, rtol=1e-6)


def test_scalar_and_empty_indices():
    table = fl.Embedding(5, 3, rng=0)
    assert table(np.array(2)).shape == (3,)
    out, tape = table.forward(np.zeros((0, 4), int))
    assert out.shape == (0, 4, 3)
    table.backward(out, tape)
    assert not table.grads["weight"].any()


def test_config_makes_the_same_architecture():
    table = fl.Embedding(5, 3, dtype=np.float64)
    assert fl.Embedding(**table.config()).config() == table.config()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda t: t(np.array([[0, 5]])),
            IndexError,
            r"x\[0, 1\] is 5; indices must be in 0..4",
        ),
        (lambda t: t(np.array([-1])), IndexError, r"x\[0\] is -1"),
        (
            lambda t: t(np.array([2**63], np.uint64)),
            IndexError,
            r"x\[0\] is 9223372036854775808",
        ),
        (lambda t: t(np.array([1.0])), TypeError, "integers, got float64"),
        (lambda t: t([1, 2]), TypeError, "integers, got list"),
        (
            lambda t: t.backward(np.zeros((2, 2), np.float32), np.zeros(2, np.int64)),
            ValueError,
            r"d_output must have shape \(2, 3\), got \(2, 2\)",
        ),
        (lambda t: fl.Embedding(0, 3), ValueError, "num_embeddings must be at least 1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(fl.Embedding(5, 3, rng=0))

"""Losses: values of torch 2.13, central differences, masks, weights, bad input."""

from __future__ import annotations

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.losses import softmax

LOGITS = np.array([[0.5, -1.0, 2.0], [100.0, 99.0, -50.0], [-0.25, 0.75, 0.0]])
LABELS = np.array([2, 1, 0])
PREDICTION = np.array([[0.5, -1.0], [2.0, 0.25]])
TARGET = np.array([[0.0, 1.0], [2.0, 0.5]])
REGRESSION = [fl.MSE(), fl.MAE(), fl.Huber(0.7)]


def numeric_gradient(loss, prediction, *arguments, step=1e-5):
    gradient = np.empty_like(prediction)
    for index in np.ndindex(prediction.shape):
        values = []
        for sign in (1, -1):
            moved = prediction.copy()
            moved[index] += sign * step
            values.append(loss.value(moved, *arguments))
        gradient[index] = (values[0] - values[1]) / (2 * step)
    return gradient


def relative_error(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def test_cross_entropy_is_that_of_torch():
    loss, d_logits = fl.CrossEntropy()(LOGITS, LABELS)
    assert loss == pytest.approx(1.0548240797346586, rel=1e-14)
    expected = [
        [0.05843013071334556, 0.013037524423562482, -0.07146765513690803],
        [0.2436861928766683, -0.2436861928766683, 1.7484718212251272e-66],
        [-0.2666974157461576, 0.18113520389991428, 0.08556221184624331],
    ]
    np.testing.assert_allclose(d_logits, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "value", "gradient"),
    [
        (fl.MSE(), 1.078125, [[0.25, -1.0], [0.0, -0.125]]),
        (fl.MAE(), 0.6875, [[0.25, -0.25], [0.0, -0.25]]),
        (fl.Huber(0.7), 0.3278125, [[0.125, -0.175], [0.0, -0.0625]]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_regression_losses_are_those_of_torch(loss, value, gradient, dtype):
    found, d = loss(PREDICTION.astype(dtype), TARGET.astype(dtype))
    assert found == pytest.approx(value, rel=1e-6 if dtype == np.float32 else 1e-14)
    assert d.dtype == dtype
    np.testing.assert_allclose(d, gradient, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("loss", [fl.CrossEntropy(), *REGRESSION])
def test_gradients_against_central_differences(loss, shape):
    rng = np.random.default_rng(1)
    prediction = rng.normal(size=(*shape, 4))
    if isinstance(loss, fl.CrossEntropy):
        target = rng.integers(0, 4, shape)
    else:
        target = prediction + rng.choice([-2, -0.3, 0.3, 2], (*shape, 4))
    weight = rng.uniform(0.5, 2, shape[0])
    mask = rng.random(shape) < 0.7
    arguments = (target, weight, mask)
    _, d = loss(prediction, *arguments)
    assert relative_error(d, numeric_gradient(loss, prediction, *arguments)) < 1e-8


def test_cross_entropy_of_huge_logits_is_finite():
    logits = np.array([[1e30, 0.0], [-1e30, 1e30]], np.float32)
    loss, d = fl.CrossEntropy()(logits, np.array([0, 1]))
    assert loss == 0.0
    assert np.isfinite(d).all()


def test_softmax():
    p = softmax(LOGITS.astype(np.float32))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert p.dtype == np.float32
    assert p[1, 0] == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-6)


@pytest.mark.parametrize("loss", [fl.CrossEntropy(), *REGRESSION])
def test_masked_steps_are_never_read(loss):
    entropy = isinstance(loss, fl.CrossEntropy)
    prediction = np.array([[1.0, 2.0], [np.nan, np.inf], [0.5, -1.0]])
    target = (
        np.array([0, -7, 1]) if entropy else np.array([[0.0, 0], [np.nan, 1], [1, 1]])
    )
    mask = np.array([True, False, True])
    value, d = loss(prediction, target, mask=mask)
    kept, d_kept = loss(prediction[mask], target[mask])
    assert value == kept
    np.testing.assert_array_equal(d[mask], d_kept)
    assert (d[1] == 0).all()


@pytest.mark.parametrize("loss", [fl.CrossEntropy(), *REGRESSION])
def test_no_real_step_gives_zero(loss):
    for shape, mask in (((0, 3), None), ((2, 3), np.zeros(2, bool))):
        prediction = np.ones(shape)
        entropy = isinstance(loss, fl.CrossEntropy)
        target = np.zeros(shape[:1], int) if entropy else np.zeros(shape)
        value, d = loss(prediction, target, mask=mask)
        assert value == 0
        assert d.shape == shape
        assert not d.any()


def test_weights_of_samples_spread_over_steps():
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=(2, 3, 4, 1))
    weight = np.array([1.0, 0.0, 2.0])
    one = fl.MSE()(prediction, target, weight)
    each = fl.MSE()(prediction, target, np.repeat(weight[:, None], 4, axis=1))
    assert one[0] == each[0]
    np.testing.assert_array_equal(one[1], each[1])
    squared = (prediction - target) ** 2 * weight[:, None, None]
    assert one[0] == pytest.approx(squared.mean())


def test_layout_and_out_do_not_change_the_result():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3, 5)).astype(np.float32)
    labels = rng.integers(0, 5, (4, 3)).astype(np.uint8)
    loss, d = fl.CrossEntropy()(logits, labels)
    view = np.ascontiguousarray(logits.swapaxes(0, 1)).swapaxes(0, 1)
    same, d_view = fl.CrossEntropy()(view, labels)
    assert loss == same
    np.testing.assert_array_equal(d, d_view)
    result = fl.CrossEntropy()(logits, labels, out=logits)  # in place
    assert result[1] is logits
    np.testing.assert_array_equal(logits, d)


def test_many_rows_sum_in_blocks():
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=(2, 1000, 3))
    expected = ((prediction - target) ** 2).mean()
    assert fl.MSE().value(prediction, target) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (3, r"target\[1\] is 3; labels must be in 0..2"),
        (-1, r"target\[1\] is -1; labels must be in 0..2"),
    ],
)
def test_labels_out_of_range_are_named(label, message):
    with pytest.raises(ValueError, match=message):
        fl.CrossEntropy()(LOGITS, np.array([0, label, 1]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fl.CrossEntropy()(LOGITS, np.array([0.0, 1.0, 2.0])),
            TypeError,
            "target must hold integer labels, got float64",
        ),
        (
            lambda: fl.CrossEntropy()(LOGITS, np.array([0, 1])),
            ValueError,
            r"target must have shape \(3,\), got \(2,\)",
        ),
        (
            lambda: fl.MSE()(PREDICTION, TARGET.astype(np.float32)),
            TypeError,
            r"target must have dtype float64, got float32: .*astype\(np.float64\)",
        ),
        (
            lambda: fl.MSE()(PREDICTION, TARGET[:, :1]),
            ValueError,
            r"target must have shape \(2, 2\), got \(2, 1\)",
        ),
        (
            lambda: fl.MSE()([[1.0]], TARGET),
            TypeError,
            "prediction must be a NumPy array, got list",
        ),
        (
            lambda: fl.MSE()(np.ones((2, 2), int), TARGET),
            TypeError,
            "float32 or float64, got int64",
        ),
        (
            lambda: fl.MSE()(np.float64(1.0) + np.zeros(()), TARGET),
            TypeError,
            "prediction must be a NumPy array",
        ),
        (
            lambda: fl.MSE()(PREDICTION, TARGET, np.array([1.0, -1.0])),
            ValueError,
            "sample_weight must be finite and >= 0",
        ),
        (
            lambda: fl.MSE()(PREDICTION, TARGET, np.array([1.0, np.nan])),
            ValueError,
            "sample_weight must be finite and >= 0",
        ),
        (
            lambda: fl.MSE()(PREDICTION, TARGET, np.ones(3)),
            ValueError,
            r"sample_weight must have shape \(2,\), got \(3,\)",
        ),
        (
            lambda: fl.MSE()(PREDICTION, TARGET, mask=np.ones(2)),
            TypeError,
            "mask must have dtype bool, got float64",
        ),
        (
            lambda: fl.MSE()(PREDICTION, TARGET, out=np.empty((2, 4))[:, ::2]),
            ValueError,
            "out must be C-contiguous",
        ),
        (lambda: fl.Huber(0.0), ValueError, "delta must be finite and > 0"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

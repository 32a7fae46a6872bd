"""Optimizers against torch 2.13, clipping, and what they refuse."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.nn.module import Module
from fastlstm.optim import clip_scale, grad_norm

START = [0.5, -1.25, 2.0, 0.0, -0.75]
GRADS = [
    [0.1, -0.2, 0.3, 0.4, -2.5],
    [0.2, 0.0, -0.6, 1.5, 0.05],
    [-1.0, 0.7, 0.25, -0.3, 0.9],
    [0.05, 0.4, -0.1, 0.2, 3.0],
]
# START after the four steps, from torch.optim 2.13 in float64.
TORCH = [
    (fl.SGD(0.1), [0.565, -1.34, 2.0149999999999997, -0.18, -0.895]),
    (
        fl.SGD(0.1, weight_decay=0.05),
        [
            0.5549235015625,
            -1.3151353782812498,
            1.9752732549999998,
            -0.17805674500000002,
            -0.88334353171875,
        ],
    ),
    (
        fl.SGD(0.1, momentum=0.9, weight_decay=0.01),
        [
            0.5919586346604999,
            -1.3430365151462502,
            2.003927435632,
            -0.5061591779600001,
            -0.3701706977257502,
        ],
    ),
    (
        fl.SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.02),
        [
            0.6318810530965888,
            -1.399534465057568,
            1.9913872901385472,
            -0.5363040265287681,
            -0.6758110180683712,
        ],
    ),
    (
        fl.Adam(0.01),
        [
            0.4884414416742296,
            -1.2442091721604276,
            1.995225827168029,
            -0.029713680044327877,
            -0.7337936210988767,
        ],
    ),
    (
        fl.Adam(0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
        [
            0.4751197944642218,
            -1.2273230438826914,
            1.964013349431126,
            -0.05819699558279068,
            -0.720261528168815,
        ],
    ),
    (
        fl.AdamW(0.05),
        [
            0.44131964967260545,
            -1.2186443892456322,
            1.9721877476997416,
            -0.14843498343461237,
            -0.6675834322429793,
        ],
    ),
    (
        fl.AdamW(0.05, betas=(0.7, 0.9), eps=1e-4, weight_decay=0.3),
        [
            0.42388312120862714,
            -1.1686051062366136,
            1.8657858958923699,
            -0.13837836947890286,
            -0.652691562350679,
        ],
    ),
    (
        fl.RMSprop(0.01),
        [
            0.40318610018998224,
            -1.294592908388108,
            1.9684005798902082,
            -0.19025923825981417,
            -0.7614874770888046,
        ],
    ),
    (
        fl.RMSprop(0.02, alpha=0.9, eps=1e-5, weight_decay=0.1, momentum=0.6),
        [
            0.34725480937996345,
            -1.183186101723535,
            1.8742758497080025,
            -0.24428078851494522,
            -0.6952161490909883,
        ],
    ),
]


def layer_of(values, dtype=np.float64):
    return Module({"weight": np.array(values, dtype)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("optimizer", "expected"), TORCH)
def test_steps_are_those_of_torch(optimizer, expected, dtype):
    optimizer = copy.deepcopy(optimizer)
    layer = layer_of(START, dtype)
    for grad in GRADS:
        layer.grads["weight"][:] = grad
        optimizer.step(layer)
    tolerance = 1e-6 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(
        layer.params["weight"], expected, rtol=tolerance, atol=tolerance
    )


def test_grad_scale_equals_scaled_gradients():
    scaled, plain = layer_of(START), layer_of(START)
    for layer, factor in ((scaled, 1.0), (plain, 0.25)):
        layer.grads["weight"][:] = np.array(GRADS[0]) * factor
    fl.Adam(0.1).step(scaled, grad_scale=0.25)
    fl.Adam(0.1).step(plain)
    np.testing.assert_array_equal(scaled.params["weight"], plain.params["weight"])


def test_lr_of_a_step_overrides_the_optimizer():
    layer = layer_of([1.0])
    layer.grads["weight"][:] = 1
    fl.SGD(0.5).step(layer, lr=0.125)
    assert layer.params["weight"][0] == 0.875


def test_several_layers_and_empty_arrays():
    layers = [layer_of([1.0, 2.0]), layer_of([]), layer_of([[3.0]])]
    for layer in layers:
        layer.grads["weight"][...] = 1
    fl.SGD(1.0).step(layers)
    assert [layer.params["weight"].tolist() for layer in layers] == [
        [0.0, 1.0],
        [],
        [[2.0]],
    ]


def test_state_survives_pickling():
    layer = layer_of(START)
    optimizer = fl.Adam(0.1)
    layer.grads["weight"][:] = GRADS[0]
    optimizer.step(layer)
    twin_layer, twin = pickle.loads(pickle.dumps((layer, optimizer)))
    for which, opt in ((layer, optimizer), (twin_layer, twin)):
        which.grads["weight"][:] = GRADS[1]
        opt.step(which)
    np.testing.assert_array_equal(layer.params["weight"], twin_layer.params["weight"])


def test_optimizer_refuses_another_model_until_reset():
    optimizer = fl.Adam(0.1)
    optimizer.step(layer_of(START))
    with pytest.raises(ValueError, match="state of other layers"):
        optimizer.step(layer_of(START))
    optimizer.reset()
    optimizer.step(layer_of([1.0]))
    assert optimizer.steps == 1


def test_layers_of_two_dtypes_are_refused():
    layers = [layer_of([1.0]), layer_of([1.0], np.float32)]
    with pytest.raises(TypeError, match="one dtype"):
        fl.SGD(0.1).step(layers)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fl.SGD(math.nan), "lr must be finite and >= 0, got nan"),
        (lambda: fl.SGD(-0.1), "lr must be finite and >= 0, got -0.1"),
        (lambda: fl.SGD(0.1, momentum=1.0), "momentum must be finite and >= 0 and < 1"),
        (lambda: fl.SGD(0.1, nesterov=True), "nesterov needs momentum > 0"),
        (lambda: fl.SGD(0.1, weight_decay=math.inf), "weight_decay must be finite"),
        (lambda: fl.Adam(betas=(0.9, 1.0)), r"betas\[1\] must be finite"),
        (lambda: fl.Adam(betas=(0.9,)), "betas must be two numbers"),
        (lambda: fl.Adam(eps=0.0), "eps must be finite and > 0"),
        (lambda: fl.RMSprop(alpha=-0.5), "alpha must be finite"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_settings_must_be_numbers():
    with pytest.raises(TypeError, match=r"lr must be a number, got '0\.1'"):
        fl.Adam("0.1")
    with pytest.raises(TypeError, match="momentum must be a number, got True"):
        fl.SGD(0.1, momentum=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_grad_norm_is_that_of_torch(dtype):
    grads = [{"a": np.array([3, 4], dtype)}, {"b": np.array([[12]], dtype)}]
    assert fl.clip_grad_norm(grads, 2.0) == 13.0
    expected = [0.46153842603550577, 0.615384568047341]
    np.testing.assert_allclose(grads[0]["a"], expected, rtol=1e-6)
    np.testing.assert_allclose(grads[1]["b"], [[1.846153704142023]], rtol=1e-6)


def test_clip_leaves_small_gradients_alone():
    grads = {"a": np.array([0.3, 0.4])}
    assert fl.clip_grad_norm(grads, 2.0) == 0.5
    assert grads["a"].tolist() == [0.3, 0.4]
    assert clip_scale(0.0, 1.0) == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clip_refuses_non_finite_gradients(bad):
    grads = {"a": np.array([1.0, bad])}
    with pytest.raises(FloatingPointError, match="gradient norm"):
        fl.clip_grad_norm(grads, 1.0)
    assert grads["a"][0] == 1.0


@pytest.mark.parametrize("size", [1, 7, 8, 9, 4095, 4096, 4097, 20000])
def test_grad_norm_of_any_size(size):
    grad = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    expected = math.sqrt(math.fsum(grad.astype(np.float64) ** 2))
    assert grad_norm({"a": grad}) == pytest.approx(expected, rel=1e-14)


def test_grad_norm_of_float32_does_not_overflow():
    assert grad_norm({"a": np.full(4, 1e30, np.float32)}) == pytest.approx(2e30)

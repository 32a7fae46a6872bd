"""Layers whose parameters are constant."""

from __future__ import annotations

import copy
import ctypes
import pickle

import numpy as np
import pytest

import fastlstm as fl

FROZEN = "parameters are frozen"


def random(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def layers():
    return [
        fl.LSTM(20, 30, num_layers=2, bidirectional=True, rng=0),
        fl.GRU(5, 17, rng=0),
        fl.RNN(3, 8, rng=0),
        fl.LSTM(4, 9, peepholes=True, learn_initial_state=True, rng=0),
        fl.LSTM(20, 80, dtype=np.float64, rng=0),
    ]


@pytest.mark.parametrize("layer", layers(), ids=repr)
def test_inference_and_gradients_keep_their_bits(layer):
    x = random(60, 3, layer.input_size).astype(layer.dtype)

    def results():
        output, state = layer(x)
        kept, *_, tape = layer.forward(x)
        d_x, *_ = layer.backward(np.ones_like(kept), tape, accumulate=False)
        return [output, *np.atleast_1d(state), kept, d_x, *layer.grads.values()]

    wanted = [np.array(a) for a in results()]
    layer.freeze()
    for _ in range(2):
        for got, want in zip(results(), wanted, strict=True):
            np.testing.assert_array_equal(got, want)


def test_nothing_writes_to_the_parameters_any_more():
    layer = fl.LSTM(3, 8, rng=0)
    x = random(5, 2, 3)
    assert not layer.frozen
    before = layer.params["weight_hh_l0"]
    wanted = layer(x)[0].copy()
    layer.freeze()
    assert layer.frozen
    before[:] = 0
    np.testing.assert_array_equal(layer(x)[0], wanted)
    value = layer.params["weight_hh_l0"]
    with pytest.raises(ValueError, match="read-only"):
        value[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        value.flags.writeable = True
    with pytest.raises(ValueError, match=FROZEN):
        layer.load_state_dict(layer.state_dict())
    with pytest.raises(ValueError, match=FROZEN):
        layer.round_weights("bfloat16")
    with pytest.raises(ValueError, match=FROZEN):
        fl.SGD(0.1).step(layer)
    np.testing.assert_array_equal(layer(x)[0], wanted)


def test_a_frozen_model_predicts_and_does_not_learn():
    model = fl.SequenceModel(fl.LSTM(3, 8, rng=0), fl.Linear(8, 2, rng=0))
    x, y = random(6, 5, 3), np.array([0, 1, 0, 1, 1, 0])
    wanted = model.predict_proba(x)
    model.freeze()
    assert model.recurrent.frozen
    assert model.head.frozen
    np.testing.assert_array_equal(model.predict_proba(x), wanted)
    with pytest.raises(ValueError, match=FROZEN):
        model.fit(x, y, epochs=1)
    with pytest.raises(ValueError, match=FROZEN):
        fl.fit_many([model, copy.deepcopy(model)], x, y, epochs=1)
    with pytest.raises(ValueError, match=FROZEN):
        model.online()
    np.testing.assert_array_equal(model.predict_proba(x), wanted)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_a_copy_can_be_trained_and_frozen_again(copied, tmp_path):
    model = fl.SequenceModel(fl.LSTM(3, 8, rng=0), fl.Linear(8, 2, rng=0))
    model.freeze()
    model.save(tmp_path / "frozen.safetensors")
    x, y = random(6, 5, 3), np.array([0, 1, 0, 1, 1, 0])
    for other in (copied(model), fl.load(tmp_path / "frozen.safetensors")):
        assert not other.recurrent.frozen
        other.fit(x, y, epochs=1)
        assert not np.array_equal(other.predict_proba(x), model.predict_proba(x))
        wanted = other.predict_proba(x)
        other.freeze()
        np.testing.assert_array_equal(other.predict_proba(x), wanted)


def test_constant_weights_are_not_looked_at_again():
    layer = fl.LSTM(3, 8, rng=0)
    x = random(5, 2, 3)
    layer.freeze()
    wanted = layer(x)[0].copy()
    value = layer.params["weight_hh_l0"]
    ctypes.memset(value.ctypes.data, 0, value.nbytes)  # behind everybody's back
    np.testing.assert_array_equal(layer(x)[0], wanted)
    fl.trim()
    assert not np.array_equal(layer(x)[0], wanted)


def test_other_arrays_in_their_place_are_noticed():
    layer, other = fl.LSTM(3, 8, rng=0), fl.LSTM(3, 8, rng=1)
    x = random(5, 2, 3)
    layer.freeze()
    layer(x)
    wanted = other(x)[0].copy()
    other.freeze()
    for name, value in other.params.items():  # constants as well
        layer.params[name] = value
    np.testing.assert_array_equal(layer(x)[0], wanted)
    bias = other.params["bias_l0"].copy()  # may become writeable again
    bias.flags.writeable = False
    layer.params["bias_l0"] = bias
    assert layer.frozen
    np.testing.assert_array_equal(layer(x)[0], wanted)
    bias.flags.writeable = True
    bias += 1
    assert not layer.frozen
    assert not np.array_equal(layer(x)[0], wanted)

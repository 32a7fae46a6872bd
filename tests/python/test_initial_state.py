"""Learned initial states: where they enter, their gradients, files and streams."""

import copy

import numpy as np
import pytest

import fastlstm as fl

LAYERS = [fl.LSTM, fl.GRU, fl.RNN]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def learning(cls, *, layers=2, bidirectional=False, batch_first=False):
    layer = cls(
        3,
        5,
        layers,
        bidirectional=bidirectional,
        batch_first=batch_first,
        dtype=np.float64,
        learn_initial_state=True,
        rng=0,
    )
    for i, name in enumerate(layer.params):
        if name[:2] in ("h0", "c0"):
            layer.params[name][...] = draw(5, seed=i)
    return layer


def parts(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_learned_state_is_that_state_given(cls, bidirectional):
    layer = learning(cls, bidirectional=bidirectional)
    ends = [f"_l{k}{e}" for k in (0, 1) for e in ("", "_reverse")[: 1 + bidirectional]]
    kinds = ("h0", "c0") if cls is fl.LSTM else ("h0",)
    given = tuple(
        np.stack([np.tile(layer.params[kind + end], (4, 1)) for end in ends])
        for kind in kinds
    )
    given = given if cls is fl.LSTM else given[0]
    x, d_output = draw(6, 4, 3), draw(6, 4, 10 if bidirectional else 5)
    lengths = np.array([6, 0, 3, 1])
    output, _, tape = layer.forward(x, lengths=lengths)
    d_x, d_state = layer.backward(d_output, tape)
    np.testing.assert_array_equal(output, layer(x, lengths=lengths)[0])
    other = copy.deepcopy(layer)
    other.zero_grad()
    wanted, _, tape = other.forward(x, given, lengths=lengths)
    d_wanted, d_given = other.backward(d_output, tape)
    np.testing.assert_array_equal(output, wanted)
    np.testing.assert_array_equal(d_x, d_wanted)
    for kind, got, d in zip(kinds, parts(d_state), parts(d_given), strict=True):
        np.testing.assert_array_equal(got, d)
        for row, end in enumerate(ends):
            np.testing.assert_allclose(layer.grads[kind + end], d[row].sum(axis=0))
            assert not other.grads[kind + end].any()


@pytest.mark.parametrize("batch_first", [False, True])
def test_layouts(batch_first):
    layer = learning(fl.LSTM, batch_first=batch_first)
    x = draw(4, 4, 3)
    output, _ = layer(x)
    alone, _, tape = layer.forward(x[1] if batch_first else x[:, 1])
    np.testing.assert_array_equal(alone, output[1] if batch_first else output[:, 1])
    layer.backward(np.ones_like(alone), tape)
    assert layer.grads["c0_l0"].any()
    empty = layer(np.zeros((0, 2, 3) if not batch_first else (2, 0, 3)))[1][0]
    np.testing.assert_array_equal(empty[0, 1], layer.params["h0_l0"])


def test_a_change_between_forward_and_backward_is_noticed():
    layer = learning(fl.GRU)
    _, _, tape = layer.forward(draw(4, 2, 3))
    layer.params["h0_l1"][2] += 1
    with pytest.raises(RuntimeError, match="params changed"):
        layer.backward(None, tape)


def test_a_reset_is_zero_even_so():
    layer = learning(fl.GRU)
    x = draw(3, 1, 3)
    reset = np.array([True, False, False])[:, None]
    zeros = np.zeros((2, 1, 5))
    np.testing.assert_array_equal(layer(x, reset=reset)[0], layer(x, zeros)[0])


@pytest.mark.parametrize("cls", LAYERS)
def test_streams_start_from_it(cls):
    layer = learning(cls)
    x = draw(5, 2, 3)
    stream = layer.stream(2)
    steps = np.stack([stream.step(np.ascontiguousarray(x_t)) for x_t in x])
    np.testing.assert_array_equal(steps, layer(x)[0])


@pytest.mark.parametrize("cls", LAYERS)
def test_streams_return_to_it(cls):
    """reset() does, one row or all; the mask of a step zeroes, as in a sequence."""
    layer = learning(cls)
    x = draw(5, 2, 3)
    stream = layer.stream(2)
    first = [np.array(part) for part in parts(stream.state)]
    before = stream.process(x)
    kept = parts(stream.state)
    stream.reset(np.array([True, False]))
    for part, start, was in zip(parts(stream.state), first, kept, strict=True):
        np.testing.assert_array_equal(part[:, 0], start[:, 0])
        np.testing.assert_array_equal(part[:, 1], was[:, 1])
    stream.reset()
    np.testing.assert_array_equal(stream.process(x), before)

    reset = np.zeros((5, 2), bool)
    reset[0, 1] = reset[3, 0] = True
    stream.reset()
    steps = np.stack([stream.step(x[t], reset=reset[t]) for t in range(5)])
    np.testing.assert_array_equal(steps, layer(x, reset=reset)[0])

    for name, value in layer.params.items():
        if name.startswith(("h0", "c0")):
            value += 1
    stream.reset()
    np.testing.assert_array_equal(stream.process(x), before)
    stream.refresh()
    stream.reset()
    np.testing.assert_array_equal(stream.process(x), layer(x)[0])


def test_it_is_trained_and_saved(tmp_path):
    rng = np.random.default_rng(0)
    x = np.zeros((64, 3, 1), np.float32)
    y = np.full((64, 1), 0.7, np.float32)
    lstm = fl.LSTM(1, 8, learn_initial_state=True, rng=0)
    model = fl.SequenceModel(lstm, fl.Linear(8, 1, rng=0), task="regression")
    model.fit(x, y, epochs=5, batch_size=16, optimizer=fl.Adam(0.01), rng=rng)
    assert all(lstm.params[name].any() for name in ("h0_l0", "c0_l0"))
    model.save(tmp_path / "model.safetensors")
    loaded = fl.load(tmp_path / "model.safetensors")
    assert loaded.recurrent.learn_initial_state
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    state = lstm.state_dict()
    del state["h0_l0"]
    with pytest.raises(ValueError, match="lacks h0_l0"):
        lstm.load_state_dict(state)

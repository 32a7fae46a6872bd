"""Training on sequences of other shapes: ragged ones, and those cut along time."""

import copy

import numpy as np
import pytest

import fastlstm as fl


def make_model(*, cls=fl.LSTM, sequences=True, task="regression", **options):
    dtype = options.pop("dtype", np.float64)
    outputs = 3 if task == "classification" else 1
    return fl.SequenceModel(
        cls(2, 6, dtype=dtype, rng=0, **options),
        fl.Linear(6, outputs, dtype=dtype, rng=1),
        task=task,
        return_sequences=sequences,
    )


def sequences(n=10, steps=12, outputs=1):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, steps, 2)), rng.standard_normal((n, steps, outputs))


def weights_of(model):
    layers = (model.recurrent, model.head)
    return [value.copy() for layer in layers for value in layer.params.values()]


def same(first, second):
    for a, b in zip(weights_of(first), weights_of(second), strict=True):
        np.testing.assert_array_equal(a, b)


def sgd_step(model, x, y, state, rate, mask=None):
    """One update by hand; returns the state and what the loss was."""
    for layer in (model.recurrent, model.head):
        layer.zero_grad()
    output, state, tape = model.recurrent.forward(x.swapaxes(0, 1), state)
    prediction, features = model.head.forward(output.swapaxes(0, 1))
    loss, d = model.loss(prediction, y, None, mask)
    d_output = model.head.backward(d, features)
    model.recurrent.backward(d_output.swapaxes(0, 1), tape)
    for layer in (model.recurrent, model.head):
        for name, value in layer.params.items():
            value -= rate * layer.grads[name]
    return state, loss


SGD = {"clip_norm": None, "shuffle": False, "batch_size": 10}


# Ragged data


def test_padding_is_never_read():
    x, y = sequences()
    lengths = np.array([12, 3, 0, 7, 12, 1, 5, 9, 2, 4])
    padding = np.arange(12) >= lengths[:, None]
    dirty_x, dirty_y = x.copy(), y.copy()
    dirty_x[padding] = dirty_y[padding] = np.nan
    runs = []
    for given_x, given_y in ((x, y), (dirty_x, dirty_y)):
        model = make_model()
        history = model.fit(
            given_x,
            given_y,
            lengths=lengths,
            epochs=2,
            batch_size=4,
            rng=0,
            validation_data=(given_x, given_y, None, lengths),
        )
        runs.append((model, history.history))
    (clean, first), (dirty, second) = runs
    same(clean, dirty)
    assert first["loss"] == second["loss"]
    assert first["val_rmse"] == second["val_rmse"]
    got = dirty.evaluate(dirty_x, dirty_y, lengths=lengths)
    predicted = dirty.predict(dirty_x, lengths=lengths)
    assert not predicted[padding].any()
    error = (predicted - y)[~padding]
    assert got["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert got["loss"] == pytest.approx(np.mean(error**2))


def test_the_loss_is_the_mean_over_real_steps():
    x, y = sequences(n=4)
    lengths = np.array([12, 3, 0, 7])
    mask = np.arange(12) < lengths[:, None]
    model, other = make_model(), make_model()
    history = model.fit(
        x, y, lengths=lengths, optimizer=fl.SGD(0.1), **(SGD | {"batch_size": 4})
    )
    _, loss = sgd_step(other, x, y, None, 0.1, mask)
    assert history.history["loss"][0] == pytest.approx(loss)
    for a, b in zip(weights_of(model), weights_of(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_one_answer_a_sequence_comes_after_its_last_real_step():
    x, _ = sequences()
    labels = np.arange(10) % 3
    lengths = np.arange(1, 11)
    model = make_model(sequences=False, task="classification")
    model.fit(x, labels, lengths=lengths, epochs=2, rng=0)
    shares = model.predict_proba(x, lengths=lengths)
    for n, length in enumerate(lengths):
        alone = model.predict_proba(x[n : n + 1, :length])
        np.testing.assert_allclose(shares[n], alone[0], rtol=1e-12)
    assert 0 <= model.evaluate(x, labels, lengths=lengths)["accuracy"] <= 1


def test_labels_and_symbols_in_the_padding_may_be_anything():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, (6, 5))
    y = rng.integers(0, 3, (6, 5))
    lengths = np.array([5, 2, 3, 0, 1, 4])
    padding = np.arange(5) >= lengths[:, None]
    x[padding], y[padding] = -5, 99
    model = fl.SequenceModel(
        fl.LSTM(2, 6, rng=0),
        fl.Linear(6, 3, rng=0),
        embedding=fl.Embedding(7, 2, rng=0),
        return_sequences=True,
    )
    model.fit(x, y, lengths=lengths, epochs=2, batch_size=3, rng=0)
    shares = model.predict_proba(x, lengths=lengths)
    assert not shares[padding].any()
    np.testing.assert_allclose(shares[~padding].sum(axis=-1), 1, rtol=1e-6)


def test_batches_with_lengths():
    x, y = sequences()
    lengths = np.array([12, 3, 0, 7, 12, 1, 5, 9, 2, 4])
    whole, given = make_model(), make_model()
    whole.fit(x, y, lengths=lengths, batch_size=5, shuffle=False, rng=0)
    cut = [(x[i : i + 5], y[i : i + 5], None, lengths[i : i + 5]) for i in (0, 5)]
    given.fit(cut, rng=0)
    same(whole, given)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([1, 2], ValueError, r"lengths must have shape \(N,\) = \(10,\), got \(2,\)"),
        (np.full(10, 13), ValueError, "from 0 to T = 12, got 13 at row 0"),
        (np.full(10, 1.0), TypeError, "lengths must be integers, got float64"),
        ([[1], [1, 2]], TypeError, r"lengths must be integers, got \[\[1\]"),
    ],
)
def test_wrong_lengths_are_named(lengths, error, message):
    x, y = sequences()
    model = make_model()
    for call in (model.fit, model.evaluate):
        with pytest.raises(error, match=message):
            call(x, y, lengths=lengths)
    with pytest.raises(error, match=message):
        model.predict(x, lengths=lengths)
    if error is ValueError:
        with pytest.raises(error, match="validation lengths"):
            model.fit(x, y, validation_data=(x, y, None, np.asarray(lengths)))


# Cut along time


@pytest.mark.parametrize("cls", [fl.LSTM, fl.GRU])
@pytest.mark.parametrize("stateful", [False, True])
def test_chunks_are_updates_with_the_state_carried_and_detached(cls, stateful):
    x, y = sequences()
    model, other = make_model(cls=cls), make_model(cls=cls)
    history = model.fit(x, y, tbptt=5, stateful=stateful, optimizer=fl.SGD(0.1), **SGD)
    state, losses = None, []
    for begin in (0, 5, 10):
        part = slice(begin, min(begin + 5, 12))
        given = state if stateful else None
        state, loss = sgd_step(other, x[:, part], y[:, part], given, 0.1)
        losses.append(loss * (part.stop - part.start))
    for a, b in zip(weights_of(model), weights_of(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert history.history["loss"][0] == pytest.approx(sum(losses) / 12)


def test_burn_in_has_neither_loss_nor_gradient():
    x, y = sequences()
    changed = y.copy()
    changed[:, :3] = np.nan
    model, other = make_model(), make_model()
    options = {"tbptt": 9, "stateful": True, "burn_in": 3, "optimizer": fl.SGD(0.1)}
    model.fit(x, changed, **options, **SGD)
    _, state, _ = other.recurrent.forward(x[:, :3].swapaxes(0, 1))
    state, _ = sgd_step(other, x[:, 3:9], y[:, 3:9], state, 0.1)
    sgd_step(other, x[:, 9:], y[:, 9:], state, 0.1)
    for a, b in zip(weights_of(model), weights_of(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_last_chunk_of_burn_in_alone_is_left_out():
    x, y = sequences()

    def trained(steps, **options):
        seen = []
        model = make_model()
        model.fit(
            x[:, :steps],
            y[:, :steps],
            tbptt=5,
            burn_in=2,
            schedule=lambda step, total: seen.append((step, total)) or 0.1,
            optimizer=fl.SGD(0.1),
            **options,
            **SGD,
        )
        return model, seen

    model, seen = trained(12)  # chunks of 5, 5 and 2
    shorter, _ = trained(10)
    same(model, shorter)
    assert seen == [(0, 2), (1, 2)]
    _, seen = trained(12, lengths=np.full(10, 7))
    assert seen == [(0, 2)]


def test_batches_that_follow_each_other_carry_the_state():
    x, y = sequences()
    arrays, batches = make_model(), make_model()
    arrays.fit(x, y, tbptt=4, stateful=True, epochs=2, shuffle=False, rng=0)
    parts = [(x[:, i : i + 4], y[:, i : i + 4]) for i in (0, 4, 8)]
    batches.fit(parts, stateful=True, epochs=2, rng=0)
    same(arrays, batches)


def test_ragged_chunks_end_with_the_sequences():
    x, y = sequences(n=3)
    lengths = np.array([5, 0, 3])
    model = make_model()
    seen = []
    model.fit(
        x,
        y,
        lengths=lengths,
        tbptt=2,
        stateful=True,
        schedule=lambda step, total: seen.append((step, total)) or 1e-3,
        rng=0,
    )
    assert seen == [(0, 6), (1, 6), (2, 6)]
    other = make_model()
    short = (x[:, :5], y[:, :5])
    other.fit(*short, lengths=lengths, tbptt=2, stateful=True, rng=0)
    same(model, other)


def test_validation_of_chunks_is_that_of_whole_sequences():
    x, y = sequences()
    model = make_model()
    history = model.fit(
        x, y, tbptt=5, stateful=True, rng=0, validation_data=(x, y)
    ).history
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(x, y)["loss"])


def test_checkpoints_train_to_the_same_bits():
    x, y = sequences()
    plain, kept = make_model(), make_model()
    plain.fit(x, y, epochs=2, batch_size=4, rng=0)
    kept.fit(x, y, epochs=2, batch_size=4, rng=0, checkpoint_every=4)
    same(plain, kept)


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"bidirectional": True}, {"tbptt": 3}, "need one direction"),
        ({"sequences": False}, {"tbptt": 3}, "tbptt needs return_sequences"),
        ({}, {"stateful": True}, "stateful needs tbptt"),
        ({}, {"tbptt": 3, "burn_in": 3}, "burn_in must be below tbptt = 3, got 3"),
        ({}, {"burn_in": 12}, "burn_in must be below the 12 steps"),
        (
            {},
            {"burn_in": 4, "lengths": [4, 2] * 5},
            "below the 4 steps of the longest sequence of every batch, got 4",
        ),
        ({}, {"tbptt": 0}, "tbptt must be at least 1"),
        ({}, {"burn_in": -1}, "burn_in must be at least 0"),
        ({}, {"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
    ],
)
def test_wrong_cuts_are_named(options, arguments, message):
    x, y = sequences()
    two = options.get("bidirectional", False)
    recurrent = fl.LSTM(2, 6, bidirectional=two, dtype=np.float64)
    model = fl.SequenceModel(
        recurrent,
        fl.Linear(12 if two else 6, 1, dtype=np.float64),
        task="regression",
        return_sequences=options.get("sequences", True),
    )
    target = y if model.return_sequences else y[:, -1]
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=message):
        model.fit(x, target, **arguments)
    same(model, before)

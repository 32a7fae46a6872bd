"""Epochs in the core against the same steps one by one: equal to the bit."""

import numpy as np
import pytest

import fastlstm as fl

CELLS = [fl.LSTM, fl.GRU, fl.RNN]


class StepByStep(fl.Adam):
    """The same rule under a name that the core does not know."""


def problem(cls, task, return_sequences, seed=0, dtype=np.float32, **options):
    rng = np.random.default_rng(seed)
    width = 9 * (2 if options.get("bidirectional") else 1)
    recurrent = cls(3, 9, rng=1, dtype=dtype, **options)
    head = fl.Linear(width, 4, rng=2, dtype=dtype)
    model = fl.SequenceModel(
        recurrent, head, task=task, return_sequences=return_sequences
    )
    x = rng.normal(size=(53, 6, 3)).astype(dtype)
    steps = (53, 6) if return_sequences else (53,)
    if task == "classification":
        return model, x, rng.integers(0, 4, steps)
    return model, x, rng.normal(size=(*steps, 4)).astype(dtype)


def weights(model):
    layers = (model.recurrent, model.head)
    return [p.copy() for layer in layers for p in layer.params.values()]


def assert_same_weights(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_both_ways_agree(make, x, y, **settings):
    models = []
    histories = []
    for cls in (fl.Adam, StepByStep):
        model = make()
        settings["optimizer"] = cls(0.01)
        models.append(model)
        histories.append(model.fit(x, y, rng=5, batch_size=10, **settings))
    assert histories[0].profile
    assert not histories[1].profile
    assert_same_weights(*models)
    assert settings["optimizer"].steps == 12
    for name, values in histories[0].history.items():
        if name != "seconds":
            assert histories[1].history[name] == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("cls", CELLS)
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": True, "bidirectional": True},
        {"num_layers": 2, "dropout": 0.3, "bidirectional": True},
    ],
)
def test_core_equals_step_by_step(cls, task, return_sequences, options):
    _, x, y = problem(cls, task, return_sequences)
    assert_both_ways_agree(
        lambda: problem(cls, task, return_sequences, **options)[0],
        x,
        y,
        epochs=2,
        validation_data=(x[:20], y[:20]),
        schedule=fl.OneCycle(0.02),
        clip_norm=0.1,
    )


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_weights_views_and_no_clipping(return_sequences, shuffle):
    _, x, y = problem(fl.LSTM, "regression", return_sequences)
    gaps = np.zeros((53, 12, 5), np.float32)[:, ::2, :3]
    gaps[...] = x
    weight = np.random.default_rng(3).uniform(size=53).astype(np.float32)
    assert_both_ways_agree(
        lambda: problem(fl.LSTM, "regression", return_sequences)[0],
        gaps,
        y,
        epochs=2,
        sample_weight=weight,
        shuffle=shuffle,
        clip_norm=None,
    )


def test_float64_and_a_head_without_bias():
    def make():
        model = problem(fl.GRU, "regression", True, dtype=np.float64)[0]
        head = fl.Linear(9, 4, bias=False, rng=3, dtype=np.float64)
        return fl.SequenceModel(
            model.recurrent, head, task="regression", return_sequences=True,
            loss=fl.Huber(0.5),
        )  # fmt: skip

    _, x, y = problem(fl.GRU, "regression", True, dtype=np.float64)
    assert_both_ways_agree(make, x, y, epochs=2)


def test_arrays_that_the_core_cannot_read_go_step_by_step():
    model, x, y = problem(fl.LSTM, "classification", False)
    other = problem(fl.LSTM, "classification", False)[0]
    turned = np.asfortranarray(x)
    assert not model.fit(turned, y, batch_size=10, rng=0).profile
    other.fit(x, y, batch_size=10, rng=0)
    assert_same_weights(model, other)


def test_same_bits_on_any_number_of_threads(threads):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(130, 20, 28)).astype(np.float32)
    y = rng.integers(0, 10, 130)
    models = []
    for count in (1, 2, 3):
        threads(count)
        model = fl.SequenceModel(fl.LSTM(28, 100, rng=0), fl.Linear(100, 10, rng=0))
        model.fit(x, y, batch_size=64, rng=1)
        models.append(model)
    assert_same_weights(models[0], models[1])
    assert_same_weights(models[0], models[2])


def test_gradients_are_zero_after_fit():
    model, x, y = problem(fl.LSTM, "classification", False)
    model.fit(x, y, rng=0)
    for layer in (model.recurrent, model.head):
        assert not any(grad.any() for grad in layer.grads.values())


def test_profile_covers_the_epochs():
    model, x, y = problem(fl.LSTM, "classification", False)
    history = model.fit(x, y, epochs=3, rng=0)
    assert set(history.profile) == {
        "gather",
        "forward",
        "head",
        "loss",
        "backward",
        "optimizer",
    }
    assert 0 < sum(history.profile.values()) <= sum(history.history["seconds"])


def test_an_optimizer_of_another_model_is_refused():
    model, x, y = problem(fl.LSTM, "classification", False)
    optimizer = fl.Adam()
    model.fit(x, y, optimizer=optimizer)
    other = problem(fl.LSTM, "classification", False)[0]
    with pytest.raises(ValueError, match="state of other layers"):
        other.fit(x, y, optimizer=optimizer)


def test_a_schedule_must_give_rates():
    model, x, y = problem(fl.LSTM, "classification", False)
    with pytest.raises(ValueError, match="lr must be finite and >= 0, got -1"):
        model.fit(x, y, schedule=lambda step, total: -1.0)

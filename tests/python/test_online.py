"""Learning step by step: model.online against the same update made by the layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastlstm as fl

VARIANTS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru": {},
    "rnn": {},
    "peepholes": {"peepholes": True, "proj_size": 3, "layer_norm": True},
    "coupled": {"coupled": True, "cell_activation": ("elu", 0.7), "cell_clip": 2.0},
    "before": {"reset_after": False},
}
CLASSES = {"gru": fl.GRU, "rnn": fl.RNN, "before": fl.GRU}


def make_model(
    cls: type = fl.LSTM,
    dtype: type = np.float64,
    task: str = "regression",
    **options: Any,
) -> fl.SequenceModel:
    layer = cls(2, 5, 2, dtype=dtype, rng=0, **options)
    return fl.SequenceModel(
        layer,
        fl.Linear(layer.output_size, 3, dtype=dtype, rng=1),
        task=task,
        return_sequences=True,
    )


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_first_updates_are_those_of_fit(name: str, task: str) -> None:
    """A window that fills is a batch of one sequence: fit makes the same update."""
    steps = 6
    rng = np.random.default_rng(2)
    x = rng.normal(size=(steps, 2))
    y = rng.normal(size=(steps, 3)) if task == "regression" else rng.integers(3, size=6)
    learning, fitted = (
        make_model(CLASSES.get(name, fl.LSTM), task=task, **VARIANTS[name])
        for _ in range(2)
    )
    online = learning.online(optimizer=fl.SGD(0.1), tbptt=steps, clip_norm=0.5)
    for x_t, y_t in zip(x, y, strict=True):
        online.learn(x_t, y_t)
    online.store()
    fitted.fit(x[None], y[None], optimizer=fl.SGD(0.1), clip_norm=0.5, shuffle=False)
    for layer, other in (
        (learning.recurrent, fitted.recurrent),
        (learning.head, fitted.head),
    ):
        for name, value in layer.params.items():
            np.testing.assert_allclose(value, other.params[name], rtol=0, atol=1e-12)


def test_predicts_as_a_stream_until_it_has_learned() -> None:
    model = make_model(dtype=np.float32)
    online, stream = model.online(tbptt=4), model.stream()
    rng = np.random.default_rng(3)
    for x in rng.normal(size=(3, 2)).astype(np.float32):
        np.testing.assert_allclose(online.predict(x), stream.step(x), atol=1e-6)
        online.learn(x, np.zeros(3, np.float32))
    before = model.recurrent.params["weight_hh_l0"].copy()
    online.learn(x, np.zeros(3, np.float32))
    np.testing.assert_array_equal(model.recurrent.params["weight_hh_l0"], before)
    online.store()
    assert not np.array_equal(model.recurrent.params["weight_hh_l0"], before)
    online.reset()
    np.testing.assert_allclose(
        online.predict(x), model.stream().step(x), rtol=0, atol=1e-6
    )


def test_labels() -> None:
    online = make_model(dtype=np.float32, task="classification").online(
        optimizer=fl.Adam(0.02), tbptt=4
    )
    rng = np.random.default_rng(4)
    steps = rng.normal(size=(1500, 2)).astype(np.float32)
    right = []
    for x in steps:
        label = int(x[0] > 0) + int(x[1] > 0)
        right.append(online.predict(x) == label)
        online.learn(x, label)
    assert np.mean(right[-200:]) > 0.85  # the most frequent label is half of them


def test_refusals() -> None:
    model = make_model()
    online = model.online()
    x, y = np.zeros(2), np.zeros(3)
    with pytest.raises(ValueError, match=r"x must have shape"):
        online.learn(np.zeros(3), y)
    with pytest.raises(TypeError, match="float64"):
        online.learn(x.astype(np.float32), y)
    with pytest.raises(TypeError, match="x must be a NumPy array, got list"):
        online.predict([0.0, 0.0])
    with pytest.raises(TypeError, match="optimizer must be an Optimizer"):
        model.online(optimizer=0.1)
    with pytest.raises(ValueError, match="tbptt"):
        model.online(tbptt=0)
    with pytest.raises(ValueError, match="embedding"):
        fl.SequenceModel(
            fl.LSTM(2, 5), fl.Linear(5, 3), embedding=fl.Embedding(4, 2)
        ).online()
    with pytest.raises(ValueError, match="one direction"):
        fl.SequenceModel(fl.LSTM(2, 5, bidirectional=True), fl.Linear(10, 3)).online()
    with pytest.raises(ValueError, match="a cell with zoneout"):
        make_model(zoneout=0.1).online()
    labels = make_model(task="classification").online()
    with pytest.raises(ValueError, match="label must be from 0 to 2, got 3"):
        labels.learn(x, 3)
    with pytest.raises(TypeError, match=r"y must be an int, got 1\.5"):
        labels.learn(x, 1.5)
    with pytest.raises(ValueError, match="y must be at least 0, got -1"):
        labels.learn(x, -1)

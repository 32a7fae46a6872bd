"""SequenceModel: learning, repeatability, saving, and what it refuses."""

import json

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.serialization import read_safetensors, write_safetensors

CELLS = [fl.LSTM, fl.GRU, fl.RNN]


def sums(n=400, steps=6, seed=0):
    """Is the sum of a sequence positive?"""
    x = np.random.default_rng(seed).normal(size=(n, steps, 1)).astype(np.float32)
    return x, (x.sum(axis=(1, 2)) > 0).astype(np.int64)


def classifier(cls=fl.LSTM, **options):
    recurrent = cls(1, 12, rng=0, **options)
    width = 24 if options.get("bidirectional") else 12
    return fl.SequenceModel(recurrent, fl.Linear(width, 2, rng=0))


def regressor(return_sequences=True):
    lstm, head = fl.LSTM(1, 12, rng=0), fl.Linear(12, 1, rng=0)
    return fl.SequenceModel(
        lstm, head, task="regression", return_sequences=return_sequences
    )


def weights(model):
    layers = (model.recurrent, model.head)
    return [p.copy() for layer in layers for p in layer.params.values()]


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("cls", CELLS)
@pytest.mark.parametrize(
    "options", [{}, {"batch_first": True}, {"bidirectional": True}]
)
def test_classification_learns(cls, options):
    x, y = sums()
    model = classifier(cls, **options)
    history = model.fit(
        x, y, epochs=15, batch_size=20, optimizer=fl.Adam(0.01), rng=0
    ).history
    assert model.evaluate(*sums(seed=1))["accuracy"] > 0.9
    assert history["loss"][-1] < history["loss"][0]
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), model.predict(x))


def test_regression_at_every_step_learns():
    x, _ = sums()
    y = np.cumsum(x, axis=1) / 3
    model = regressor()
    model.fit(x, y, epochs=20, batch_size=20, optimizer=fl.Adam(0.01), rng=0)
    assert model.predict(x).shape == y.shape
    assert model.evaluate(x, y)["rmse"] < 0.1 * y.std() + 0.05


def test_embedding_in_front_learns():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (300, 4))
    y = x[:, 0] // 3
    model = fl.SequenceModel(
        fl.LSTM(3, 12, rng=0),
        fl.Linear(12, 2, rng=0),
        embedding=fl.Embedding(5, 3, rng=0),
    )
    model.fit(x, y, epochs=20, batch_size=20, optimizer=fl.Adam(0.02), rng=0)
    assert model.evaluate(x, y)["accuracy"] > 0.95


def test_same_seed_gives_the_same_bits_on_any_number_of_threads(threads):
    x, y = sums()
    results = []
    for count in (1, 2, 4):
        threads(count)
        model = classifier(num_layers=2, dropout=0.2)
        model.fit(x, y, epochs=2, batch_size=64, rng=3)
        results.append(weights(model))
    assert same(results[0], results[1])
    assert same(results[0], results[2])


def test_one_step_is_the_gradient_of_the_mean_loss():
    x, y = sums(n=8)
    model = classifier()
    lstm, head = model.recurrent, model.head
    _, (h_n, _), tape = lstm.forward(np.ascontiguousarray(x.transpose(1, 0, 2)))
    loss, d_out = fl.CrossEntropy()(head(h_n[0]), y)
    expected = head.params["weight"] - 0.1 * d_out.T @ h_n[0]
    d_h = d_out @ head.params["weight"]
    lstm.backward(None, tape, (d_h[None], None))
    expected_w = lstm.params["weight_hh_l0"] - 0.1 * lstm.grads["weight_hh_l0"]
    history = model.fit(x, y, batch_size=8, optimizer=fl.SGD(0.1), clip_norm=None)
    np.testing.assert_allclose(head.params["weight"], expected, rtol=1e-5)
    np.testing.assert_allclose(lstm.params["weight_hh_l0"], expected_w, rtol=1e-5)
    assert history.history["loss"][0] == pytest.approx(loss, rel=1e-5)


def test_sample_weight_zero_takes_samples_out():
    x, y = sums(n=64)
    wrong = y.copy()
    wrong[32:] = 1 - wrong[32:]
    weight = np.ones(64, np.float32)
    weight[32:] = 0
    spoilt, clean = x.copy(), x.copy()
    model = classifier()
    model.fit(spoilt, wrong, batch_size=64, sample_weight=weight, shuffle=False)
    other = classifier()
    other.fit(clean, y, batch_size=64, sample_weight=weight, shuffle=False)
    assert same(weights(model), weights(other))


def test_batches_from_an_iterable_equal_arrays():
    x, y = sums(n=64)
    model, other = classifier(), classifier()
    model.fit(x, y, batch_size=16, shuffle=False, epochs=2, rng=0)
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    other.fit(batches, epochs=2, rng=0)
    assert same(weights(model), weights(other))


def test_memory_mapped_data(tmp_path):
    x, y = sums(n=64)
    np.save(tmp_path / "x.npy", x)
    model, other = classifier(), classifier()
    model.fit(x, y, batch_size=16, rng=0)
    other.fit(np.load(tmp_path / "x.npy", mmap_mode="r"), y, batch_size=16, rng=0)
    assert same(weights(model), weights(other))


def test_schedule_validation_and_callbacks():
    x, y = sums(n=64)
    seen = []

    def callback(epoch, logs):
        seen.append((epoch, logs["val_accuracy"]))
        return epoch == 1

    history = classifier().fit(
        x,
        y,
        epochs=5,
        batch_size=32,
        schedule=lambda step, total: 0.01 * (1 - step / total),
        validation_data=sums(n=32, seed=1),
        callbacks=[callback],
    )
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert history.history["val_accuracy"] == [value for _, value in seen]
    assert history.history["lr"] == pytest.approx([0.009, 0.007])


def test_stop_training_ends_it():
    def stop(epoch, logs):
        raise fl.StopTraining

    x, y = sums(n=32)
    history = classifier().fit(x, y, epochs=5, callbacks=[stop])
    assert len(history.history["loss"]) == 1


def test_non_finite_gradient_leaves_the_model_as_it_was():
    x, y = sums(n=32)
    x[5, 2, 0] = np.nan
    model = classifier()
    before = weights(model)
    with pytest.raises(FloatingPointError, match="epoch 1, batch 1"):
        model.fit(x, y, batch_size=32)
    assert same(before, weights(model))


@pytest.mark.parametrize("cls", CELLS)
def test_save_and_load_give_the_same_bits(cls, tmp_path):
    x, y = sums(n=64)
    model = classifier(cls, num_layers=2, bidirectional=True)
    model.fit(x, y, rng=0)
    model.save(tmp_path / "model.safetensors")
    loaded = fl.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))
    assert loaded.recurrent.config() == model.recurrent.config()
    assert loaded.training_summary == pytest.approx(model.training_summary)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def resaved(tmp_path, change):
    """Save a model, let `change` edit its tensors and metadata, return the path."""
    path = tmp_path / "model.safetensors"
    classifier().save(path)
    tensors, metadata = read_safetensors(path)
    change(tensors, metadata)
    write_safetensors(path, tensors, metadata)
    return path


def edit_config(**changes):
    def change(tensors, metadata):
        metadata["config"] = json.dumps(json.loads(metadata["config"]) | changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.update(format_version="99"), "version 99 is not known"),
        (lambda t, m: m.clear(), "not a fastlstm model"),
        (lambda t, m: t.pop("head.bias"), "bias"),
        (lambda t, m: t.update(extra=np.zeros(2)), "unexpected tensor extra"),
        (lambda t, m: m.update(config="[]"), "config must be an object"),
        (lambda t, m: m.update(training="[1]"), "training must be an object"),
        (lambda t, m: m.update(training="}"), "training is not JSON: Expecting"),
        (edit_config(scaler={}), "config has 'scaler', which this version does not"),
        (
            edit_config(loss={"class": "CrossEntropy", "config": {}, "weights": []}),
            "loss has 'weights', which this version does not know",
        ),
        (edit_config(task="translation"), "task must be one of"),
        (edit_config(recurrent={"class": "LSTM9", "config": {}}), "recurrent must be"),
    ],
)
def test_a_model_file_that_lies_is_refused(tmp_path, change, message):
    path = resaved(tmp_path, change)
    with pytest.raises(fl.ModelFileError, match=message) as error:
        fl.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x, y: m.fit(x.astype(float), y), TypeError, "float32"),
        (lambda m, x, y: m.fit(x[:, :, 0], y), ValueError, "x must"),
        (lambda m, x, y: m.fit(x, y[:-1]), ValueError, "y must"),
        (lambda m, x, y: m.fit(x, y.astype(np.float32)), TypeError, "y must"),
        (lambda m, x, y: m.fit(x, y + 1), ValueError, "2"),
        (lambda m, x, y: m.fit(x, y - 1), ValueError, "-1"),
        (lambda m, x, y: m.fit(x, y, epochs=0), ValueError, "epochs must be"),
        (lambda m, x, y: m.fit(x, y, batch_size=0), ValueError, "batch_size must be"),
        (lambda m, x, y: m.fit(x, y, clip_norm=0), ValueError, "clip_norm must be"),
        (lambda m, x, y: m.fit(x, y, optimizer="adam"), TypeError, "optimizer must be"),
        (lambda m, x, y: m.predict(x[:, :, [0, 0]]), ValueError, "x must"),
    ],
)
def test_wrong_data_are_named(call, error, message):
    x, y = sums(n=16)
    with pytest.raises(error, match=message):
        call(classifier(), x, y)


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="head must take D\\*H = 12 features"):
        fl.SequenceModel(fl.LSTM(1, 12), fl.Linear(13, 2))
    with pytest.raises(ValueError, match="head must have dtype float32"):
        fl.SequenceModel(fl.LSTM(1, 12), fl.Linear(12, 2, dtype=np.float64))
    with pytest.raises(ValueError, match="predict_proba needs classification"):
        regressor().predict_proba(np.zeros((1, 2, 1), np.float32))

"""fit_many: every model as if trained alone, on any number of threads; early errors."""

import numpy as np
import pytest

import fastlstm as fl


def model_of(seed, cls=fl.LSTM, hidden=7, **options):
    return fl.SequenceModel(
        cls(2, hidden, rng=seed, **options), fl.Linear(hidden, 3, rng=seed)
    )


def data_of(seed, count=41):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 5, 2)).astype(np.float32)
    return x, rng.integers(0, 3, count)


def weights(model):
    layers = (model.recurrent, model.head)
    return [p.copy() for layer in layers for p in layer.params.values()]


def values(history):
    return {k: v for k, v in history.history.items() if k != "seconds"}


def assert_as_alone(models, alone, histories, histories_alone):
    for model, other in zip(models, alone, strict=True):
        for a, b in zip(weights(model), weights(other), strict=True):
            np.testing.assert_array_equal(a, b)
    for one, other in zip(histories, histories_alone, strict=True):
        assert values(one) == values(other)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_data_common_to_all(threads, count):
    x, y = data_of(0)
    settings = {
        "epochs": 3,
        "batch_size": 8,
        "schedule": fl.OneCycle(0.02),
        "validation_data": data_of(1),
    }
    threads(1)
    alone = [model_of(seed) for seed in range(5)]
    histories_alone = [
        model.fit(x, y, optimizer=fl.Adam(0.01), rng=seed, **settings)
        for seed, model in enumerate(alone)
    ]
    threads(count)
    models = [model_of(seed) for seed in range(5)]
    histories = fl.fit_many(
        models, x, y, optimizer=fl.Adam(0.01), rng=list(range(5)), **settings
    )
    assert_as_alone(models, alone, histories, histories_alone)
    assert models[3].training_summary["epochs"] == 3


def test_everything_of_its_own(threads):
    def make():
        return [
            model_of(0),
            model_of(1, fl.GRU, 12, bidirectional=False, num_layers=2, dropout=0.2),
            model_of(2, fl.RNN, 3),
        ]

    data = [data_of(seed, count) for seed, count in ((0, 64), (1, 17), (2, 90))]
    optimizers = [lambda: fl.SGD(0.1, momentum=0.9), fl.Adam, lambda: fl.RMSprop(0.01)]
    weight = [np.full(len(x), 0.5 + i, np.float32) for i, (x, _) in enumerate(data)]
    threads(2)
    models, alone = make(), make()
    histories = fl.fit_many(
        models,
        [x for x, _ in data],
        [y for _, y in data],
        epochs=2,
        batch_size=8,
        optimizer=[make_one() for make_one in optimizers],
        sample_weight=weight,
        validation_data=data[::-1],
        clip_norm=None,
        rng=[5, None, 7],
        shuffle=False,
    )
    histories_alone = [
        model.fit(
            *data[i],
            epochs=2,
            batch_size=8,
            optimizer=optimizers[i](),
            sample_weight=weight[i],
            validation_data=data[2 - i],
            clip_norm=None,
            rng=rng,
            shuffle=False,
        )
        for i, (model, rng) in enumerate(zip(alone, [5, 6, 7], strict=True))
    ]
    # The second drew its dropout from fresh entropy.
    for i in (0, 2):
        assert_as_alone([models[i]], [alone[i]], [histories[i]], [histories_alone[i]])


def test_callbacks_end_one_model():
    x, y = data_of(0)
    seen = []

    def callback(index, epoch, logs):
        seen.append((index, epoch))
        if index == 2:
            raise fl.StopTraining
        return index == 1 and epoch == 1

    histories = fl.fit_many(
        [model_of(seed) for seed in range(3)], x, y, epochs=3, callbacks=[callback]
    )
    assert [len(h.history["loss"]) for h in histories] == [3, 2, 1]
    assert seen == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2)]


def test_one_model_that_diverges_is_named_and_left_as_it_was():
    data = [data_of(seed) for seed in range(3)]
    data[1][0][20, 1, 0] = np.nan
    models = [model_of(seed) for seed in range(3)]
    alone = model_of(2)
    before = weights(models[1])
    with pytest.raises(FloatingPointError, match=r"models\[1\]: .*epoch 1, batch 3"):
        fl.fit_many(
            models,
            [x for x, _ in data],
            [y for _, y in data],
            batch_size=10,
            optimizer=[fl.SGD(0.0), fl.SGD(0.0), fl.Adam()],
            shuffle=False,
        )
    for a, b in zip(weights(models[1]), before, strict=True):
        np.testing.assert_array_equal(a, b)
    alone.fit(*data[2], batch_size=10, shuffle=False)
    for a, b in zip(weights(models[2]), weights(alone), strict=True):
        np.testing.assert_array_equal(a, b)


def stepped():
    optimizer = fl.Adam()
    x, y = data_of(0)
    model_of(9).fit(x, y, optimizer=optimizer)
    return optimizer


class OwnLoss(fl.CrossEntropy):
    """Not a loss that the core knows."""


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": []}, ValueError, "models is empty"),
        ({"models": [model_of(0), 3]}, TypeError, r"models\[1\] must be a Seq"),
        ({"models": [model_of(0)] * 2}, ValueError, r"models\[1\] has a layer"),
        ({"epochs": 0}, ValueError, r"models\[0\]: epochs must be"),
        ({"x": [data_of(0)[0]]}, ValueError, "x must be one for all or a list of 2"),
        (
            {"y": [data_of(0)[1], data_of(0)[1] + 1]},
            ValueError,
            r"models\[1\]: y\[\d+\] is 3",
        ),
        ({"optimizer": "adam"}, TypeError, r"models\[0\]: optimizer must be"),
        ({"optimizer": stepped()}, ValueError, "optimizer has made steps"),
        ({"rng": np.random.default_rng(0)}, TypeError, "rng must be None, an int"),
        ({"rng": [1]}, ValueError, "rng must be one for all or a list of 2"),
        (
            {
                "models": [
                    model_of(0),
                    fl.SequenceModel(fl.LSTM(2, 7), fl.Linear(7, 3), loss=OwnLoss()),
                ]
            },
            ValueError,
            r"models\[1\]: fit_many takes",
        ),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_trained(change, error, message):
    x, y = data_of(0)
    models = [model_of(0), model_of(1)]
    before = [weights(model) for model in models]
    arguments = {"models": models, "x": x, "y": y} | change
    with pytest.raises(error, match=message):
        fl.fit_many(**arguments)
    for model, kept in zip(models, before, strict=True):
        for a, b in zip(weights(model), kept, strict=True):
            np.testing.assert_array_equal(a, b)

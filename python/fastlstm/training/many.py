"""fit_many: several models trained in one call, each on a thread of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm._checks import check_size
from fastlstm.optim import Adam, Optimizer
from fastlstm.schedules import Schedule
from fastlstm.training.core_run import CoreTrainer, Fit, train_together
from fastlstm.training.history import History, Logs
from fastlstm.training.model import SequenceModel

Array = npt.NDArray[Any]
Validation = tuple[Array, ...]


def fit_many(
    models: Sequence[SequenceModel],
    x: Array | Sequence[Array],
    y: Array | Sequence[Array],
    *,
    epochs: int = 1,
    batch_size: int = 128,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    schedule: Schedule | Sequence[Schedule] | None = None,
    validation_data: Validation | Sequence[Validation] | None = None,
    clip_norm: float | None = 1.0,
    shuffle: bool = True,
    sample_weight: Array | Sequence[Array] | None = None,
    rng: int | Sequence[int | np.random.Generator | None] | None = None,
    progress: bool = False,
    callbacks: Iterable[Callable[[int, int, Logs], object]] = (),
) -> list[History]:
    """Train several models side by side: folds, seeds, or one a series.

    The models are dealt out to the threads, each model to one thread at a time. Every
    model comes out with the bits that ``models[i].fit`` alone would give it. Small
    models gain as many times as there are threads; a model that keeps all threads busy
    by itself gains nothing.

    Parameters
    ----------
    models : sequence of SequenceModel
        Of one dtype, no layer in two of them. They need not be of one shape.
    x, y, sample_weight, optimizer, schedule, validation_data, rng
        As in `SequenceModel.fit`: one for all models, or a list with one for each. One
        optimizer for all must not have made a step; every model gets a copy.
    epochs, batch_size, clip_norm, shuffle, progress
        As in `SequenceModel.fit`, the same for all.
    callbacks : iterable of callable
        ``callback(index, epoch, logs)`` after every epoch of every model; returning
        True or raising StopTraining ends the training of that model.

    Returns
    -------
    list of History
        One for each model. ``seconds`` is the time of the epoch of all models.

    Raises
    ------
    FloatingPointError
        If a gradient of some model is not finite. That model is as it was before that
        batch; the others have come to the end of the epoch.
    ValueError, TypeError
        If an argument does not fit, before anything is trained; the model is named.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> x = np.random.default_rng(0).normal(size=(64, 5, 1)).astype(np.float32)
    >>> y = (x.sum(axis=(1, 2)) > 0).astype(np.int64)
    >>> models = [fl.SequenceModel(fl.LSTM(1, 8, rng=seed), fl.Linear(8, 2, rng=seed))
    ...           for seed in range(4)]
    >>> histories = fl.fit_many(models, x, y, epochs=2, rng=[0, 1, 2, 3])
    >>> [len(history.history["loss"]) for history in histories]
    [2, 2, 2, 2]
    """
    models = list(models)
    _check_models(models)
    count = len(models)
    dealt = {
        name: _dealt(name, value, count)
        for name, value in (
            ("x", x),
            ("y", y),
            ("optimizer", optimizer),
            ("schedule", schedule),
            ("validation_data", validation_data),
            ("sample_weight", sample_weight),
            ("rng", rng),
        )
    }
    dealt["optimizer"] = _own_optimizers(dealt["optimizer"])
    if isinstance(rng, np.random.Generator):
        raise TypeError("rng must be None, an int or a list of one for each model")
    callbacks = list(callbacks)
    trainers = []
    for i, model in enumerate(models):
        try:
            fit = model._prepared(
                **{name: values[i] for name, values in dealt.items()},
                epochs=check_size("epochs", epochs),
                batch_size=batch_size,
                clip_norm=clip_norm,
                shuffle=shuffle,
                progress=progress,
                callbacks=[partial(callback, i) for callback in callbacks],
            )
            _check_in_core(fit)
            trainers.append(CoreTrainer(fit, f"models[{i}]: "))
        except (ValueError, TypeError) as error:
            raise type(error)(f"models[{i}]: {error}") from None
    train_together(trainers, progress=progress)
    for model, trainer in zip(models, trainers, strict=True):
        model._note(trainer.history)
    return [trainer.history for trainer in trainers]


def _check_models(models: list[SequenceModel]) -> None:
    if not models:
        raise ValueError("models is empty")
    layers: set[int] = set()
    for i, model in enumerate(models):
        if not isinstance(model, SequenceModel):
            got = type(model).__name__
            raise TypeError(f"models[{i}] must be a SequenceModel, got {got}")
        if model.recurrent.dtype != models[0].recurrent.dtype:
            raise ValueError(
                f"models must have one dtype, got {models[0].recurrent.dtype} and "
                f"{model.recurrent.dtype}"
            )
        own = {id(model.recurrent), id(model.head)}
        if own & layers:
            raise ValueError(f"models[{i}] has a layer that another model has too")
        layers |= own


def _dealt(name: str, value: Any, count: int) -> list[Any]:
    """Return one value for each model."""
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"{name} must be one for all or a list of {count}, one for each model, "
            f"got a list of {len(value)}"
        )
    return value


def _own_optimizers(optimizers: list[Any]) -> list[Any]:
    """Copy an optimizer that several models are given, so that each has its own."""
    first = optimizers[0]
    if first is None:
        return [Adam(1e-3) if one is None else one for one in optimizers]
    if len(optimizers) > 1 and all(one is first for one in optimizers):
        if isinstance(first, Optimizer) and first.steps > 0:
            raise ValueError(
                "optimizer has made steps already: give a new one, or a list of one "
                "for each model"
            )
        return [copy.deepcopy(first) for _ in optimizers]
    return optimizers


def _check_in_core(fit: Fit) -> None:
    if not fit.in_core:
        raise ValueError(
            "fit_many takes LSTM, GRU or RNN with Linear, losses and optimizers of "
            "this package, no embedding, no learned initial state, and arrays whose "
            "last axis has no gaps; train this model with its fit"
        )

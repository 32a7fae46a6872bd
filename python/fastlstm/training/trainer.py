"""The training loop: epochs of steps, what they report, when they stop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm.losses import Loss
from fastlstm.optim import Optimizer, clip_scale, grad_norm
from fastlstm.schedules import Schedule
from fastlstm.training.batches import Batch, Batches
from fastlstm.training.chunks import Chunks
from fastlstm.training.history import Callback, History, Logs, StopTraining
from fastlstm.training.network import Network
from fastlstm.training.progress import progress_bar

Array = npt.NDArray[Any]


class Tally:
    """Running means of loss and accuracy (or root mean square error).

    Parameters
    ----------
    task : {"classification", "regression"}
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._loss = 0.0
        self._steps = 0
        self._score = 0.0
        self._values = 0

    def add(
        self, loss: float, prediction: Array, target: Array, mask: Array | None = None
    ) -> None:
        """Count a batch: its mean loss, predictions (..., O), targets, mask (...)."""
        steps = math.prod(prediction.shape[:-1])
        if mask is not None:
            steps = int(mask.sum())
            prediction, target = prediction[mask], target[mask]
        self._loss += loss * steps
        self._steps += steps
        if self._task == "classification":
            self._score += float((prediction.argmax(axis=-1) == target).sum())
            self._values += steps
        else:
            error = prediction - target
            self._score += float(np.square(error, dtype=np.float64).sum())
            self._values += error.size

    def logs(self) -> Logs:
        """Return the means; NaN where nothing was counted."""
        return mean_logs(self._task, self._loss, self._steps, self._score, self._values)


def mean_logs(task: str, loss: float, steps: int, score: float, values: int) -> Logs:
    """Return mean loss, and accuracy or root mean square error, from their sums."""
    mean_loss = loss / steps if steps else math.nan
    mean_score = score / values if values else math.nan
    if task == "classification":
        return {"loss": mean_loss, "accuracy": mean_score}
    return {"loss": mean_loss, "rmse": math.sqrt(mean_score)}


def evaluate(
    network: Network,
    loss: Loss,
    task: str,
    data: Batches,
    chunks: Chunks | None = None,
) -> Logs:
    """Return mean loss and score over all batches, parameters unchanged.

    Stateful chunks are run one after the other, to the results of whole sequences;
    other chunks and burn-in are ignored.
    """
    tally = Tally(task)
    state = None
    if chunks is None or not chunks.stateful:
        chunks = Chunks()
    for batch in chunks.cut(data.batches()):
        assert batch.y is not None
        state = None if batch.fresh else state
        prediction, state = network.advance(batch.x, batch.lengths, state)
        mask = batch.mask(network.return_sequences)
        value = loss.value(prediction, batch.y, batch.sample_weight, mask)
        tally.add(value, prediction, batch.y, mask)
    return tally.logs()


@dataclass
class Trainer:
    """Trains a network; one object a run.

    Parameters
    ----------
    network, loss, task
        What is trained, and on what.
    optimizer : Optimizer
    schedule : callable or None
        Learning rate of each step; None: the optimizer's own.
    clip_norm : float or None
        Largest global norm of a gradient.
    epochs : int
    shuffle : numpy.random.Generator or None
        Orders the samples; None keeps their order.
    progress : bool
        Whether to show a bar for each epoch.
    callbacks : iterable of callable
        Called with the epoch and its values; True ends training.
    chunks : Chunks
        How sequences are cut along time.
    checkpoint_every : int or None
        Of the recurrent layer's forward passes.
    """

    network: Network
    loss: Loss
    task: str
    optimizer: Optimizer
    schedule: Schedule | None
    clip_norm: float | None
    epochs: int
    shuffle: np.random.Generator | None
    progress: bool
    callbacks: Iterable[Callback]
    chunks: Chunks = field(default_factory=Chunks)
    checkpoint_every: int | None = None
    _step: int = field(default=0, init=False)
    _lr: float = field(default=math.nan, init=False)

    def run(self, data: Batches, validation: Batches | None) -> History:
        """Train for all epochs or until a callback ends it."""
        history = History()
        callbacks = list(self.callbacks)
        for epoch in range(self.epochs):
            logs = self._epoch(epoch, data)
            if validation is not None:
                values = evaluate(
                    self.network, self.loss, self.task, validation, self.chunks
                )
                logs |= {f"val_{name}": value for name, value in values.items()}
            history.append(logs)
            if wants_stop(callbacks, epoch, logs):
                break
        return history

    def _epoch(self, epoch: int, data: Batches) -> Logs:
        tally = Tally(self.task)
        batches = self.chunks.count(data)
        total = None if batches is None else batches * self.epochs
        norms = 0.0
        count = 0
        start = time.perf_counter()
        title = f"epoch {epoch + 1}/{self.epochs}"
        with progress_bar(self.progress, title, batches) as bar:
            state = None
            for batch in self.chunks.cut(data.batches(self.shuffle)):
                if batch.fresh:
                    batch, state = self._begun(batch)
                loss, prediction, norm, state = self._gradients(batch, state)
                count += 1
                self._check_norm(norm, epoch, count)
                self._update(norm, total)
                assert batch.y is not None
                mask = batch.mask(self.network.return_sequences)
                tally.add(loss, prediction, batch.y, mask)
                norms += norm
                bar.step(loss=loss)
        if count == 0:
            raise ValueError(f"x gave no batches in epoch {epoch + 1}")
        logs = tally.logs()
        logs["lr"] = self._lr
        logs["grad_norm"] = norms / count
        logs["seconds"] = time.perf_counter() - start
        return logs

    def _begun(self, batch: Batch) -> tuple[Batch, Any]:
        """Run the burn-in of a batch that begins; return the rest and the state."""
        burnt = self.chunks.burn_in
        if burnt == 0:
            return batch, None
        total = batch.x.shape[1]
        longest = total if batch.lengths is None else batch.lengths.max(initial=0)
        if burnt >= longest:
            raise ValueError(
                f"burn_in must be below the {longest} steps of the longest sequence "
                f"of every batch, got {burnt}"
            )
        # y (N,) of a whole sequence stays as it is.
        rest = batch._replace(y=None).between(burnt, total, True)
        y = batch.y
        if self.network.return_sequences and y is not None:
            y = y[:, burnt:]
        first = batch._replace(y=None, sample_weight=None).between(0, burnt, True)
        return rest._replace(y=y), self.network.warm(first.x, first.lengths)

    def _gradients(self, batch: Batch, state: Any) -> tuple[float, Array, float, Any]:
        modules = self.network.modules
        for module in modules:
            module.zero_grad()
        prediction, tape, state = self.network.forward(
            batch.x, batch.lengths, state, self.checkpoint_every
        )
        assert batch.y is not None
        mask = batch.mask(self.network.return_sequences)
        loss, d_prediction = self.loss(prediction, batch.y, batch.sample_weight, mask)
        self.network.backward(d_prediction, tape)
        norm = grad_norm(module.grads for module in modules)
        return loss, prediction, norm, state

    def _check_norm(self, norm: float, epoch: int, batch: int) -> None:
        if math.isfinite(norm):
            return
        for module in self.network.modules:
            module.zero_grad()
        raise FloatingPointError(
            f"the gradient norm is {norm} at epoch {epoch + 1}, batch {batch}; "
            "parameters are as they were before this batch"
        )

    def _update(self, norm: float, total: int | None) -> None:
        self._lr = self.optimizer.lr
        if self.schedule is not None:
            self._lr = float(self.schedule(self._step, total))
        scale = 1.0 if self.clip_norm is None else clip_scale(norm, self.clip_norm)
        self.optimizer.step(self.network.modules, lr=self._lr, grad_scale=scale)
        self._step += 1


def wants_stop(callbacks: list[Callback], epoch: int, logs: Logs) -> bool:
    """Call every callback; true if one returned True or raised StopTraining."""
    stop = False
    for callback in callbacks:
        try:
            stop |= callback(epoch, dict(logs)) is True
        except StopTraining:
            stop = True
    return stop

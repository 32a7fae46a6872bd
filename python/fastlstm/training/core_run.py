"""Epochs that the core runs by itself: several models' side by side, or one's.

Fit goes this way where layers, loss, optimizer and data are all of the package's own
kinds; trainer.py is the way for everything else, to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm import _core
from fastlstm._checks import check_real
from fastlstm.losses import MAE, MSE, CrossEntropy, Huber, Loss, row_weights
from fastlstm.nn import GRU, LSTM, RNN
from fastlstm.nn.linear import Linear
from fastlstm.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from fastlstm.training.batches import ArrayBatches, Batches
from fastlstm.training.history import History, Logs
from fastlstm.training.network import Network
from fastlstm.training.progress import progress_bar
from fastlstm.training.trainer import Trainer, evaluate, mean_logs, wants_stop

Array = npt.NDArray[Any]

_LOSSES: dict[type, str] = {
    CrossEntropy: "cross_entropy",
    MSE: "squared",
    MAE: "absolute",
    Huber: "huber",
}
# Seconds that the core runs before signals and progress bars have their turn.
_BUDGET = 0.1


def core_takes(network: Network, loss: Loss, data: ArrayBatches) -> bool:
    """Whether the core can run through these data by itself."""
    plain = type(network.recurrent) in (LSTM, GRU, RNN) and type(network.head) is Linear
    x = data.arrays[0]
    lies_well = x.flags.aligned and (x.strides[-1] == x.itemsize or x.shape[-1] == 1)
    whole = all(stride % x.itemsize == 0 for stride in x.strides)
    known = type(loss) in _LOSSES and network.embedding is None
    learned = network.recurrent.learn_initial_state
    even = data.lengths is None and not learned
    return plain and known and lies_well and whole and even


@dataclass(frozen=True)
class Fit:
    """What a call of fit is to run, its arguments checked."""

    trainer: Trainer
    data: Batches
    validation: Batches | None

    @property
    def in_core(self) -> bool:
        """Whether the core can do what the trainer would do step by step."""
        t = self.trainer
        return (
            type(t.optimizer) in (SGD, Adam, AdamW, RMSprop)
            and isinstance(self.data, ArrayBatches)
            and t.chunks.whole
            and t.checkpoint_every is None
            and core_takes(t.network, t.loss, self.data)
        )


class CoreRun:
    """The data of one model, brought to the form that the core takes.

    Parameters
    ----------
    network, loss, task
        What runs, as in `Trainer`.
    data : ArrayBatches
        Of which `core_takes` is true.
    """

    def __init__(
        self, network: Network, loss: Loss, task: str, data: ArrayBatches
    ) -> None:
        self._network = network
        self._loss = loss
        self._task = task
        self._x, target, weight = data.arrays
        assert target is not None
        rows = self._x.shape[: 2 if network.return_sequences else 1]
        dtype = np.int64 if task == "classification" else network.head.dtype
        self._target = np.ascontiguousarray(target, dtype)
        self._weight = row_weights(weight, rows, network.head.dtype)
        self._answers = int(np.prod(rows))
        self._batch_size = data.batch_size
        self.steps = len(data)

    def begin(
        self,
        optimizer: Optimizer | None,
        clip_norm: float | None = None,
        order: Array | None = None,
        rates: Array | None = None,
    ) -> Any:
        """Return the core's run of an epoch; without an optimizer it only measures."""
        layers = self._network.modules
        recurrent, head = self._network.recurrent, self._network.head
        params = [p for layer in layers for p in layer.params.values()]
        grads = [layer.grads[name] for layer in layers for name in layer.params]
        state = [] if optimizer is None else optimizer.state_of(layers)
        single = recurrent.dtype == np.float32
        core = _core.TrainingRunFloat32 if single else _core.TrainingRunFloat64
        run = core(
            recurrent._core,
            params,
            grads,
            state,
            head_bias=head.bias,
            return_sequences=self._network.return_sequences,
            batch_first=recurrent.batch_first,
        )
        run.set_goal(
            _LOSSES[type(self._loss)],
            self._loss.config().get("delta", 1.0),
            _core.Sgd(momentum=0, weight_decay=0, nesterov=False)
            if optimizer is None
            else optimizer.rule(),
            np.inf if clip_norm is None else clip_norm,
        )
        run.set_data(self._x, self._target, self._weight)
        learns = optimizer is not None
        seeds = recurrent.draw_seeds(self.steps) if learns else None
        updates = optimizer.steps if optimizer is not None else 0
        run.begin(self._batch_size, order, rates, seeds, updates)
        return run

    def logs(self, run: Any) -> Logs:
        """Return the means over a finished run."""
        errors = self._answers * self._network.head.out_features
        values = self._answers if self._task == "classification" else errors
        return mean_logs(self._task, run.loss, self._answers, run.score, values)


class CoreTrainer:
    """Epochs of one model, each begun and ended here and run by `train_together`.

    Parameters
    ----------
    fit : Fit
        One that is `in_core`; its trainer's own loop is not used.
    name : str
        Stands before the messages of errors.
    """

    def __init__(self, fit: Fit, name: str = "") -> None:
        assert isinstance(fit.data, ArrayBatches)
        trainer = self._settings = fit.trainer
        self._name = name
        self._callbacks = list(trainer.callbacks)
        self._data = CoreRun(trainer.network, trainer.loss, trainer.task, fit.data)
        self._samples = len(fit.data.arrays[0])
        self._validation = fit.validation
        self.history = History()
        self.finished = False
        self.steps = self._data.steps
        self.epochs = trainer.epochs
        for module in trainer.network.modules:
            module.zero_grad()

    def begin(self, epoch: int) -> Any:
        """Return the core's run of an epoch."""
        t = self._settings
        order = None if t.shuffle is None else t.shuffle.permutation(self._samples)
        total = self.steps * self.epochs
        first = epoch * self.steps
        rates = [self._rate(step, total) for step in range(first, first + self.steps)]
        self._lr = rates[-1]
        return self._data.begin(t.optimizer, t.clip_norm, order, np.array(rates))

    def check(self, epoch: int, run: Any) -> None:
        """Count the steps of a run that has ended; raise if it failed."""
        self._settings.optimizer.steps += run.step
        if run.failed:
            raise FloatingPointError(
                f"{self._name}the gradient norm is {run.last_norm} at epoch "
                f"{epoch + 1}, batch {run.step + 1}; "
                "parameters are as they were before this batch"
            )

    def end(self, epoch: int, run: Any, seconds: float, validated: Logs) -> None:
        """Note an epoch in the history and ask the callbacks."""
        logs = self._data.logs(run)
        logs["lr"] = self._lr
        logs["grad_norm"] = run.norm / run.step
        logs["seconds"] = seconds
        logs |= {f"val_{name}": value for name, value in validated.items()}
        self.history.append(logs)
        self.history.add_profile(run.seconds)
        self.finished = wants_stop(self._callbacks, epoch, logs)
        self.finished |= epoch + 1 == self.epochs

    def validation(self) -> tuple[Network, Loss, str, Batches] | None:
        """Return what `evaluate_together` takes, if there is something to validate."""
        if self._validation is None:
            return None
        t = self._settings
        return t.network, t.loss, t.task, self._validation

    def _rate(self, step: int, total: int) -> float:
        t = self._settings
        rate = t.optimizer.lr if t.schedule is None else t.schedule(step, total)
        return check_real("lr", float(rate), low=0)


def train_together(trainers: Sequence[CoreTrainer], *, progress: bool) -> None:
    """Train several models, or one, epoch by epoch, all in one call of the core."""
    epoch = 0
    going = list(trainers)
    while going:
        start = time.perf_counter()
        runs = [trainer.begin(epoch) for trainer in going]
        title = f"epoch {epoch + 1}/{going[0].epochs}"
        _finish(runs, title if progress else None, sum(t.steps for t in going))
        seconds = time.perf_counter() - start
        for trainer, run in zip(going, runs, strict=True):
            trainer.check(epoch, run)
        validated = evaluate_together([trainer.validation() for trainer in going])
        for trainer, run, logs in zip(going, runs, validated, strict=True):
            trainer.end(epoch, run, seconds, logs)
        going = [trainer for trainer in going if not trainer.finished]
        epoch += 1


def evaluate_together(
    what: Sequence[tuple[Network, Loss, str, Batches] | None],
) -> list[Logs]:
    """Return loss and score of each network, loss, task and data; of None nothing."""
    results: list[Logs] = [{} for _ in what]
    runs: dict[int, tuple[CoreRun, Any]] = {}
    for i, one in enumerate(what):
        if one is None:
            continue
        network, loss, task, data = one
        if isinstance(data, ArrayBatches) and core_takes(network, loss, data):
            part = CoreRun(network, loss, task, data)
            runs[i] = part, part.begin(None)
        else:
            results[i] = evaluate(network, loss, task, data)
    _finish([run for _, run in runs.values()], None, 0)
    for i, (part, run) in runs.items():
        results[i] = part.logs(run)
    return results


def _finish(runs: list[Any], title: str | None, steps: int) -> None:
    """Let the core run to the end, with a progress bar under a title."""
    with progress_bar(title is not None, title or "", steps) as bar:
        shown = 0
        while left := [run for run in runs if not run.finished]:
            _core.train(left, _BUDGET)
            done = sum(run.step for run in runs)
            bar.step(done - shown)
            shown = done

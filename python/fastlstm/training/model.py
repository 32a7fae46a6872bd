"""SequenceModel: a recurrent layer and a head that learn, predict and are saved.

Arguments are checked here; the layers are run in network.py, the loop is in
trainer.py, files are in saving.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm._checks import check_real, check_rng, check_size
from fastlstm.losses import MSE, CrossEntropy, Loss, softmax
from fastlstm.nn.embedding import Embedding
from fastlstm.nn.linear import Linear
from fastlstm.nn.module import Seed
from fastlstm.nn.stream import Stream, SymbolStream, check_precision
from fastlstm.optim import Adam, Optimizer
from fastlstm.schedules import Schedule
from fastlstm.training import saving
from fastlstm.training.batches import ArrayBatches
from fastlstm.training.chunks import Chunks
from fastlstm.training.core_run import (
    CoreTrainer,
    Fit,
    evaluate_together,
    train_together,
)
from fastlstm.training.history import Callback, History
from fastlstm.training.inputs import Data, Inputs
from fastlstm.training.network import Network, Recurrent
from fastlstm.training.online import Online
from fastlstm.training.trainer import Trainer

Array = npt.NDArray[Any]
_TASKS = ("classification", "regression")


class SequenceModel:
    """A recurrent layer with a head, for one answer a sequence or one a step.

    Parameters
    ----------
    recurrent : LSTM, GRU or RNN
        Either layout; the model itself always takes (N, T, I).
    head : Linear
        From D*H features to O outputs: classes or values.
    task : {"classification", "regression"}
        Integer labels with softmax cross-entropy, or values with an error measure.
    return_sequences : bool
        If true the head answers at every step, else once, from the state after the
        last step (both directions' where there are two).
    loss : Loss, optional
        CrossEntropy for classification; MSE unless given for regression.
    embedding : Embedding, optional
        Stands in front: x then holds integers (N, T).

    Attributes
    ----------
    training_summary : dict of str to float
        Epochs and last values of the latest `fit`; saved with the model.

    Raises
    ------
    ValueError
        If sizes, dtypes, task and loss do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(256, 5, 1)).astype(np.float32)
    >>> y = (x[:, :, 0].sum(axis=1) > 0).astype(np.int64)
    >>> model = fl.SequenceModel(fl.LSTM(1, 8, rng=0), fl.Linear(8, 2, rng=0))
    >>> history = model.fit(x, y, epochs=20, batch_size=32,
    ...                     optimizer=fl.Adam(0.01), rng=0)
    >>> model.evaluate(x, y)["accuracy"] > 0.95
    True
    """

    def __init__(
        self,
        recurrent: Recurrent,
        head: Linear,
        *,
        task: str = "classification",
        return_sequences: bool = False,
        loss: Loss | None = None,
        embedding: Embedding | None = None,
    ) -> None:
        if task not in _TASKS:
            raise ValueError(f"task must be one of {', '.join(_TASKS)}, got {task!r}")
        self.task = task
        self.loss = _task_loss(task, loss)
        _check_fit(recurrent, head, embedding)
        self._network = Network(recurrent, head, embedding, bool(return_sequences))
        self._inputs = Inputs(self._network, task)
        self.training_summary: dict[str, float] = {}

    @property
    def recurrent(self) -> Recurrent:
        """The recurrent layer."""
        return self._network.recurrent

    @property
    def head(self) -> Linear:
        """The layer that answers."""
        return self._network.head

    @property
    def embedding(self) -> Embedding | None:
        """The layer in front, if there is one."""
        return self._network.embedding

    @property
    def return_sequences(self) -> bool:
        """Whether there is an answer at every step."""
        return self._network.return_sequences

    def fit(
        self,
        x: Data,
        y: Array | None = None,
        *,
        epochs: int = 1,
        batch_size: int = 128,
        optimizer: Optimizer | None = None,
        schedule: Schedule | None = None,
        validation_data: tuple[Array, ...] | Iterable[Any] | None = None,
        clip_norm: float | None = 1.0,
        shuffle: bool = True,
        sample_weight: Array | None = None,
        lengths: npt.ArrayLike | None = None,
        tbptt: int | None = None,
        stateful: bool = False,
        burn_in: int = 0,
        checkpoint_every: int | None = None,
        rng: Seed = None,
        progress: bool = False,
        callbacks: Iterable[Callback] = (),
    ) -> History:
        """Train the model; the same seed gives the same bits.

        Parameters
        ----------
        x : array (N, T, I), or iterable of batches
            Of the model's dtype, memory-mapped too; integers (N, T) with an
            embedding. An iterable yields (x, y[, sample_weight[, lengths]]) and is run
            through once an epoch.
        y : array
            Labels (N,), with `return_sequences` (N, T); values (N, O), (N, T, O).
        epochs, batch_size : int
            Runs through the data, and samples of one step.
        optimizer : Optimizer, optional
            ``Adam(1e-3)`` unless given.
        schedule : callable, optional
            ``schedule(step, total_steps)``: learning rate of each step.
        validation_data : tuple (x, y[, sample_weight[, lengths]]), optional
            Evaluated after every epoch; or an iterable of batches.
        clip_norm : float or None
            Largest global norm of a gradient, 1 unless given; None: no clipping.
        shuffle : bool
            Whether to draw a new order of the samples every epoch.
        sample_weight : array (N,) or, with `return_sequences`, (N, T), optional
            Factors of the loss, >= 0, of the model's dtype. Scores ignore them.
        lengths : integers (N,), optional
            Steps of each sequence, 0 to T. What x and y hold behind them is never read;
            the loss is the mean over real steps, or is taken after the last one.
        tbptt : int, optional
            Truncated back-propagation: sequences are cut in chunks of so many steps,
            each with an update of its own. Needs `return_sequences`.
        stateful : bool
            A chunk starts from the state that the one before it ended with, without a
            gradient; otherwise from the initial one. Batches of an iterable go on where
            the batch before ended, too; each epoch starts anew.
        burn_in : int
            So many steps at the beginning of a sequence, or of every chunk that does
            not go on from another, only bring the state to life: no loss, no gradient.
            A last chunk of no more steps is left out.
        checkpoint_every : int, optional
            Saves memory on long sequences, see `LSTM.forward`; the bits are the same.
        rng : None, int or numpy.random.Generator
            Source of the order and of dropout.
        progress : bool
            Show progress bars, if tqdm is installed.
        callbacks : iterable of callable
            ``callback(epoch, logs)`` after every epoch; returning True or raising
            StopTraining ends training.

        Returns
        -------
        History
            Values of every epoch in its ``history``.

        Raises
        ------
        FloatingPointError
            If a gradient is not finite; the model is as it was before that batch.
        ValueError, TypeError
            If shapes, dtypes, labels or settings do not fit.
        """
        if checkpoint_every is not None:
            check_size("checkpoint_every", checkpoint_every)
        fit = self._prepared(
            x,
            y,
            lengths=lengths,
            chunks=self._chunks(x, tbptt, stateful, burn_in),
            checkpoint_every=checkpoint_every,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            schedule=schedule,
            validation_data=validation_data,
            clip_norm=clip_norm,
            shuffle=shuffle,
            sample_weight=sample_weight,
            rng=rng,
            progress=progress,
            callbacks=callbacks,
        )
        if fit.in_core:
            core = CoreTrainer(fit)
            train_together([core], progress=progress)
            history = core.history
        else:
            history = fit.trainer.run(fit.data, fit.validation)
        self._note(history)
        return history

    def evaluate(
        self,
        x: Data,
        y: Array | None = None,
        *,
        sample_weight: Array | None = None,
        lengths: npt.ArrayLike | None = None,
        batch_size: int = 256,
    ) -> dict[str, float]:
        """Return ``loss`` and ``accuracy`` (classification) or ``rmse``.

        Arguments and errors are those of `fit`. The root mean square error is in the
        unit of y.
        """
        data = self._inputs.batches(x, y, sample_weight, batch_size, lengths=lengths)
        return evaluate_together([(self._network, self.loss, self.task, data)])[0]

    def predict(
        self,
        x: Array,
        *,
        lengths: npt.ArrayLike | None = None,
        batch_size: int = 256,
    ) -> Array:
        """Return labels (int64) or values for every sequence, or every step.

        Parameters
        ----------
        x : array (N, T, I), or integers (N, T) with an embedding
        lengths : integers (N,), optional
            Steps of each sequence; answers behind them are 0.
        batch_size : int
            Sequences that are run at a time.

        Returns
        -------
        array of shape (N,) or (N, T); values: (N, O) or (N, T, O)
        """
        outputs = self._outputs(x, lengths, batch_size)
        if self.task == "classification":
            labels: Array = outputs.argmax(axis=-1)
            return labels
        return outputs

    def predict_proba(
        self,
        x: Array,
        *,
        lengths: npt.ArrayLike | None = None,
        batch_size: int = 256,
    ) -> Array:
        """Return the classes' probabilities, (N, O) or (N, T, O).

        Arguments are those of `predict`. ValueError unless the task is classification.
        """
        if self.task != "classification":
            raise ValueError(f"predict_proba needs classification, not {self.task}")
        shares = softmax(self._outputs(x, lengths, batch_size))
        if lengths is not None and self.return_sequences:
            shares[np.arange(x.shape[1]) >= np.asarray(lengths)[:, np.newaxis]] = 0
        return shares

    def stream(
        self, batch_size: int = 1, *, precision: str | None = None, threads: int = 1
    ) -> Stream:
        """Return N streams of the model: its answer to every step as it comes.

        The answer of a step is the head's output (N, O): values, or the scores that
        `predict` takes the largest of. Where there is an embedding, a step takes
        integers (N,).

        Parameters
        ----------
        batch_size : int
            N.
        precision : None or "bfloat16"
            How the recurrent layer's matrices are stored; see `Stream`.
        threads : int
            How many may share a step; see `Stream`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm as fl
        >>> model = fl.SequenceModel(fl.LSTM(1, 8, rng=0), fl.Linear(8, 1, rng=0),
        ...                          task="regression", return_sequences=True)
        >>> x = np.ones((1, 5, 1), np.float32)
        >>> stream = model.stream()
        >>> steps = np.stack([stream.step(x_t) for x_t in x[0]])
        >>> bool((steps == model.predict(x)[0]).all())
        True
        """
        kept = check_precision(precision) or self.recurrent.precision
        if self.embedding is None:
            return Stream(
                self.recurrent,
                self.head,
                batch_size=batch_size,
                precision=kept,
                threads=threads,
            )
        return SymbolStream(
            self.embedding,
            self.recurrent,
            self.head,
            batch_size=batch_size,
            precision=kept,
            threads=threads,
        )

    def online(
        self,
        *,
        optimizer: Optimizer | None = None,
        tbptt: int = 32,
        clip_norm: float | None = 1.0,
    ) -> Online:
        """Return a copy of the model that goes on learning, one step at a time.

        After every step the mean loss of the latest `tbptt` steps, squared error or
        cross-entropy, is differentiated and the weights make one update. Its memory is
        allocated here. The model itself changes only when the copy is told to `store`.

        Parameters
        ----------
        optimizer : Optimizer, optional
            Its rule and learning rate are taken; ``Adam(1e-3)`` unless given.
        tbptt : int
            Steps that an update looks back. The first ``tbptt - 1`` of a sequence only
            fill that window; nothing is learned from them before.
        clip_norm : float or None
            Largest global norm of a gradient, 1 unless given; None: no clipping.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm as fl
        >>> model = fl.SequenceModel(fl.LSTM(1, 8, rng=0), fl.Linear(8, 1, rng=0),
        ...                          task="regression", return_sequences=True)
        >>> online = model.online(optimizer=fl.Adam(0.01), tbptt=8)
        >>> wave = np.sin(0.3 * np.arange(2000, dtype=np.float32))[:, None]
        >>> losses = [online.learn(x, y) for x, y in zip(wave[:-1], wave[1:])]
        >>> bool(np.mean(losses[-100:]) < 0.01 < np.mean(losses[:100]))
        True
        """
        return Online(self, optimizer=optimizer, tbptt=tbptt, clip_norm=clip_norm)

    def freeze(self) -> None:
        """Make the parameters of all layers constant; see `LSTM.freeze`."""
        for module in self._network.modules:
            module.freeze()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and architecture as safetensors; `fastlstm.load` reads it.

        The file appears whole or not at all.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        saving.save(self, path)

    def __repr__(self) -> str:
        front = "" if self.embedding is None else f", embedding={self.embedding!r}"
        return (
            f"SequenceModel({self.recurrent!r}, {self.head!r}, task={self.task!r}, "
            f"return_sequences={self.return_sequences}, loss={self.loss!r}{front})"
        )

    def _prepared(
        self,
        x: Data,
        y: Array | None,
        *,
        epochs: int,
        batch_size: int,
        optimizer: Optimizer | None,
        schedule: Schedule | None,
        validation_data: tuple[Array, ...] | Iterable[Any] | None,
        clip_norm: float | None,
        shuffle: bool,
        sample_weight: Array | None,
        rng: Seed,
        progress: bool,
        callbacks: Iterable[Callback],
        lengths: npt.ArrayLike | None = None,
        chunks: Chunks | None = None,
        checkpoint_every: int | None = None,
    ) -> Fit:
        """Check the arguments of `fit` and return what is to run."""
        epochs = check_size("epochs", epochs)
        if clip_norm is not None:
            clip_norm = check_real("clip_norm", clip_norm, above=0)
        if optimizer is None:
            optimizer = Adam(1e-3)
        if not isinstance(optimizer, Optimizer):
            got = type(optimizer).__name__
            raise TypeError(f"optimizer must be an Optimizer, got {got}")
        if epochs > 1 and iter(x) is x:
            raise ValueError(
                "x is an iterator, which runs once: give a list of batches or an "
                "object that starts anew each epoch, or epochs=1"
            )
        data = self._inputs.batches(x, y, sample_weight, batch_size, lengths=lengths)
        validation = self._inputs.validation(validation_data, batch_size)
        generator = check_rng(rng)
        self.recurrent.reseed(int(generator.integers(2**63)))
        trainer = Trainer(
            self._network,
            self.loss,
            self.task,
            optimizer,
            schedule,
            clip_norm,
            epochs,
            generator if shuffle else None,
            progress,
            callbacks,
            Chunks() if chunks is None else chunks,
            checkpoint_every,
        )
        return Fit(trainer, data, validation)

    def _note(self, history: History) -> None:
        """Keep the last values of a run for the model's file."""
        last = {name: values[-1] for name, values in history.history.items()}
        seconds = sum(history.history["seconds"])
        epochs_run = float(len(history.history["seconds"]))
        self.training_summary = {"epochs": epochs_run} | last | {"seconds": seconds}

    def _chunks(
        self, x: Data, tbptt: int | None, stateful: bool, burn_in: int
    ) -> Chunks:
        """Check how sequences are to be cut."""
        if tbptt is not None:
            tbptt = check_size("tbptt", tbptt)
        chunks = Chunks(
            tbptt, bool(stateful), check_size("burn_in", burn_in, minimum=0)
        )
        if chunks.whole:
            return chunks
        if self.recurrent.bidirectional:
            raise ValueError("tbptt, stateful and burn_in need one direction")
        if tbptt is not None and not self.return_sequences:
            raise ValueError("tbptt needs return_sequences: a loss in every chunk")
        if chunks.stateful and tbptt is None and isinstance(x, np.ndarray):
            raise ValueError(
                "stateful needs tbptt, or an iterable of batches that follow each other"
            )
        if tbptt is not None and chunks.burn_in >= tbptt:
            raise ValueError(f"burn_in must be below tbptt = {tbptt}, got {burn_in}")
        return chunks

    def _outputs(
        self, x: Array, lengths: npt.ArrayLike | None, batch_size: int
    ) -> Array:
        self._inputs.check_x("x", x)
        if lengths is not None:
            lengths = self._inputs.check_lengths("lengths", lengths, x)
        size = check_size("batch_size", batch_size)
        steps = x.shape[:2] if self.return_sequences else x.shape[:1]
        out = np.empty((*steps, self.head.out_features), self.head.dtype)
        begin = 0
        for batch in ArrayBatches(x, None, None, size, lengths).batches():
            rows = out[begin : begin + len(batch.x)]
            rows[...] = self._network.infer(batch.x, batch.lengths)
            mask = batch.mask(self.return_sequences)
            if mask is not None:
                rows[~mask] = 0
            begin += len(rows)
        return out


def _task_loss(task: str, loss: Loss | None) -> Loss:
    if loss is None:
        return CrossEntropy() if task == "classification" else MSE()
    if not isinstance(loss, Loss):
        raise TypeError(f"loss must be a Loss, got {type(loss).__name__}")
    if isinstance(loss, CrossEntropy) != (task == "classification"):
        raise ValueError(f"{type(loss).__name__} is not a loss for {task}")
    return loss


def _check_fit(recurrent: Recurrent, head: Linear, embedding: Embedding | None) -> None:
    features = recurrent.output_size * (2 if recurrent.bidirectional else 1)
    if head.in_features != features:
        raise ValueError(
            f"head must take D*H = {features} features, got Linear("
            f"{head.in_features}, {head.out_features})"
        )
    if embedding is not None and embedding.embedding_dim != recurrent.input_size:
        raise ValueError(
            f"embedding_dim must be input_size = {recurrent.input_size}, "
            f"got {embedding.embedding_dim}"
        )
    for name, layer in (("head", head), ("embedding", embedding)):
        if layer is not None and layer.dtype != recurrent.dtype:
            raise ValueError(
                f"{name} must have dtype {recurrent.dtype} as the recurrent layer, "
                f"got {layer.dtype}"
            )

"""The tutorial's own way of training the sine: one sequence at a time, plain SGD.

The head is updated at every time step, the cell once after the sequence.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt

import fastlstm as fl
from fastlstm.cli.sine import SineResult
from fastlstm.cli.sine_data import SEEN, measure, sequences

Array = npt.NDArray[Any]

_SEQUENCES = 500
_HIDDEN = 133
_EPOCHS = 2
_LR = 0.01
_GATE_BOUND = 0.1


def train_classic(args: argparse.Namespace) -> SineResult:
    """Train as the tutorial does; print the training error of each epoch."""
    rng = np.random.default_rng(args.seed)
    model = build_classic(args, rng)
    x, y = sequences(_SEQUENCES, SEEN, rng)
    epochs, lr = args.epochs or _EPOCHS, args.lr or _LR
    start = time.perf_counter()
    for epoch in range(epochs):
        squared = 0.0
        for n in rng.permutation(_SEQUENCES):
            errors = train_on(model, x[n], y[n], lr)
            squared += float(np.mean(errors**2))
        print(f"epoch {epoch + 1}: rms error {math.sqrt(squared / _SEQUENCES):.4f}")
    seconds = time.perf_counter() - start
    return SineResult(model, epochs * _SEQUENCES, seconds, measure(model))


def build_classic(
    args: argparse.Namespace, rng: np.random.Generator
) -> fl.SequenceModel:
    """Return the tutorial's model with its start values."""
    if args.cell != "lstm":
        raise ValueError(f"--preset classic is an LSTM, got --cell {args.cell}")
    hidden = args.hidden or _HIDDEN
    lstm = fl.LSTM(
        1,
        hidden,
        batch_first=True,
        init=_GATE_BOUND,
        cell_activation=args.cell_activation,
        output_activation=args.output_activation,
        rng=rng,
    )
    head = fl.Linear(hidden, 1, rng=rng)
    bound = math.sqrt(2 / hidden)
    head.params["weight"][...] = rng.uniform(-bound, bound, (1, hidden))
    head.params["bias"].fill(0)
    return fl.SequenceModel(lstm, head, task="regression", return_sequences=True)


def train_on(model: fl.SequenceModel, x: Array, y: Array, lr: float) -> Array:
    """Make the updates of one sequence x, y (T, 1); return the errors (T, 1).

    The loss of a step is half the squared error, so its gradient is the error.
    """
    lstm, head = model.recurrent, model.head
    weight, bias = head.params["weight"], head.params["bias"]
    output, _, tape = lstm.forward(x)
    d_output = np.empty_like(output)
    errors = np.empty_like(y)
    for t, h in enumerate(output):
        errors[t] = error = weight @ h + bias - y[t]
        d_output[t] = error @ weight
        weight -= lr * np.outer(error, h)
        bias -= lr * error
    lstm.backward(d_output, tape, need_d_x=False, need_d_state=False, accumulate=False)
    for name, param in lstm.params.items():
        param -= lr * lstm.grads[name]
    return errors

"""The noisy sine task: fresh training data, prediction by feedback, errors, limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fastlstm as fl

Array = npt.NDArray[Any]

SEEN = 30  # samples before a prediction
AHEAD = 30
STEP = 5.0 / 30  # radians between samples
NOISE = 0.05  # half-width of the uniform noise
_TESTS = 1000
_TEST_SEED = 20_240_229  # training draws its weights first, so its sequences differ


def sequences(
    n: int, length: int, rng: int | np.random.Generator
) -> tuple[Array, Array]:
    """Return noisy values and the clean ones a step on, (n, length, 1) each."""
    return fl.datasets.noisy_sine(
        n=n, length=length, span=length * STEP, noise=NOISE, rng=rng
    )


@dataclass
class FreshSines:
    """Batches of new sequences in every epoch; the first answers count little.

    Sequences are twice as long as what is seen, so that the model also learns to go on
    with a long past. Answers before step `warmup` cannot be exact, whatever the model.
    """

    batches: int
    batch_size: int
    rng: np.random.Generator
    length: int = SEEN + AHEAD
    warmup: int = 15
    warmup_weight: float = 0.02

    def __iter__(self) -> Iterator[tuple[Array, Array, Array]]:
        """Yield x, y and the weight of every answer."""
        weight = np.ones((self.batch_size, self.length), np.float32)
        weight[:, : self.warmup] = self.warmup_weight
        x, y = sequences(self.batches * self.batch_size, self.length, self.rng)
        for begin in range(0, len(x), self.batch_size):
            part = slice(begin, begin + self.batch_size)
            yield x[part], y[part], weight


def feed_back(model: fl.SequenceModel, x: Array, count: int) -> Array:
    """Predict `count` values after x (N, T, 1), each fed back for the next: (N, count).

    The recurrent state is carried on, so every step costs one step.
    """
    layer: Any = model.recurrent  # LSTM and GRU differ in the type of their state
    output, state = layer(x)
    values = [model.head(np.ascontiguousarray(output[:, -1]))]
    for _ in range(count - 1):
        output, state = layer(values[-1][:, None], state)
        values.append(model.head(np.ascontiguousarray(output[:, -1])))
    return np.concatenate(values, axis=1)


@dataclass(frozen=True)
class Errors:
    """Root mean square errors over 1,000 fresh sequences, against the clean curve."""

    one: float  # one value ahead
    thirty: float  # over 30 values fed back
    limit_one: float  # of a sine fitted by least squares
    limit_thirty: float


def measure(model: fl.SequenceModel) -> Errors:
    """Measure a model and the limit on the same sequences."""
    x, y = sequences(_TESTS, SEEN + AHEAD, _TEST_SEED)
    seen = np.ascontiguousarray(x[:, :SEEN])
    clean = y[:, SEEN - 1 : SEEN + AHEAD - 1, 0]
    error = feed_back(model, seen, AHEAD) - clean
    limit = fitted_phase(seen[:, :, 0], AHEAD) - clean
    return Errors(_rms(error[:, 0]), _rms(error), _rms(limit[:, 0]), _rms(limit))


def fitted_phase(noisy: Array, count: int) -> Array:
    """Fit the phase of a sine of known frequency; return the next `count` values.

    Least squares in sin and cos, then the phase of the fit at amplitude 1.
    """
    times = np.arange(noisy.shape[1]) * STEP
    basis = np.stack([np.sin(times), np.cos(times)], axis=1)
    sin_part, cos_part = np.linalg.lstsq(basis, noisy.T, rcond=None)[0]
    phase = np.arctan2(cos_part, sin_part)
    later = (noisy.shape[1] + np.arange(count)) * STEP
    return np.asarray(np.sin(phase[:, None] + later))


def _rms(error: Array) -> float:
    return float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))

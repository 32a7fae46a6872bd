"""What a model is given: checked against its layers before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm._checks import check_array, check_size
from fastlstm.losses import check_labels
from fastlstm.training.batches import (
    ArrayBatches,
    Batch,
    Batches,
    GivenBatches,
    as_batch,
)
from fastlstm.training.network import Network

Array = npt.NDArray[Any]
Data = Array | Iterable[Any]
"""x as an array, or batches (x, y[, sample_weight[, lengths]])."""


class Inputs:
    """Turns data into batches that fit a network and a task.

    Parameters
    ----------
    network : Network
    task : {"classification", "regression"}
    """

    def __init__(self, network: Network, task: str) -> None:
        self._network = network
        self._task = task

    def batches(
        self,
        x: Data,
        y: Array | None,
        sample_weight: Array | None,
        batch_size: int,
        prefix: str = "",
        lengths: npt.ArrayLike | None = None,
    ) -> Batches:
        """Return batches of arrays, or those that `x` yields.

        `prefix` stands before the names of arguments in messages.
        """
        size = check_size("batch_size", batch_size)
        if isinstance(x, np.ndarray):
            if lengths is not None:
                lengths = _integers(f"{prefix}lengths", lengths)
            batch = self._check(Batch(x, y, sample_weight, lengths), prefix)
            return ArrayBatches(x, y, sample_weight, size, batch.lengths)
        if y is not None or sample_weight is not None or lengths is not None:
            raise ValueError(
                f"{prefix}x must be a NumPy array, or yield batches (x, y) with y, "
                f"sample_weight and lengths left out; got a {type(x).__name__}"
            )
        if not isinstance(x, Iterable):
            raise TypeError(
                f"{prefix}x must be a NumPy array or an iterable of batches, "
                f"got {type(x).__name__}"
            )
        return GivenBatches(x, self._check)

    def validation(
        self, data: tuple[Array, ...] | Iterable[Any] | None, batch_size: int
    ) -> Batches | None:
        """Return batches of (x, y[, sample_weight[, lengths]]), or of an iterable."""
        if data is None:
            return None
        if not isinstance(data, tuple):
            return self.batches(data, None, None, batch_size, "validation ")
        x, y, weight, lengths, _ = as_batch(data, "validation_data")
        return self.batches(x, y, weight, batch_size, "validation ", lengths)

    def check_lengths(self, name: str, lengths: npt.ArrayLike, x: Array) -> Array:
        """Return them as int64; an error unless they are integers (N,) from 0 to T."""
        given = _integers(name, lengths)
        if given.shape != x.shape[:1]:
            raise ValueError(
                f"{name} must have shape (N,) = {x.shape[:1]}, got {given.shape}"
            )
        wrong = np.flatnonzero((given < 0) | (given > x.shape[1]))
        if len(wrong) > 0:
            raise ValueError(
                f"{name} must be from 0 to T = {x.shape[1]}, got {given[wrong[0]]} at "
                f"row {wrong[0]}"
            )
        return given.astype(np.int64)

    def check_x(self, name: str, x: Array) -> None:
        """Raise an error unless the network takes this array."""
        if not isinstance(x, np.ndarray):
            kind = type(x).__name__
            raise TypeError(f"{name} must be a NumPy array, got {kind}")
        if self._network.embedding is not None:
            if x.ndim != 2:
                raise ValueError(f"{name} must have shape (N, T), got {x.shape}")
            return
        inputs = self._network.recurrent.input_size
        if x.ndim != 3 or x.shape[-1] != inputs:
            raise ValueError(
                f"{name} must have shape (N, T, I) = (N, T, {inputs}), got {x.shape}"
            )
        check_array(name, x, self._network.recurrent.dtype)

    def _check(self, batch: Batch, prefix: str = "") -> Batch:
        """Return the batch with lengths as int64."""
        x, y, sample_weight, lengths, _ = batch
        self.check_x(f"{prefix}x", x)
        if len(x) == 0:
            raise ValueError(f"{prefix}x holds no samples: shape {x.shape}")
        if y is None:
            raise ValueError(f"{prefix}y is missing")
        if lengths is not None:
            lengths = self.check_lengths(f"{prefix}lengths", lengths, x)
            batch = batch._replace(lengths=lengths)
        network = self._network
        steps = x.shape[:2] if network.return_sequences else x.shape[:1]
        outputs = network.head.out_features
        dtype = network.head.dtype
        if self._task == "classification":
            mask = batch.mask(network.return_sequences)
            flat = None if mask is None else mask.ravel()
            check_labels(f"{prefix}y", y, steps, outputs, flat)
        else:
            check_array(f"{prefix}y", y, dtype, (*steps, outputs))
        if sample_weight is not None:
            per_step = np.ndim(sample_weight) == len(steps)
            shape = steps if per_step else steps[:1]
            check_array(f"{prefix}sample_weight", sample_weight, dtype, shape)
        return batch


def _integers(name: str, values: npt.ArrayLike) -> Array:
    try:
        array: Array = np.asarray(values)
    except ValueError:  # lists of different lengths
        raise TypeError(f"{name} must be integers, got {values!r}") from None
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    return array

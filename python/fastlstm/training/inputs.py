"""What a model is given: checked against its layers before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm._checks import check_array, check_size
from fastlstm.losses import check_labels
from fastlstm.training.batches import ArrayBatches, Batches, GivenBatches
from fastlstm.training.network import Network

Array = npt.NDArray[Any]
Data = Array | Iterable[Any]
"""x as an array, or batches (x, y) or (x, y, sample_weight)."""


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
    ) -> Batches:
        """Return batches of arrays, or those that `x` yields.

        `prefix` stands before the names of arguments in messages.
        """
        size = check_size("batch_size", batch_size)
        if isinstance(x, np.ndarray):
            self._check(x, y, sample_weight, prefix)
            return ArrayBatches(x, y, sample_weight, size)
        if y is not None or sample_weight is not None:
            raise ValueError(
                f"{prefix}x must be a NumPy array, or yield batches (x, y) with y and "
                f"sample_weight left out; got a {type(x).__name__}"
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
        """Return the batches of validation_data; a tuple is (x, y[, sample_weight])."""
        if data is None:
            return None
        if not isinstance(data, tuple):
            return self.batches(data, None, None, batch_size, "validation ")
        if len(data) not in (2, 3):
            raise ValueError(
                "validation_data must be (x, y) or (x, y, sample_weight), "
                f"got {len(data)} items"
            )
        weight = data[2] if len(data) == 3 else None
        return self.batches(data[0], data[1], weight, batch_size, "validation ")

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

    def _check(
        self,
        x: Array,
        y: Array | None,
        sample_weight: Array | None,
        prefix: str = "",
    ) -> None:
        self.check_x(f"{prefix}x", x)
        if len(x) == 0:
            raise ValueError(f"{prefix}x holds no samples: shape {x.shape}")
        if y is None:
            raise ValueError(f"{prefix}y is missing")
        network = self._network
        steps = x.shape[:2] if network.return_sequences else x.shape[:1]
        outputs = network.head.out_features
        dtype = network.head.dtype
        if self._task == "classification":
            check_labels(f"{prefix}y", y, steps, outputs)
        else:
            check_array(f"{prefix}y", y, dtype, (*steps, outputs))
        if sample_weight is not None:
            per_step = np.ndim(sample_weight) == len(steps)
            shape = steps if per_step else steps[:1]
            check_array(f"{prefix}sample_weight", sample_weight, dtype, shape)

"""Batches of samples: cut from arrays, memory-mapped ones too, or given one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm.training.buffers import Buffers

Array = npt.NDArray[Any]
Batch = tuple[Array, Array | None, Array | None]
"""x, y and sample_weight of some samples; y is None where only x is needed."""

Check = Callable[[Array, Array | None, Array | None], None]
"""Raises an error that names what does not fit the model."""


class ArrayBatches:
    """Batches of whole arrays, shuffled where a generator is given.

    Shuffled batches are gathered into kept memory; others are views.

    Parameters
    ----------
    x, y, sample_weight : array or None
        First axis N, the samples.
    batch_size : int
        Samples of a batch; the last one holds what is left.
    """

    def __init__(
        self, x: Array, y: Array | None, sample_weight: Array | None, batch_size: int
    ) -> None:
        self._arrays = (x, y, sample_weight)
        self._batch_size = batch_size
        self._buffers = Buffers()

    @property
    def arrays(self) -> tuple[Array, Array | None, Array | None]:
        """x, y and sample_weight, whole."""
        return self._arrays

    @property
    def batch_size(self) -> int:
        """Samples of a batch."""
        return self._batch_size

    def __len__(self) -> int:
        return -(-len(self._arrays[0]) // self._batch_size)

    def batches(self, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """Yield every sample once; a batch is valid until the next one."""
        count = len(self._arrays[0])
        order = None if rng is None else rng.permutation(count)
        for begin in range(0, count, self._batch_size):
            end = min(begin + self._batch_size, count)
            rows = slice(begin, end) if order is None else order[begin:end]
            x, y, weight = (
                self._take(name, array, rows)
                for name, array in zip("xyw", self._arrays, strict=True)
            )
            assert x is not None
            yield x, y, weight

    def _take(
        self, name: str, array: Array | None, rows: slice | Array
    ) -> Array | None:
        if array is None:
            return None
        if isinstance(rows, slice):
            return np.asarray(array[rows])
        shape = (len(rows), *array.shape[1:])
        out = self._buffers.get(name, shape, array.dtype)
        if array.flags.c_contiguous:
            # "clip" writes straight into out; "raise" would go through a copy.
            np.take(array, rows, axis=0, out=out, mode="clip")
        else:
            # take() would first copy the whole array to make it contiguous.
            out[...] = array[rows]
        return out


class GivenBatches:
    """Batches that the caller makes: (x, y) or (x, y, sample_weight).

    Each is checked as it comes.
    """

    def __init__(self, batches: Iterable[Any], check: Check) -> None:
        self._given = batches
        self._check = check

    def __len__(self) -> int:
        """Return the number of batches; TypeError where it is not known."""
        return len(self._given)  # type: ignore[arg-type]

    def batches(self, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """Yield the batches in their own order, whatever `rng`."""
        for item in self._given:
            batch = _as_batch(item)
            self._check(*batch)
            yield batch


Batches = ArrayBatches | GivenBatches


def batch_count(batches: Batches) -> int | None:
    """Return the number of batches in an epoch, None where it is not known."""
    try:
        return len(batches)
    except TypeError:
        return None


def _as_batch(item: object) -> Batch:
    if isinstance(item, tuple | list) and len(item) in (2, 3):
        return item[0], item[1], item[2] if len(item) == 3 else None
    kind = type(item).__name__
    raise TypeError(f"a batch must be (x, y) or (x, y, sample_weight), got {kind}")

"""Batches of samples: cut from arrays, memory-mapped ones too, or given one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastlstm.training.buffers import Buffers

Array = npt.NDArray[Any]


class Batch(NamedTuple):
    """Some samples: arrays whose first axis is N; y is None where only x is needed."""

    x: Array
    y: Array | None
    sample_weight: Array | None = None
    lengths: Array | None = None  # (N,)
    fresh: bool = True  # the sequences begin here, not in the batch before

    def between(self, begin: int, end: int, fresh: bool) -> Batch:
        """Return the steps from `begin` to `end`; all is as it is if they are all."""
        if begin == 0 and end >= self.x.shape[1]:
            return self._replace(fresh=fresh)
        y, weight, lengths = self.y, self.sample_weight, self.lengths
        if lengths is not None:
            lengths = np.clip(lengths - begin, 0, end - begin)
            lengths = np.minimum(lengths, max(self.x.shape[1] - begin, 0))
        if weight is not None and weight.ndim > 1:
            weight = weight[:, begin:end]
        steps = None if y is None else y[:, begin:end]
        return Batch(self.x[:, begin:end], steps, weight, lengths, fresh)

    def mask(self, return_sequences: bool) -> Array | None:
        """Return which answers count, (N, T); None: all of them."""
        if self.lengths is None or not return_sequences:
            return None
        mask: Array = np.arange(self.x.shape[1]) < self.lengths[:, np.newaxis]
        return mask


Check = Callable[[Batch], Batch]
"""Raises an error that names what does not fit the model; returns what does."""


class ArrayBatches:
    """Batches of whole arrays, shuffled where a generator is given.

    Shuffled batches are gathered into kept memory; others are views.

    Parameters
    ----------
    x, y, sample_weight : array or None
        First axis N, the samples.
    batch_size : int
        Samples of a batch; the last one holds what is left.
    lengths : integers (N,) or None
        Steps of each sample.
    """

    def __init__(
        self,
        x: Array,
        y: Array | None,
        sample_weight: Array | None,
        batch_size: int,
        lengths: Array | None = None,
    ) -> None:
        self._arrays = (x, y, sample_weight)
        self.lengths = lengths
        self._batch_size = batch_size
        self._buffers = Buffers()

    @property
    def arrays(self) -> tuple[Array, Array | None, Array | None]:
        """x, y and sample_weight, whole."""
        return self._arrays

    @property
    def steps(self) -> int:
        """T of x."""
        return int(self._arrays[0].shape[1])

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
            lengths = None if self.lengths is None else self.lengths[rows]
            yield Batch(x, y, weight, lengths)

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
    """Batches that the caller makes: (x, y[, sample_weight[, lengths]]).

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
            yield self._check(as_batch(item, "a batch"))._replace(fresh=False)


Batches = ArrayBatches | GivenBatches


def batch_count(batches: Batches) -> int | None:
    """Return the number of batches in an epoch, None where it is not known."""
    try:
        return len(batches)
    except TypeError:
        return None


def as_batch(item: object, name: str) -> Batch:
    """Return (x, y[, sample_weight[, lengths]]) as a batch."""
    if isinstance(item, tuple | list) and 2 <= len(item) <= 4:
        return Batch(*item)
    got = (
        f"{len(item)} items" if isinstance(item, tuple | list) else type(item).__name__
    )
    raise TypeError(f"{name} must be (x, y[, sample_weight[, lengths]]), got {got}")

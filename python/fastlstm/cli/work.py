"""The work of an LSTM by its sizes: operations, bytes and the least time for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fastlstm.runtime import Limits

_GATES = 4
_BYTES = 4  # of a float32


class Shape(NamedTuple):
    """An LSTM and what it is given."""

    name: str
    input_size: int
    hidden_size: int
    num_layers: int
    seq_len: int
    batch_size: int
    bidirectional: bool = False
    train: bool = True
    """Forward and backward with all gradients; else inference."""

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 2 if self.bidirectional else 1

    @property
    def sizes(self) -> str:
        """The sizes in the order of the fields."""
        return "/".join(map(str, self[1:6]))

    @property
    def flops(self) -> float:
        """Operations of the matrix products; backward counts twice the forward.

        Examples
        --------
        >>> Shape("", 1, 1, 1, 1, 1, train=False).flops
        16.0
        """
        return sum(self._passes())

    def least_seconds(self, limits: Limits) -> float:
        """Return the time that no implementation of these sizes can beat.

        In each pass and layer either the products at the peak rate, or reading W_hh
        once a step, because h of one step is needed for the next. Activations, other
        reads and writes are not counted.
        """
        weights = _GATES * self.hidden_size * self.hidden_size * _BYTES
        # A direction of a layer runs after the other or beside it on other threads; the
        # rates are those of all threads together.
        reads = self.seq_len * limits.read_seconds(weights) * self.directions
        # Backward: the product with W_hh, as forward, and d_W from what is in cache.
        return sum(max(flops / limits.flops, reads) for flops in self._passes())

    def _passes(self) -> Iterator[float]:
        """Operations of forward, and of backward where it is done, of every layer."""
        columns = self.input_size + self.hidden_size
        for _ in range(self.num_layers):
            gates = _GATES * self.hidden_size * self.directions
            forward = 2.0 * gates * columns * self.seq_len * self.batch_size
            yield forward
            if self.train:
                yield 2 * forward
            columns = self.hidden_size * (1 + self.directions)

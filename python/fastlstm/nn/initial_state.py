"""Learned initial states: one row for all sequences, a parameter as others are.

Used by recurrent.py where a layer has ``learn_initial_state=True``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastlstm.nn.module import Array

State = tuple[Array | None, Array | None]
"""h and c; c is None but for an LSTM."""


class InitialState:
    """The parameters h0 and c0 of a layer, by layer and direction.

    Parameters
    ----------
    suffixes : sequence of str
        Ends of the parameters' names, in the order of the state's rows.
    sizes : mapping of str to int
        Features of each part: ``{"h0": H}``, or ``{"h0": H, "c0": H}`` of an LSTM.
    """

    def __init__(self, suffixes: Sequence[str], sizes: Mapping[str, int]) -> None:
        self._suffixes = list(suffixes)
        self._sizes = dict(sizes)

    @property
    def names(self) -> list[str]:
        """Names of the parameters: h0_l0, c0_l0 and so on."""
        return [part + end for end in self._suffixes for part in self._sizes]

    def zeros(self, dtype: np.dtype[np.floating]) -> dict[str, Array]:
        """Return the parameters' initial values."""
        return {name: np.zeros(self._sizes[name[:2]], dtype) for name in self.names}

    def rows(self, params: Mapping[str, Array], batch: tuple[int, ...]) -> State:
        """Return h0 and c0, each (L*D, N, H); `batch` is (N,), or () if unbatched."""
        h0, c0 = (self._part(part, params, batch) for part in ("h0", "c0"))
        return h0, c0

    def add_gradients(self, grads: Mapping[str, Array], d_state: State) -> None:
        """Add the gradients by h0 and c0, summed over the batch."""
        for part, d in zip(("h0", "c0"), d_state, strict=True):
            if d is None:
                continue
            for end, d_rows in zip(self._suffixes, d, strict=True):
                grads[part + end] += d_rows.reshape(-1, d.shape[-1]).sum(axis=0)

    def _part(
        self, part: str, params: Mapping[str, Array], batch: tuple[int, ...]
    ) -> Array | None:
        if part not in self._sizes:
            return None
        rows = np.stack([params[part + end] for end in self._suffixes])
        shape = (len(rows), *batch, self._sizes[part])
        if batch:
            rows = rows[:, np.newaxis]
        return np.ascontiguousarray(np.broadcast_to(rows, shape))

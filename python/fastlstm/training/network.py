"""The layers of a sequence model in a row: embedding, recurrence, head.

Batches come as (N, T, ...) whatever the layout of the recurrent layer. Which loss is
taken and what happens to the gradients is the model's and the trainer's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastlstm.nn import GRU, LSTM, RNN
from fastlstm.nn.embedding import Embedding
from fastlstm.nn.linear import Linear
from fastlstm.nn.module import Module
from fastlstm.training.buffers import Buffers

Array = npt.NDArray[Any]
Recurrent = LSTM | GRU | RNN


class Tape(NamedTuple):
    """What `Network.forward` keeps for `Network.backward`."""

    embedding: Array | None
    recurrent: Any
    head: Array
    state: Array  # h_n


class Network:
    """Embedding where there is one, recurrent layer, head.

    Parameters
    ----------
    recurrent : LSTM, GRU or RNN
    head : Linear
        Takes the features of a step.
    embedding : Embedding or None
        Makes (N, T, I) from indices (N, T).
    return_sequences : bool
        Whether the head sees every step or the state after the last one only.
    """

    def __init__(
        self,
        recurrent: Recurrent,
        head: Linear,
        embedding: Embedding | None,
        return_sequences: bool,
    ) -> None:
        self.recurrent = recurrent
        self.head = head
        self.embedding = embedding
        self.return_sequences = return_sequences
        self._buffers = Buffers()

    @property
    def modules(self) -> list[Module]:
        """The layers, first to last."""
        front: list[Module] = [] if self.embedding is None else [self.embedding]
        return [*front, self.recurrent, self.head]

    def infer(self, x: Array, lengths: Array | None = None) -> Array:
        """Return the head's output (N, O) or (N, T, O); nothing is kept."""
        return self.advance(x, lengths, None)[0]

    def advance(self, x: Array, lengths: Array | None, state: Any) -> tuple[Array, Any]:
        """Return the output of `infer` from a state on, and the last state."""
        if self.embedding is not None:
            x = self.embedding(_cleaned(x, lengths))
        output, state = self.recurrent(self._swapped(x), state, lengths=lengths)
        return self.head(self._features(output, _hidden(state))), state

    def warm(self, x: Array, lengths: Array | None) -> Any:
        """Return the state after the steps of x, from the initial one."""
        if self.embedding is not None:
            x = self.embedding(_cleaned(x, lengths))
        return self.recurrent(self._swapped(x), lengths=lengths)[1]

    def forward(
        self,
        x: Array,
        lengths: Array | None = None,
        state: Any = None,
        checkpoint_every: int | None = None,
    ) -> tuple[Array, Tape, Any]:
        """Return the head's output in kept memory, the tape and the last state."""
        indices = None
        if self.embedding is not None:
            x, indices = self.embedding.forward(_cleaned(x, lengths))
        output, state, tape = self.recurrent.forward(
            self._swapped(x), state, lengths=lengths, checkpoint_every=checkpoint_every
        )
        h_n = _hidden(state)
        prediction, features = self.head.forward(self._features(output, h_n))
        return prediction, Tape(indices, tape, features, h_n), state

    def backward(self, d_prediction: Array, tape: Tape) -> None:
        """Add to the gradients of all layers."""
        d_features = self.head.backward(
            d_prediction, tape.head, out=self._buffers.like("d_features", tape.head)
        )
        assert d_features is not None
        d_output, d_state = None, None
        if self.return_sequences:
            d_output = self._swapped(d_features)
        else:
            d_state = self._d_state(d_features, tape.state)
        d_x, _ = self.recurrent.backward(
            d_output,
            tape.recurrent,
            d_state,
            need_d_x=self.embedding is not None,
            need_d_state=False,
        )
        if self.embedding is not None and tape.embedding is not None:
            self.embedding.backward(self._swapped(d_x), tape.embedding)

    def _swapped(self, sequences: Array) -> Array:
        """Return (N, T, ...) as the recurrent layer wants it, or back; a view."""
        if self.recurrent.batch_first:
            return sequences
        return sequences.swapaxes(0, 1)

    def _features(self, output: Array, h_n: Array) -> Array:
        if self.return_sequences:
            return self._swapped(output)
        if not self.recurrent.bidirectional:
            last: Array = h_n[-1]
            return last
        return np.concatenate([h_n[-2], h_n[-1]], axis=1)

    def _d_state(self, d_features: Array, h_n: Array) -> Any:
        """Return the derivative by the last state, in the form of the state."""
        d_h_n = self._buffers.get("d_h_n", h_n.shape, h_n.dtype)
        d_h_n.fill(0)
        directions = 2 if self.recurrent.bidirectional else 1
        for index, part in enumerate(np.split(d_features, directions, axis=1)):
            d_h_n[index - directions] = part
        return (d_h_n, None) if isinstance(self.recurrent, LSTM) else d_h_n


def _cleaned(indices: Array, lengths: Array | None) -> Array:
    """Return indices (N, T) with 0 behind the lengths, where anything may stand."""
    if lengths is None:
        return indices
    real = np.arange(indices.shape[1]) < lengths[:, np.newaxis]
    return np.where(real, indices, np.zeros((), indices.dtype))


def _hidden(state: Any) -> Array:
    h_n: Array = state[0] if isinstance(state, tuple) else state
    return h_n

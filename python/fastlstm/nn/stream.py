"""Streams: a layer or a model that advances one time step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlstm import _core
from fastlstm._checks import check_size
from fastlstm.nn.embedding import Embedding
from fastlstm.nn.linear import Linear
from fastlstm.nn.module import Array

if TYPE_CHECKING:
    from fastlstm.nn.recurrent import Recurrent

PRECISIONS = (None, "bfloat16")
"""How the matrices of recurrent layers may be rounded."""


def check_precision(precision: str | None) -> str | None:
    """Return it; ValueError unless it is known."""
    if precision not in PRECISIONS:
        raise ValueError(f'precision must be None or "bfloat16", got {precision!r}')
    return precision


class Stream(_core.Stream):
    """N independent streams of a layer, with a head where there is one.

    Made by ``stream()`` of a layer or a model. Weights are a snapshot: `refresh` takes
    a new one. A step gives the bits of the whole-sequence call on the same instruction
    set, and those of the same stream run alone. In the core it allocates nothing, takes
    no lock, and runs on the calling thread, unless `threads` says otherwise; a long one
    lets other threads run.

    Parameters
    ----------
    recurrent : LSTM, GRU or RNN
        Of one direction, with any options of the cell.
    head : Linear, optional
        Answers from the state of the last layer.
    batch_size : int
        N.
    precision : None or "bfloat16"
        "bfloat16": weight_ih and weight_hh are rounded to nearest even and take half
        the memory; all sums stay float32. For layers of float32. A projection's
        weight_hr, and W_hn where a GRU resets before it, are rounded but take as much
        memory as before.
    threads : int
        How many share a step: for large layers (128 units and more) whose steps follow
        each other within 50 us, after which a thread sleeps and takes as long to wake.
        At most `get_num_threads()` at the time are used, one for steps of a
        microsecond and less, with `active` and for options of the cell. The bits are
        the same.

    Raises
    ------
    ValueError
        If the layer has two directions, bfloat16 is asked of float64, or `threads` is
        below 1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> lstm = fl.LSTM(3, 8, rng=0)
    >>> x = np.ones((5, 3), np.float32)
    >>> stream = lstm.stream()
    >>> for x_t in x:
    ...     h_t = stream.step(x_t)
    >>> bool((h_t == lstm(x)[0][-1]).all())
    True

    Two streams, one of which is idle; `out` is written in place:

    >>> pair = lstm.stream(2)
    >>> out = np.zeros((2, 8), np.float32)
    >>> _ = pair.step(np.ones((2, 3), np.float32), out=out,
    ...               active=np.array([True, False]))
    >>> out.any(axis=1)
    array([ True, False])
    """

    def __init__(
        self,
        recurrent: Recurrent,
        head: Linear | None = None,
        *,
        batch_size: int = 1,
        precision: str | None = None,
        threads: int = 1,
    ) -> None:
        self.batch_size = check_size("batch_size", batch_size)
        self.precision = check_precision(precision)
        self.threads = check_size("threads", threads)
        self._recurrent = recurrent
        self._head = head
        recurrent._core.open(
            self,
            list(recurrent.params.values()),
            self._head_arrays(),
            *recurrent.initial_state(),
            self.batch_size,
            precision == "bfloat16",
            self.threads,
        )

    @property
    def state(self) -> Any:
        """(h, c), or h of GRU and RNN: copies, each (L, N, H). May be set.

        With a projection h is (L, N, proj_size).
        """
        return self._get_state()

    @state.setter
    def state(self, value: Any) -> None:
        h, c = value if isinstance(value, tuple | list) else (value, None)
        self._set_state(h, c)

    def process(self, x: Array, out: Array | None = None) -> Array:
        """Advance by T steps at once: the same results as T calls of `step`.

        Parameters
        ----------
        x : array (T, N, I), or (T, I) for a single stream
        out : array (T, N, O) or (T, O), optional
            Where to write the result; shares no memory with `x`.

        Returns
        -------
        array (T, N, O) or (T, O)
        """
        result: Array = self._process(x, out)
        return result

    def reset(self, rows: Array | None = None) -> None:
        """Go back to the state of a new stream: everywhere, or where `rows` is true.

        That is zero, or what was learned. (The mask `reset` of a step zeroes the state
        in any case, as that of a whole sequence does.)

        Parameters
        ----------
        rows : bool array (N,), optional
        """
        self._reset_rows(rows)

    def refresh(self) -> None:
        """Take the layer's present parameters; the state stays."""
        params = list(self._recurrent.params.values())
        self._recurrent._core.refresh(
            self, params, self._head_arrays(), *self._recurrent.initial_state()
        )

    def _head_arrays(self) -> tuple[Array, Array | None] | None:
        if self._head is None:
            return None
        return self._head.params["weight"], self._head.params.get("bias")

    def __reduce__(self) -> Any:
        raise TypeError("a stream cannot be pickled or copied: save the model")

    def __repr__(self) -> str:
        return (
            f"Stream({self._recurrent!r}, {self._head!r}, "
            f"batch_size={self.batch_size}, precision={self.precision!r}, "
            f"threads={self.threads})"
        )


class SymbolStream(Stream):
    """A stream with an embedding in front: x holds integers (N,).

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> model = fl.SequenceModel(fl.LSTM(4, 8, rng=0), fl.Linear(8, 2, rng=0),
    ...                          embedding=fl.Embedding(10, 4, rng=0))
    >>> model.stream(3).step(np.array([1, 0, 9])).shape
    (3, 2)
    """

    def __init__(
        self,
        embedding: Embedding,
        recurrent: Recurrent,
        head: Linear | None = None,
        *,
        batch_size: int = 1,
        precision: str | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(
            recurrent,
            head,
            batch_size=batch_size,
            precision=precision,
            threads=threads,
        )
        self._embedding = embedding
        self._table = embedding.params["weight"].copy()

    def step(
        self,
        x: Array,
        /,
        *,
        out: Array | None = None,
        active: Array | None = None,
        reset: Array | None = None,
    ) -> Array:
        """As `Stream.step`, of integers (N,)."""
        rows = self._embedding.rows(x, self._table)
        result: Array = super().step(rows, out=out, active=active, reset=reset)
        return result

    def process(self, x: Array, out: Array | None = None) -> Array:
        """As `Stream.process`, of integers (T, N)."""
        return super().process(self._embedding.rows(x, self._table), out)

    def refresh(self) -> None:
        """Take the present weights and table; the state stays."""
        super().refresh()
        self._table = self._embedding.params["weight"].copy()

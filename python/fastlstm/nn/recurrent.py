"""LSTM, GRU and RNN layers: parameters and layout here, arithmetic in the C++ core.

Equations: docs/math.md, which follows Hochreiter and Schmidhuber (1997) with forget
gates (Gers, Schmidhuber and Cummins, 2000), Cho et al. (2014) for the GRU in its
reset-after form, and Elman (1990) for the RNN.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastlstm import _core
from fastlstm._checks import check_dtype, check_real, check_size
from fastlstm.nn.init import gate_weights
from fastlstm.nn.module import Array, Module, Seed

State = tuple[Array, Array]
"""An LSTM's state: h and c, each (L*D, N, H)."""

_layers: weakref.WeakSet[_Recurrent] = weakref.WeakSet()


def trim() -> None:
    """Give the memory that all layers keep for their next call back to the system.

    Large buffers (outputs, tapes, scratch) return to their layer and are handed out
    again, because fresh pages cost more than most arithmetic here.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.trim()
    """
    for layer in list(_layers):
        layer.trim()


class _Recurrent(Module):
    """What LSTM, GRU and RNN share: sizes, parameters and the calls into the core."""

    _cell: ClassVar[str]
    _gates: ClassVar[int]
    _transient = frozenset({"_core"})

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        cell_activation: str,
        output_activation: str,
        dtype: npt.DTypeLike,
        init: str | float,
        rng: Seed,
    ) -> None:
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.num_layers = check_size("num_layers", num_layers)
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = check_real("dropout", dropout, low=0, high=1)
        self.bidirectional = bool(bidirectional)
        self._activations = (cell_activation, output_activation)
        self._dtype = check_dtype(dtype)
        self._reset_transient()
        self._rng = np.random.default_rng(rng)
        super().__init__(self._initial_params(init))

    def _reset_transient(self) -> None:
        single = self._dtype == np.float32
        core = _core.RecurrentFloat32 if single else _core.RecurrentFloat64
        self._core: Any = core(
            self._cell,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.bidirectional,
            self.bias,
            *self._activations,
            self.dropout,
        )
        _layers.add(self)

    def _suffixes(self) -> list[str]:
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [f"_l{layer}{end}" for layer in range(self.num_layers) for end in ends]

    def _initial_params(self, init: str | float) -> dict[str, Array]:
        hidden, rows = self.hidden_size, self._gates * self.hidden_size
        directions = 2 if self.bidirectional else 1
        params: dict[str, Array] = {}
        for suffix in self._suffixes():
            first = suffix.startswith("_l0")
            inputs = self.input_size if first else directions * hidden
            shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden)}
            if self.bias:
                shapes |= self._bias_shapes()
            for name, shape in shapes.items():
                params[name + suffix] = gate_weights(
                    self._rng, init, name, shape, hidden
                ).astype(self._dtype)
        return params

    def _bias_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"bias": (self._gates * self.hidden_size,)}

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
            "dtype": self._dtype.name,
        }

    def trim(self) -> None:
        """Give the memory kept for the next call back to the system."""
        self._core.trim()

    def _run(
        self,
        x: Array,
        h0: Array | None,
        c0: Array | None,
        out: Array | None,
        keep: bool,
    ) -> tuple[Array, Array, Array, Any]:
        draws = keep and self.dropout > 0
        seed = int(self._rng.integers(2**63)) if draws else 0
        result: tuple[Array, Array, Array, Any] = self._core.forward(
            list(self.params.values()), x, h0, c0, out, self.batch_first, keep, seed
        )
        return result

    def _run_backward(
        self,
        d_output: Array | None,
        tape: Any,
        d_h_n: Array | None,
        d_c_n: Array | None,
        need_d_x: bool,
    ) -> tuple[Array, Array, Array]:
        result: tuple[Array, Array, Array] = self._core.backward(
            list(self.params.values()),
            list(self.grads.values()),
            d_output,
            tape,
            d_h_n,
            d_c_n,
            need_d_x,
        )
        return result

    # torch keeps two biases, of which only the sum matters; the core keeps the sum.
    def _to_state(self) -> dict[str, Array]:
        state: dict[str, Array] = {}
        for suffix in self._suffixes():
            for name in ("weight_ih", "weight_hh"):
                state[name + suffix] = self.params[name + suffix]
            if self.bias:
                bias = self.params["bias" + suffix]
                state["bias_ih" + suffix] = bias
                state["bias_hh" + suffix] = self._hidden_bias(suffix, bias)
        return state

    def _hidden_bias(self, suffix: str, bias: Array) -> Array:
        return np.zeros_like(bias)

    def _from_state(self, state: Mapping[str, Array]) -> Mapping[str, Array]:
        params: dict[str, Array] = {}
        for suffix in self._suffixes():
            for name in ("weight_ih" + suffix, "weight_hh" + suffix):
                if name in state:
                    params[name] = state[name]
            biases = [state.get(f"bias_{side}{suffix}") for side in ("ih", "hh")]
            given = [b for b in biases if b is not None]
            if given:
                zeros = np.zeros_like(given[0])
                ih, hh = (zeros if b is None else b for b in biases)
                params |= self._sum_biases(suffix, ih, hh)
        return params

    def _sum_biases(self, suffix: str, ih: Array, hh: Array) -> dict[str, Array]:
        return {"bias" + suffix: ih + hh}


class LSTM(_Recurrent):
    """Long short-term memory, as `torch.nn.LSTM` computes it.

    For every layer, direction and time step, with gate rows i, f, g, o::

        i, f, o = sigmoid(W_ih x + W_hh h + b);  g = tanh(W_ih x + W_hh h + b)
        c = f * c + i * g;  h = o * tanh(c)

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H and L.
    bias : bool
        Whether b is learned; it is zero otherwise.
    batch_first : bool
        Sequences are (N, T, I) instead of (T, N, I).
    dropout : float
        Probability of zeroing a value between layers, in `forward` only.
    bidirectional : bool
        A second set of weights runs from the end; D = 2, outputs side by side.
    cell_activation, output_activation : {"tanh", "relu", "sigmoid", "linear"}
        What g and c pass through.
    dtype : {float32, float64}
        Of parameters, inputs and outputs.
    init : float or {"uniform", "orthogonal"}
        Initial weights: uniform in +-1/sqrt(H) as torch, uniform in +-`init`, or
        orthogonal W_hh with Glorot W_ih and zero b.
    forget_bias : float, optional
        Initial value of the forget gate's part of b.
    rng : int or Generator, optional
        Source of the initial weights and of dropout.

    Attributes
    ----------
    params : dict of str to array
        ``weight_ih_l0`` (4H, I), ``weight_hh_l0`` (4H, H), ``bias_l0`` (4H,), then
        ``_l0_reverse``, ``_l1`` and so on. Change them in place.
    grads : dict of str to array
        Same names and shapes; `backward` adds to them.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> lstm = fl.LSTM(3, 8, rng=0)
    >>> x = np.ones((5, 2, 3), np.float32)          # T, N, I
    >>> output, (h_n, c_n) = lstm(x)
    >>> output.shape, h_n.shape
    ((5, 2, 8), (1, 2, 8))
    """

    _cell = "lstm"
    _gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        cell_activation: str = "tanh",
        output_activation: str = "tanh",
        dtype: npt.DTypeLike = np.float32,
        init: str | float = "uniform",
        forget_bias: float | None = None,
        rng: Seed = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            cell_activation=cell_activation,
            output_activation=output_activation,
            dtype=dtype,
            init=init,
            rng=rng,
        )
        if forget_bias is not None:
            if not bias:
                raise ValueError("forget_bias needs bias=True")
            for suffix in self._suffixes():
                self.params["bias" + suffix][hidden_size : 2 * hidden_size] = (
                    forget_bias
                )

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""
        cell, output = self._activations
        return super().config() | {
            "cell_activation": cell,
            "output_activation": output,
        }

    def __call__(
        self, x: Array, state: State | None = None, *, out: Array | None = None
    ) -> tuple[Array, State]:
        """Run inference; nothing is kept for `backward` and nothing is dropped.

        Parameters
        ----------
        x : array (T, N, I), or (N, T, I) with `batch_first`, or (T, I)
            Of the layer's dtype.
        state : pair of arrays (L*D, N, H), optional
            h0 and c0, (L*D, H) for unbatched `x`; zeros if left out.
        out : array, optional
            Where to write the output; C-contiguous, of the output's shape.

        Returns
        -------
        output : array (T, N, D*H), or as `x` is laid out
            h of the last layer at every step.
        (h_n, c_n) : pair of arrays (L*D, N, H)
            State after the last step.

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If an array has another shape.
        """
        output, h_n, c_n, _ = self._run(x, *_pair(state), out, keep=False)
        return output, (h_n, c_n)

    def forward(self, x: Array, state: State | None = None) -> tuple[Array, State, Any]:
        """Run the layer and keep what `backward` needs.

        Parameters
        ----------
        x, state
            As for a call. `x` is not copied: leave it unchanged until `backward`.

        Returns
        -------
        output, (h_n, c_n)
            As for a call; `output` is read-only, because the tape shares it.
        tape : opaque
            Serves one `backward`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm as fl
        >>> lstm = fl.LSTM(3, 8, rng=0)
        >>> output, state, tape = lstm.forward(np.ones((5, 2, 3), np.float32))
        >>> d_x, (d_h0, d_c0) = lstm.backward(np.ones_like(output), tape)
        >>> d_x.shape, lstm.grads["weight_hh_l0"].shape
        ((5, 2, 3), (32, 8))
        """
        output, h_n, c_n, tape = self._run(x, *_pair(state), None, keep=True)
        return output, (h_n, c_n), tape

    def backward(
        self,
        d_output: Array | None,
        tape: Any,
        d_state: tuple[Array | None, Array | None] | None = None,
        *,
        need_d_x: bool = True,
    ) -> tuple[Array, State]:
        """Back-propagate through time; adds to `grads`.

        Parameters
        ----------
        d_output : array like the output, or None
            Gradient of the loss with respect to the output; None is zeros.
        tape : opaque
            From `forward`.
        d_state : pair of arrays (L*D, N, H) or None, optional
            Gradients with respect to h_n and c_n; None is zeros.
        need_d_x : bool
            If false, d_x is not computed and None takes its place.

        Returns
        -------
        d_x : array like x
            Gradient with respect to x.
        (d_h0, d_c0) : pair of arrays (L*D, N, H)
            Gradients with respect to the initial state.

        Raises
        ------
        RuntimeError
            If the tape was used before, or `params` changed since `forward`.
        """
        d_h_n, d_c_n = _pair(d_state, "d_state")
        d_x, d_h0, d_c0 = self._run_backward(d_output, tape, d_h_n, d_c_n, need_d_x)
        return d_x, (d_h0, d_c0)


class _OneState(_Recurrent):
    """GRU and RNN: the state is h alone."""

    def __call__(
        self, x: Array, state: Array | None = None, *, out: Array | None = None
    ) -> tuple[Array, Array]:
        """Run inference: as `LSTM`, with h0 (L*D, N, H) as the state.

        Returns
        -------
        output : array (T, N, D*H), or as `x` is laid out
        h_n : array (L*D, N, H)
        """
        output, h_n, _, _ = self._run(x, state, None, out, keep=False)
        return output, h_n

    def forward(self, x: Array, state: Array | None = None) -> tuple[Array, Array, Any]:
        """Run the layer and keep what `backward` needs: output, h_n and the tape."""
        output, h_n, _, tape = self._run(x, state, None, None, keep=True)
        return output, h_n, tape

    def backward(
        self,
        d_output: Array | None,
        tape: Any,
        d_state: Array | None = None,
        *,
        need_d_x: bool = True,
    ) -> tuple[Array, Array]:
        """Back-propagate through time; adds to `grads`. Returns d_x and d_h0."""
        d_x, d_h0, _ = self._run_backward(d_output, tape, d_state, None, need_d_x)
        return d_x, d_h0


class GRU(_OneState):
    """Gated recurrent unit, as `torch.nn.GRU` computes it.

    For every layer, direction and time step, with gate rows r, z, n::

        r, z = sigmoid(W_ih x + W_hh h + b)
        n = tanh(W_in x + b_n + r * (W_hn h + b_hn));  h = n + z * (h - n)

    Parameters are those of `LSTM` without the activations; b_hn is ``bias_hn_l0`` (H,)
    and the others have 3H rows. The state is h alone.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> gru = fl.GRU(3, 8, bidirectional=True, rng=0)
    >>> output, h_n = gru(np.ones((5, 2, 3), np.float32))
    >>> output.shape, h_n.shape
    ((5, 2, 16), (2, 2, 8))
    """

    _cell = "gru"
    _gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: npt.DTypeLike = np.float32,
        init: str | float = "uniform",
        rng: Seed = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            cell_activation="tanh",
            output_activation="tanh",
            dtype=dtype,
            init=init,
            rng=rng,
        )

    def _bias_shapes(self) -> dict[str, tuple[int, ...]]:
        return super()._bias_shapes() | {"bias_hn": (self.hidden_size,)}

    def _hidden_bias(self, suffix: str, bias: Array) -> Array:
        hidden = np.zeros_like(bias)
        hidden[2 * self.hidden_size :] = self.params["bias_hn" + suffix]
        return hidden

    def _sum_biases(self, suffix: str, ih: Array, hh: Array) -> dict[str, Array]:
        first_n = 2 * self.hidden_size
        bias = ih.copy()
        bias[:first_n] += hh[:first_n]
        return {"bias" + suffix: bias, "bias_hn" + suffix: hh[first_n:]}


class RNN(_OneState):
    """Vanilla recurrent network: h = nonlinearity(W_ih x + W_hh h + b).

    Parameters are those of `LSTM`, with `nonlinearity` ("tanh" or "relu") in place of
    the activations and H rows a weight. The state is h alone.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> rnn = fl.RNN(3, 8, nonlinearity="relu", rng=0)
    >>> output, h_n = rnn(np.ones((5, 2, 3), np.float32))
    >>> output.shape, h_n.shape
    ((5, 2, 8), (1, 2, 8))
    """

    _cell = "rnn"
    _gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: npt.DTypeLike = np.float32,
        init: str | float = "uniform",
        rng: Seed = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be tanh or relu, got {nonlinearity!r}")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            cell_activation=nonlinearity,
            output_activation="tanh",
            dtype=dtype,
            init=init,
            rng=rng,
        )

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""
        return super().config() | {"nonlinearity": self._activations[0]}


def _pair(
    state: tuple[Array | None, Array | None] | None, name: str = "state"
) -> tuple[Array | None, Array | None]:
    if state is None:
        return None, None
    if not isinstance(state, tuple | list) or len(state) != 2:
        raise TypeError(
            f"{name} must be a pair (h, c) of arrays, got {type(state).__name__}"
        )
    return state[0], state[1]

"""What LSTM, GRU and RNN share: parameters and layout here, arithmetic in the core."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastlstm import _core
from fastlstm._checks import check_dtype, check_real, check_rng, check_size
from fastlstm.nn.init import gate_weights
from fastlstm.nn.initial_state import InitialState, State
from fastlstm.nn.module import Array, Module, Seed
from fastlstm.nn.stream import Stream, check_precision
from fastlstm.nn.variants import Variant

Marks = tuple[npt.ArrayLike | None, Array | None, Array | None]
"""lengths, mask and reset of a call."""

_layers: weakref.WeakSet[Recurrent] = weakref.WeakSet()


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


class Recurrent(Module):
    """Sizes, parameters, names and the calls into the core."""

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
        recurrent_dropout: float,
        bidirectional: bool,
        variant: Variant,
        dtype: npt.DTypeLike,
        init: str | float,
        learn_initial_state: bool,
        rng: Seed,
    ) -> None:
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.num_layers = check_size("num_layers", num_layers)
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = check_real("dropout", dropout, low=0, high=1)
        self.recurrent_dropout = check_real(
            "recurrent_dropout", recurrent_dropout, low=0, high=1
        )
        self.bidirectional = bool(bidirectional)
        self._variant = variant
        self._dtype = check_dtype(dtype)
        self.precision: str | None = None
        self._reset_transient()
        self._rng = check_rng(rng)
        params = self._initial_params(init)
        self._initial: InitialState | None = None
        if learn_initial_state:
            self._initial = InitialState(self._suffixes(), self._state_sizes())
            params |= self._initial.zeros(self._dtype)
        super().__init__(params)

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
            *(self._variant.plain_activations(self._cell) or ("tanh", "tanh")),
            self.dropout,
            self.recurrent_dropout,
            self._variant.core_options(self._cell, self.bidirectional),
        )
        _layers.add(self)

    @property
    def output_size(self) -> int:
        """Features of h in one direction: H, or the size of its projection."""
        return self._variant.proj_size or self.hidden_size

    def _suffixes(self) -> list[str]:
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [f"_l{layer}{end}" for layer in range(self.num_layers) for end in ends]

    def _initial_params(self, init: str | float) -> dict[str, Array]:
        hidden, rows = self.hidden_size, self._gates * self.hidden_size
        directions = 2 if self.bidirectional else 1
        params: dict[str, Array] = {}
        for suffix in self._suffixes():
            first = suffix.startswith("_l0")
            inputs = self.input_size if first else directions * self.output_size
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, inputs),
                "weight_hh": (rows, self.output_size),
            }
            if self.bias:
                shapes |= self._bias_shapes()
            shapes |= self._variant_shapes()
            for name, shape in shapes.items():
                params[name + suffix] = gate_weights(
                    self._rng, init, name, shape, hidden
                ).astype(self._dtype)
        return params

    def _bias_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"bias": (self._gates * self.hidden_size,)}

    def _state_sizes(self) -> dict[str, int]:
        """Features of each part of the state."""
        return {"h0": self.output_size}

    @property
    def learn_initial_state(self) -> bool:
        """Whether the initial state is a parameter."""
        return self._initial is not None

    def initial_state(self, *batch: int) -> State:
        """Return the learned h0 and c0 (L*D, N, H) for N sequences; else None twice."""
        if self._initial is None:
            return None, None
        return self._initial.rows(self.params, batch)

    def _variant_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that only a variant has, in the core's order."""
        hidden, rows, variant = (
            self.hidden_size,
            self._gates * self.hidden_size,
            self._variant,
        )
        shapes: dict[str, tuple[int, ...]] = {}
        if variant.proj_size:
            shapes["weight_hr"] = (variant.proj_size, hidden)
        if variant.peepholes:
            shapes["weight_peephole"] = (3 * hidden,)
        if variant.layer_norm:
            shapes |= {"gain_ih": (rows,), "gain_hh": (rows,), "gain_c": (hidden,)}
            if self.bias:
                shapes["bias_c"] = (hidden,)
        return shapes

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values.

        Options are left out where they are not used, so that older readers know all
        other files.
        """
        options: dict[str, Any] = {}
        if self.learn_initial_state:
            options["learn_initial_state"] = True
        if self.recurrent_dropout > 0:
            options["recurrent_dropout"] = self.recurrent_dropout
        return options | {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
            "dtype": self._dtype.name,
            **self._variant.config(),
        }

    def stream(
        self, batch_size: int = 1, *, precision: str | None = None, threads: int = 1
    ) -> Stream:
        """Return N = `batch_size` independent streams that advance step by step.

        See `Stream`; `precision` None is that of the last `round_weights`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm as fl
        >>> stream = fl.GRU(3, 8, rng=0).stream(4)
        >>> stream.step(np.ones((4, 3), np.float32)).shape
        (4, 8)
        """
        precision = check_precision(precision) or self.precision
        return Stream(self, batch_size=batch_size, precision=precision, threads=threads)

    def round_weights(self, precision: str) -> None:
        """Round weight_ih, weight_hh and weight_hr, to nearest, ties to even.

        In place. Biases and the other vectors are not rounded.

        Parameters
        ----------
        precision : "bfloat16"
            What `stream` then stores them as, too.

        Raises
        ------
        ValueError
            If `precision` is another one, or the layer is float64 or frozen.
        """
        self.check_not_frozen()
        if check_precision(precision) is None or self._dtype != np.float32:
            raise ValueError(
                f'precision must be "bfloat16" and the layer float32, got '
                f"{precision!r} and {self._dtype}"
            )
        for value in self.params.values():
            if value.ndim == 2:
                _core.round_to_bfloat16(value)
        self.precision = precision

    def trim(self) -> None:
        """Give the memory kept for the next call back to the system."""
        self._core.trim()

    def draw_seeds(self, count: int) -> npt.NDArray[np.uint64] | None:
        """Draw the seeds of some forward passes; None where nothing is dropped."""
        drops = self.dropout > 0 or self.recurrent_dropout > 0
        if not drops and not self._variant.draws:
            return None
        return np.array([self._rng.integers(2**63) for _ in range(count)], np.uint64)

    def _run(
        self,
        x: Array,
        h0: Array | None,
        c0: Array | None,
        marks: Marks,
        out: Array | None,
        keep: bool,
        checkpoint_every: int | None = None,
    ) -> tuple[Array, Array, Array, Any]:
        every = 0
        if checkpoint_every is not None:
            every = check_size("checkpoint_every", checkpoint_every)
        seeds = self.draw_seeds(1) if keep else None
        seed = 0 if seeds is None else int(seeds[0])
        learned = self.learn_initial_state and h0 is None and c0 is None
        if learned and isinstance(x, np.ndarray) and x.ndim in (2, 3):
            batch = (x.shape[0 if self.batch_first else 1],) if x.ndim == 3 else ()
            h0, c0 = self.initial_state(*batch)
        result: tuple[Array, Array, Array, Any] = self._core.forward(
            list(self.params.values()),
            x,
            h0,
            c0,
            out,
            *marks,
            self.batch_first,
            keep,
            every,
            seed,
        )
        if learned and keep:
            result[3].learned_state = h0, c0
        return result

    def _run_backward(
        self,
        d_output: Array | None,
        tape: Any,
        d_h_n: Array | None,
        d_c_n: Array | None,
        need_d_x: bool,
        need_d_state: bool,
        accumulate: bool,
    ) -> tuple[Any, Any, Any]:
        initial = self._initial
        learned = None if initial is None else getattr(tape, "learned_state", None)
        if learned is not None:
            self._check_initial(learned)
        d_x, d_h0, d_c0 = self._core.backward(
            list(self.params.values()),
            list(self.grads.values()),
            d_output,
            tape,
            d_h_n,
            d_c_n,
            need_d_x,
            need_d_state or learned is not None,
            accumulate,
        )
        if initial is not None and not accumulate:
            for name in initial.names:
                self.grads[name].fill(0)
        if initial is not None and learned is not None:
            initial.add_gradients(self.grads, (d_h0, d_c0))
        return (d_x, d_h0, d_c0) if need_d_state else (d_x, None, None)

    def _check_initial(self, used: State) -> None:
        now = self.initial_state(*used[0].shape[1:-1]) if used[0] is not None else used
        for before, after in zip(used, now, strict=True):
            if before is None or after is None:
                continue
            if not np.array_equal(before, after, equal_nan=True):
                raise RuntimeError(
                    "params changed between forward and backward of this tape"
                )

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
            for name in self._variant_shapes():
                state[name + suffix] = self.params[name + suffix]
        if self._initial is not None:
            state |= {name: self.params[name] for name in self._initial.names}
        return state

    def _hidden_bias(self, suffix: str, bias: Array) -> Array:
        return np.zeros_like(bias)

    def _from_state(self, state: Mapping[str, Array]) -> Mapping[str, Array]:
        params: dict[str, Array] = {}
        for suffix in self._suffixes():
            for name in ("weight_ih", "weight_hh", *self._variant_shapes()):
                if name + suffix in state:
                    params[name + suffix] = state[name + suffix]
            biases = [state.get(f"bias_{side}{suffix}") for side in ("ih", "hh")]
            given = [b for b in biases if b is not None]
            if given:
                zeros = np.zeros_like(given[0])
                ih, hh = (zeros if b is None else b for b in biases)
                params |= self._sum_biases(suffix, ih, hh)
        if self._initial is not None:
            params |= {n: state[n] for n in self._initial.names if n in state}
        return params

    def _sum_biases(self, suffix: str, ih: Array, hh: Array) -> dict[str, Array]:
        return {"bias" + suffix: ih + hh}


class OneStateRecurrent(Recurrent):
    """GRU and RNN: the state is h alone."""

    def __call__(
        self,
        x: Array,
        state: Array | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        reset: Array | None = None,
        mask: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array]:
        """Run inference: as `LSTM`, with h0 (L*D, N, H) as the state.

        Returns
        -------
        output : array (T, N, D*H), or as `x` is laid out
        h_n : array (L*D, N, H)
        """
        marks = (lengths, mask, reset)
        output, h_n, _, _ = self._run(x, state, None, marks, out, keep=False)
        return output, h_n

    def forward(
        self,
        x: Array,
        state: Array | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        reset: Array | None = None,
        mask: Array | None = None,
        checkpoint_every: int | None = None,
    ) -> tuple[Array, Array, Any]:
        """Run the layer and keep what `backward` needs: output, h_n and the tape."""
        marks = (lengths, mask, reset)
        output, h_n, _, tape = self._run(
            x, state, None, marks, None, keep=True, checkpoint_every=checkpoint_every
        )
        return output, h_n, tape

    def backward(
        self,
        d_output: Array | None,
        tape: Any,
        d_state: Array | None = None,
        *,
        need_d_x: bool = True,
        need_d_state: bool = True,
        accumulate: bool = True,
    ) -> tuple[Array, Array]:
        """Back-propagate through time, as `LSTM.backward`; returns d_x and d_h0."""
        d_x, d_h0, _ = self._run_backward(
            d_output, tape, d_state, None, need_d_x, need_d_state, accumulate
        )
        return d_x, d_h0

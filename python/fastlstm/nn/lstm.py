"""The LSTM layer.

Equations: docs/math.md, after Hochreiter and Schmidhuber (1997) with the forget gate of
Gers, Schmidhuber and Cummins (2000).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm._checks import check_real
from fastlstm.nn.module import Array, Seed
from fastlstm.nn.recurrent import Recurrent
from fastlstm.nn.variants import Activations, Variant

State = tuple[Array, Array]
"""An LSTM's state: h and c, each (L*D, N, H)."""


class LSTM(Recurrent):
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
    recurrent_dropout : float
        Probability of zeroing a unit of h on its way into W_hh, in `forward` only: one
        draw for all steps of a sequence (Gal and Ghahramani, 2016).
    bidirectional : bool
        A second set of weights runs from the end; D = 2, outputs side by side.
    recurrent_activation, cell_activation, output_activation : str, tuple or list
        What i, f and o, what g, and what c on its way to h pass through: "tanh",
        "relu", "sigmoid", "linear", "affine", "leaky_relu", "thresholded_relu",
        "scaled_tanh", "hard_sigmoid", "elu", "softsign" or "softplus"; with its alpha
        and beta ("leaky_relu", 0.1); or a list of two of these, forward and reverse.
    clip : float, optional
        Bound of what the activations of the gates and of g take, as in ONNX.
    peepholes : bool
        c also feeds the gates, through ``weight_peephole_l0`` (3H,) in the order i, f,
        o: the former c feeds i and f, the new one o (Gers and Schmidhuber, 2000).
    coupled : bool
        f = 1 - i (ONNX's input_forget); the rows of f in the weights are not used.
    cell_clip : float, optional
        Bound of c, in the state and on its way to h, as in TensorFlow.
    proj_size : int
        If not 0, h is projected to this size by ``weight_hr_l0`` (proj_size, H), as in
        torch; ``weight_hh_l0`` is (4H, proj_size). Smaller than H.
    layer_norm : bool
        Normalise W_ih x, W_hh h, and c on its way to h (Ba, Kiros and Hinton, 2016),
        with the gains ``gain_ih_l0`` (4H,), ``gain_hh_l0`` (4H,), ``gain_c_l0`` (H,)
        and ``bias_c_l0`` (H,).
    zoneout : float or pair of float
        Probability that a unit keeps its former h and c (a pair: h, c), drawn anew for
        each step by `forward`; a call takes the mean (Krueger et al., 2017).
    dtype : {float32, float64}
        Of parameters, inputs and outputs.
    init : float or {"uniform", "orthogonal"}
        Initial weights: uniform in +-1/sqrt(H) as torch, uniform in +-`init`, or
        orthogonal W_hh with Glorot W_ih and zero b.
    forget_bias : float, optional
        Initial value of the forget gate's part of b.
    learn_initial_state : bool
        The state that a call starts from where none is given is a parameter, zero at
        first: ``h0_l0`` (H,), ``c0_l0`` (H,) and so on, one row for all sequences.
    rng : int or Generator, optional
        Source of the initial weights and of dropout.

    Attributes
    ----------
    params : dict of str to array
        ``weight_ih_l0`` (4H, I), ``weight_hh_l0`` (4H, H), ``bias_l0`` (4H,), then
        ``_l0_reverse``, ``_l1`` and so on, and those of the options above. Change them
        in place.
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
    >>> variant = fl.LSTM(3, 8, peepholes=True, proj_size=2, zoneout=0.1, rng=0)
    >>> variant(x)[0].shape, variant.params["weight_peephole_l0"].shape
    ((5, 2, 2), (24,))
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
        recurrent_dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_activation: Activations = "sigmoid",
        cell_activation: Activations = "tanh",
        output_activation: Activations = "tanh",
        clip: float | None = None,
        peepholes: bool = False,
        coupled: bool = False,
        cell_clip: float | None = None,
        proj_size: int = 0,
        layer_norm: bool = False,
        zoneout: float | tuple[float, float] = 0.0,
        dtype: npt.DTypeLike = np.float32,
        init: str | float = "uniform",
        forget_bias: float | None = None,
        learn_initial_state: bool = False,
        rng: Seed = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            bidirectional=bidirectional,
            variant=Variant(
                recurrent_activation=recurrent_activation,
                cell_activation=cell_activation,
                output_activation=output_activation,
                clip=clip,
                peepholes=bool(peepholes),
                coupled=bool(coupled),
                cell_clip=cell_clip,
                layer_norm=bool(layer_norm),
                zoneout=zoneout,
                proj_size=proj_size,
            ),
            dtype=dtype,
            init=init,
            learn_initial_state=bool(learn_initial_state),
            rng=rng,
        )
        if forget_bias is not None:
            if not bias:
                raise ValueError("forget_bias needs bias=True")
            forget_bias = check_real("forget_bias", forget_bias)
            for suffix in self._suffixes():
                self.params["bias" + suffix][hidden_size : 2 * hidden_size] = (
                    forget_bias
                )

    def _state_sizes(self) -> dict[str, int]:
        return {**super()._state_sizes(), "c0": self.hidden_size}

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""
        config = super().config()
        for name in ("cell_activation", "output_activation"):
            config.setdefault(name, "tanh")
        return config

    def __call__(
        self,
        x: Array,
        state: State | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        reset: Array | None = None,
        mask: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, State]:
        """Run inference; nothing is kept for `backward` and nothing is dropped.

        Parameters
        ----------
        x : array (T, N, I), or (N, T, I) with `batch_first`, or (T, I)
            Of the layer's dtype.
        state : pair of arrays (L*D, N, H), optional
            h0 and c0, (L*D, H) for unbatched `x`; zeros, or what was learned, if left
            out.
        lengths : integers (N,), optional
            Steps of each sequence, 0 to T in any order; all are T if left out. Outputs
            behind a length are zero, h_n and c_n belong to its last step, and the
            second direction starts there. Work follows the real steps.
        reset : bool array (T, N), or (N, T) or (T,) as `x`, optional
            Where true, the sequence's state is zeroed before the step, even if the
            step is masked. Not with two directions.
        mask : bool array, laid out as `reset`, optional
            Where false, the step is skipped: the state is held and the output repeats
            the held h. What `x` holds there, or behind a length, is never read.
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
            If an array has another shape, a length is out of range, or two directions
            are to be reset.

        Examples
        --------
        Two sequences of 5 and 2 steps; the padding is never read:

        >>> import numpy as np
        >>> import fastlstm as fl
        >>> lstm = fl.LSTM(3, 8, rng=0)
        >>> x = np.ones((5, 2, 3), np.float32)
        >>> x[2:, 1] = np.nan
        >>> output, (h_n, c_n) = lstm(x, lengths=[5, 2])
        >>> bool((output[1, 1] == h_n[0, 1]).all()), float(output[2:, 1].max())
        (True, 0.0)
        """
        marks = (lengths, mask, reset)
        output, h_n, c_n, _ = self._run(x, *_pair(state), marks, out, keep=False)
        return output, (h_n, c_n)

    def forward(
        self,
        x: Array,
        state: State | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        reset: Array | None = None,
        mask: Array | None = None,
        checkpoint_every: int | None = None,
    ) -> tuple[Array, State, Any]:
        """Run the layer and keep what `backward` needs.

        Parameters
        ----------
        x, state, lengths, reset, mask
            As for a call. `x` is not copied: leave it unchanged until `backward`.
        checkpoint_every : int, optional
            Keep the states before every k-th step only, and let `backward` run the
            steps between again: it takes memory of T/k + k steps of all layers beside
            x and the output instead of T, and the gradients have the same bits. For
            long sequences; k near the square root of T takes least. A bidirectional
            stack also keeps the outputs between its layers, T steps of each;
            `lengths` and `mask` take a few bytes a step.

        Returns
        -------
        output, (h_n, c_n)
            As for a call, to rounding on AMX and for a batch of one of a large layer
            (docs/math.md); `output` is read-only where the tape shares it: not with
            `checkpoint_every`.
        tape
            Serves one `backward`. For analysis, ``tape.cell`` is c of the last layer at
            every step, laid out as the output, and ``tape.gates`` its gates i, f, g, o,
            stacked (4, T, N, D*H); ``tape.cell_of(layer)`` and
            ``tape.gates_of(layer)`` are those of another. Not with `checkpoint_every`.
            With options of the cell c is what the next step takes, after clip and
            zoneout, and coupled gates have f = 1 - i. ``tape.nbytes`` is the memory
            that it holds beside x and the output.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm as fl
        >>> lstm = fl.LSTM(3, 8, rng=0)
        >>> output, state, tape = lstm.forward(np.ones((5, 2, 3), np.float32))
        >>> d_x, (d_h0, d_c0) = lstm.backward(np.ones_like(output), tape)
        >>> d_x.shape, lstm.grads["weight_hh_l0"].shape
        ((5, 2, 3), (32, 8))
        >>> i, f, g, o = tape.gates
        >>> np.allclose(output, o * np.tanh(tape.cell))
        True
        """
        marks = (lengths, mask, reset)
        output, h_n, c_n, tape = self._run(
            x,
            *_pair(state),
            marks,
            None,
            keep=True,
            checkpoint_every=checkpoint_every,
        )
        return output, (h_n, c_n), tape

    def backward(
        self,
        d_output: Array | None,
        tape: Any,
        d_state: tuple[Array | None, Array | None] | None = None,
        *,
        need_d_x: bool = True,
        need_d_state: bool = True,
        accumulate: bool = True,
    ) -> tuple[Array, State]:
        """Back-propagate through time; adds to `grads`.

        Parameters
        ----------
        d_output : array like the output, or None
            Gradient of the loss with respect to the output; None is zeros. Behind a
            length it is not read; at a masked step it flows into the held h.
        tape : opaque
            From `forward`.
        d_state : pair of arrays (L*D, N, H) or None, optional
            Gradients with respect to h_n and c_n; None is zeros.
        need_d_x : bool
            If false, d_x is not computed and None takes its place.
        need_d_state : bool
            The same for d_h0 and d_c0.
        accumulate : bool
            If false, `grads` are overwritten: the same as `zero_grad` before, in less
            time.

        Returns
        -------
        d_x : array like x
            Gradient with respect to x; zero at steps that are not real.
        (d_h0, d_c0) : pair of arrays (L*D, N, H)
            Gradients with respect to the initial state.

        Raises
        ------
        RuntimeError
            If the tape was used before, or `params` changed since `forward`.
        """
        d_h_n, d_c_n = _pair(d_state, "d_state")
        d_x, d_h0, d_c0 = self._run_backward(
            d_output, tape, d_h_n, d_c_n, need_d_x, need_d_state, accumulate
        )
        return d_x, (d_h0, d_c0)


def _pair(
    state: tuple[Array | None, Array | None] | None, name: str = "state"
) -> tuple[Array | None, Array | None]:
    if state is None:
        return None, None
    if not isinstance(state, tuple | list):
        raise TypeError(f"{name} must be a pair (h, c), got {type(state).__name__}")
    if len(state) != 2:
        raise TypeError(f"{name} must be a pair (h, c), got {len(state)} items")
    return state[0], state[1]

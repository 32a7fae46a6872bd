"""The GRU layer.

Equations: docs/math.md, after Cho et al. (2014), with the reset gate applied after the
product as in cuDNN.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastlstm.nn.module import Array, Seed
from fastlstm.nn.recurrent import OneStateRecurrent
from fastlstm.nn.variants import Activations, Variant


class GRU(OneStateRecurrent):
    """Gated recurrent unit, as `torch.nn.GRU` computes it.

    For every layer, direction and time step, with gate rows r, z, n::

        r, z = sigmoid(W_ih x + W_hh h + b)
        n = tanh(W_in x + b_n + r * (W_hn h + b_hn));  h = n + z * (h - n)

    Parameters are those of `LSTM`, but for what is listed here and what has to do with
    c; b_hn is ``bias_hn_l0`` (H,) and the others have 3H rows. The state is h alone.

    Parameters
    ----------
    recurrent_activation, cell_activation : str, tuple or list
        In place of the sigmoid of r and z, and of the tanh of n; as for `LSTM`.
    reset_after : bool
        If false, r multiplies h before the product instead:
        ``n = tanh(W_in x + b_n + W_hn (r * h) + b_hn)``, as ONNX has it by default.
    clip : float, optional
        Bound of what these activations take, as for `LSTM`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> gru = fl.GRU(3, 8, bidirectional=True, rng=0)
    >>> output, h_n = gru(np.ones((5, 2, 3), np.float32))
    >>> output.shape, h_n.shape
    ((5, 2, 16), (2, 2, 8))
    >>> as_in_onnx = fl.GRU(3, 8, reset_after=False, rng=0)
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
        recurrent_dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_activation: Activations = "sigmoid",
        cell_activation: Activations = "tanh",
        reset_after: bool = True,
        clip: float | None = None,
        dtype: npt.DTypeLike = np.float32,
        init: str | float = "uniform",
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
                reset_after=bool(reset_after),
                clip=clip,
            ),
            dtype=dtype,
            init=init,
            learn_initial_state=bool(learn_initial_state),
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

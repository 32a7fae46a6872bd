"""The vanilla recurrent layer (Elman, 1990). Equations: docs/math.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm.nn.module import Seed
from fastlstm.nn.recurrent import OneStateRecurrent
from fastlstm.nn.variants import Activations, Variant


class RNN(OneStateRecurrent):
    """Vanilla recurrent network: h = nonlinearity(W_ih x + W_hh h + b).

    Parameters are those of `LSTM` that have nothing to do with gates or c, with
    `nonlinearity` (as `LSTM`'s activations) in their place, its argument held within
    +-`clip`, and H rows a weight. The state is h alone.

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
        nonlinearity: Activations = "tanh",
        clip: float | None = None,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        bidirectional: bool = False,
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
            variant=Variant(cell_activation=nonlinearity, clip=clip),
            dtype=dtype,
            init=init,
            learn_initial_state=bool(learn_initial_state),
            rng=rng,
        )

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""
        config = super().config()
        return config | {"nonlinearity": config.pop("cell_activation", "tanh")}

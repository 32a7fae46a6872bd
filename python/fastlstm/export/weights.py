"""What a header holds of a model: weights laid out for its loops, float or int8.

Knows the layers, not the text of a header. A model that the generated code could not
follow is refused here.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastlstm.nn import GRU, LSTM, RNN
from fastlstm.nn.module import Module
from fastlstm.training import SequenceModel

Array = npt.NDArray[Any]

# Constructor arguments that the generated code follows, or that inference never sees.
_FOLLOWED = {
    *("input_size", "hidden_size", "num_layers", "bias", "batch_first"),
    *("dropout", "recurrent_dropout"),
    *("dtype", "bidirectional", "learn_initial_state"),
}
# What it has functions for, and where they may stand; not in a GRU.
_ACTIVATIONS = ("tanh", "relu", "sigmoid", "linear")
_ACTIVATED = ("cell_activation", "output_activation", "nonlinearity")


class Matrix(NamedTuple):
    """One weight matrix as the header stores it.

    Attributes
    ----------
    values : array
        (inputs, outputs), so that the inner loop runs over outputs; a table or head
        as it is, (rows, columns). float32 or int8.
    scales : array or None
        One float32 factor for each output, or row of a table or head; None for floats.
    """

    values: Array
    scales: Array | None


class Layer(NamedTuple):
    """One recurrent layer: sums start at `bias`; x adds to the first columns of them.

    The GRU's sums are n_x, r, z, n_h: x feeds the first three, h the last three.
    """

    bias: Array
    from_x: Matrix
    from_h: Matrix


class Weights(NamedTuple):
    """All weights of a model in the order of computation.

    `initial` holds h and for an LSTM c, each (L, H), where the model has learned them.
    """

    initial: dict[str, Array]
    table: Matrix | None
    layers: list[Layer]
    head: Matrix
    head_bias: Array


def check_exportable(model: object) -> SequenceModel:
    """Return the model; an error that names what a header cannot hold."""
    if not isinstance(model, SequenceModel):
        raise TypeError(f"model must be a SequenceModel, got {type(model).__name__}")
    recurrent = model.recurrent
    kind = type(recurrent).__name__
    if type(recurrent) not in (LSTM, GRU, RNN):
        raise ValueError(f"export knows LSTM, GRU and RNN, got {kind}")
    if recurrent.bidirectional:
        raise ValueError(
            "export needs a model of one direction: bidirectional=True must see the "
            "end of a sequence before its first answer, and a header steps through time"
        )
    if recurrent.dtype != np.float32:
        raise ValueError(
            f"export needs a float32 model, got {recurrent.dtype}: make it with "
            "dtype=numpy.float32 and load the state_dict() converted by astype"
        )
    defaults = inspect.signature(type(recurrent)).parameters
    for name, value in recurrent.config().items():
        default = getattr(defaults.get(name), "default", None)
        known = name in _ACTIVATED and kind != "GRU" and value in _ACTIVATIONS
        if name not in _FOLLOWED and value != default and not known:
            raise ValueError(f"export does not know {kind}({name}={value!r}) yet")
    for layer_name, layer in layers_of(model).items():
        for name, value in layer.params.items():
            if not np.isfinite(value).all():
                raise ValueError(f"{layer_name}.{name} must be finite to be exported")
    return model


def layers_of(model: SequenceModel) -> dict[str, Module]:
    """Return the model's layers by name, the embedding only where there is one."""
    layers = {
        "embedding": model.embedding,
        "recurrent": model.recurrent,
        "head": model.head,
    }
    return {name: layer for name, layer in layers.items() if layer is not None}


def quantize_rows(weight: Array) -> tuple[Array, Array]:
    """Return int8 values and the float32 scale of each row, symmetric about 0.

    Examples
    --------
    >>> values, scales = quantize_rows(np.array([[-1.0, 0.5], [0.0, 0.0]], np.float32))
    >>> values.tolist(), (scales * 127).tolist()
    ([[-127, 64], [0, 0]], [1.0, 0.0])
    """
    scales = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
    divisors = np.where(scales > 0, scales, 1)[:, None]
    # A scale below the normal numbers is coarse: the quotient may pass 127.
    values = np.clip(np.rint(weight / divisors), -127, 127)
    return values.astype(np.int8), scales


def dequantized(model: SequenceModel) -> SequenceModel:
    """Return a copy of the model whose matrices hold what int8 keeps of them."""
    rounded = copy.deepcopy(model)
    for layer in layers_of(rounded).values():
        for name, value in layer.params.items():
            if name.startswith("weight"):
                values, scales = quantize_rows(value)
                value[...] = values * scales[:, None]
    return rounded


def weights_of(model: SequenceModel, int8: bool) -> Weights:
    """Lay out the weights of a model that `check_exportable` passed."""
    recurrent, params = model.recurrent, model.recurrent.params
    hidden = recurrent.hidden_size
    layers = []
    for index in range(recurrent.num_layers):
        end = f"_l{index}"
        from_x, from_h = params["weight_ih" + end], params["weight_hh" + end]
        zeros = np.zeros(len(from_x), np.float32)
        bias = params.get("bias" + end, zeros)
        if isinstance(recurrent, GRU):
            # r, z, n -> n, r, z, so that what x and what h feed are neighbours.
            order = np.roll(np.arange(3 * hidden), hidden)
            from_x, bias = from_x[order], bias[order]
            hidden_bias = params.get("bias_hn" + end, np.zeros(hidden, np.float32))
            bias = np.concatenate([bias, hidden_bias])
        layers.append(Layer(bias, _columns(from_x, int8), _columns(from_h, int8)))
    head = model.head
    head_bias = head.params.get("bias", np.zeros(head.out_features, np.float32))
    table = model.embedding
    initial = {}
    if recurrent.learn_initial_state:
        for part in ("h", "c") if isinstance(recurrent, LSTM) else ("h",):
            rows = [params[f"{part}0_l{index}"] for index in range(len(layers))]
            initial[part] = np.stack(rows)
    return Weights(
        initial,
        None if table is None else _rows(table.params["weight"], int8),
        layers,
        _rows(head.params["weight"], int8),
        head_bias,
    )


def _rows(weight: Array, int8: bool) -> Matrix:
    return Matrix(*quantize_rows(weight)) if int8 else Matrix(weight, None)


def _columns(weight: Array, int8: bool) -> Matrix:
    values, scales = _rows(weight, int8)
    return Matrix(np.ascontiguousarray(values.T), scales)

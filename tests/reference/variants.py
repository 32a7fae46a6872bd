"""Variants of the cells in plain NumPy, forward, slow on purpose.

The specification of docs/math.md, "Variants", one equation a line; any float dtype.
Gradients are checked against differences instead. Used by tests/python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

EPSILON = 1e-5
"""Added to the variance in layer normalisation, as torch.nn.LayerNorm."""


def activate(activation: Any, v: Array) -> Array:
    """Apply a name, or a name with its alpha and beta, as ONNX defines it."""
    name, *given = (activation,) if isinstance(activation, str) else activation
    defaults = {
        "affine": (1, 0),
        "leaky_relu": (0.01,),
        "thresholded_relu": (1,),
        "scaled_tanh": (1, 1),
        "hard_sigmoid": (0.2, 0.5),
        "elu": (1,),
    }.get(name, ())
    alpha, beta = (*given, *defaults[len(given) :], 0, 0)[:2]
    return {
        "tanh": lambda: np.tanh(v),
        "relu": lambda: np.maximum(v, 0),
        "sigmoid": lambda: 1 / (1 + np.exp(-v)),
        "linear": lambda: v,
        "affine": lambda: alpha * v + beta,
        "leaky_relu": lambda: np.where(v >= 0, v, alpha * v),
        "thresholded_relu": lambda: np.where(v >= alpha, v, 0),
        "scaled_tanh": lambda: alpha * np.tanh(beta * v),
        "hard_sigmoid": lambda: np.minimum(np.maximum(alpha * v + beta, 0), 1),
        "elu": lambda: np.where(v >= 0, v, alpha * np.expm1(np.minimum(v, 0))),
        "softsign": lambda: v / (1 + np.abs(v)),
        "softplus": lambda: np.log1p(np.exp(-np.abs(v))) + np.maximum(v, 0),
    }[name]()


def clipped(v: Array, bound: float | None) -> Array:
    return v if bound is None else np.clip(v, -bound, bound)


def normalised(v: Array) -> Array:
    centred = v - v.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    return centred / np.sqrt(variance + EPSILON)


def lstm_gates(
    o: Mapping[str, Any], p: Mapping[str, Array], x: Array, h: Array, c: Array
) -> tuple[Array, ...]:
    """i, f, g, o and c~ of a step; o are the options, p parameters without suffix."""
    zero = np.zeros(1, x.dtype)
    bias = p.get("bias", zero)
    if o.get("layer_norm"):
        sums = (
            p["gain_ih"] * normalised(x @ p["weight_ih"].T)
            + p["gain_hh"] * normalised(h @ p["weight_hh"].T)
            + bias
        )
    else:
        sums = x @ p["weight_ih"].T + h @ p["weight_hh"].T + bias
    peep_i, peep_f, peep_o = np.split(p.get("weight_peephole", np.zeros(3)), 3)

    def gate(v: Array) -> Array:
        return activate(
            o.get("recurrent_activation", "sigmoid"), clipped(v, o.get("clip"))
        )

    a_i, a_f, a_g, a_o = np.split(sums, 4, axis=1)
    i = gate(a_i + peep_i * c)
    f = 1 - i if o.get("coupled") else gate(a_f + peep_f * c)
    g = activate(o.get("cell_activation", "tanh"), clipped(a_g, o.get("clip")))
    new_c = clipped(f * c + i * g, o.get("cell_clip"))
    return i, f, g, gate(a_o + peep_o * new_c), new_c


def lstm_step(
    o: Mapping[str, Any], p: Mapping[str, Array], x: Array, h: Array, c: Array
) -> tuple[Array, Array]:
    *_, out, new_c = lstm_gates(o, p, x, h, c)
    u = new_c
    if o.get("layer_norm"):
        bias = p.get("bias_c", np.zeros(1, x.dtype))
        u = p["gain_c"] * normalised(new_c) + bias
    new_h = out * activate(o.get("output_activation", "tanh"), u)
    if "weight_hr" in p:
        new_h = new_h @ p["weight_hr"].T
    zoneout = o.get("zoneout", 0.0)
    zone_h, zone_c = (zoneout, zoneout) if np.isscalar(zoneout) else zoneout
    return zone_h * h + (1 - zone_h) * new_h, zone_c * c + (1 - zone_c) * new_c


def gru_gates(
    o: Mapping[str, Any], p: Mapping[str, Array], x: Array, h: Array
) -> tuple[Array, Array, Array]:
    """r, z and n of a step."""

    def gate(v: Array) -> Array:
        return activate(
            o.get("recurrent_activation", "sigmoid"), clipped(v, o.get("clip"))
        )

    zero = np.zeros(1, x.dtype)
    a_r, a_z, a_n = np.split(x @ p["weight_ih"].T + p.get("bias", zero), 3, axis=1)
    w_r, w_z, w_n = np.split(p["weight_hh"], 3)
    r, z = gate(a_r + h @ w_r.T), gate(a_z + h @ w_z.T)
    bias = p.get("bias_hn", zero)
    if o.get("reset_after", True):
        a_n = a_n + r * (h @ w_n.T + bias)
    else:
        a_n = a_n + (r * h) @ w_n.T + bias
    n = activate(o.get("cell_activation", "tanh"), clipped(a_n, o.get("clip")))
    return r, z, n


def gru_step(
    o: Mapping[str, Any], p: Mapping[str, Array], x: Array, h: Array
) -> tuple[Array]:
    _, z, n = gru_gates(o, p, x, h)
    return ((1 - z) * n + z * h,)


def rnn_step(
    o: Mapping[str, Any], p: Mapping[str, Array], x: Array, h: Array
) -> tuple[Array]:
    sums = x @ p["weight_ih"].T + p.get("bias", 0) + h @ p["weight_hh"].T
    return (activate(o.get("nonlinearity", "tanh"), clipped(sums, o.get("clip"))),)


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}


def of_direction(options: Mapping[str, Any], reverse: bool) -> dict[str, Any]:
    """Options of one direction: of a list of two activations, the one meant."""
    return {
        name: value[reverse]
        if isinstance(value, list) and name.endswith(("activation", "nonlinearity"))
        else value
        for name, value in options.items()
    }


def forward(
    cell: str,
    options: Mapping[str, Any],
    params: Mapping[str, Array],
    x: Array,
    state: tuple[Array, ...],
) -> tuple[Array, tuple[Array, ...]]:
    """Run all layers over x (T, N, I) from the state; output and last state."""
    finals: list[tuple[Array, ...]] = []
    ends = ("", "_reverse") if options.get("bidirectional") else ("",)
    for layer in range(options.get("num_layers", 1)):
        outputs: list[Array] = []
        for end in ends:
            suffix = f"_l{layer}{end}"
            p = {
                name.removesuffix(suffix): value
                for name, value in params.items()
                if name.endswith(suffix)
            }
            now = tuple(part[len(finals)] for part in state)
            rows: list[Any] = [None] * len(x)
            times = range(len(x))[::-1] if end else range(len(x))
            for t in times:
                now = STEPS[cell](of_direction(options, bool(end)), p, x[t], *now)
                rows[t] = now[0]
            outputs.append(np.stack(rows))
            finals.append(now)
        x = np.concatenate(outputs, axis=2)
    return x, tuple(np.stack(part) for part in zip(*finals, strict=True))

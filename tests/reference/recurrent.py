"""LSTM, GRU and RNN in plain NumPy, forward and backward, slow on purpose.

The specification that the tests hold the library to: one loop over time, one equation
a line, any float dtype. No dropout, no ragged batches. Used by
tests/python/test_reference.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
State = tuple[Array, ...]  # (h, c) for an LSTM, (h,) otherwise


@dataclass(frozen=True)
class Network:
    """What the parameters do not say about the layers."""

    cell: str  # lstm, gru, rnn
    num_layers: int = 1
    bidirectional: bool = False
    cell_activation: str = "tanh"  # of g (LSTM), of h (RNN)
    output_activation: str = "tanh"  # of c on its way to h (LSTM)

    def suffixes(self) -> list[str]:
        """Ends of the parameters' names, in the order of the state's rows."""
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [f"_l{layer}{end}" for layer in range(self.num_layers) for end in ends]


class Step(NamedTuple):
    """What a backward step needs from its forward step."""

    x: Array  # (N, I)
    state: State  # before the step, each (N, H)
    u: Array  # (N, gates*H), W_hh h + b_hn
    gates: tuple[Array, ...]  # after their activations, each (N, H)


def sigmoid(v: Array) -> Array:
    """1 / (1 + exp(-v)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * v))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "relu": lambda v: np.maximum(v, 0),
    "sigmoid": sigmoid,
    "linear": lambda v: v,
}

SLOPES: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda y: 1 - y * y,
    "relu": lambda y: (y > 0).astype(y.dtype),
    "sigmoid": lambda y: y * (1 - y),
    "linear": np.ones_like,
}
"""Derivative of each activation, from its value y; 0 where relu has none."""


# A cell step takes a = W_ih x + b and u = W_hh h + b_hn, both (N, gates*H), and gives
# the new state and the gates. Its inverse takes the gradient by the new state and gives
# those by a, by u, and by the old state where that did not pass through W_hh.


def lstm_step(
    net: Network, a: Array, u: Array, state: State
) -> tuple[State, tuple[Array, ...]]:
    i, f, g, o = np.split(a + u, 4, axis=1)
    i, f, o = sigmoid(i), sigmoid(f), sigmoid(o)
    g = ACTIVATIONS[net.cell_activation](g)
    c = f * state[1] + i * g
    y = ACTIVATIONS[net.output_activation](c)
    return (o * y, c), (i, f, g, o, y)


def lstm_back(
    net: Network, d_state: State, step: Step
) -> tuple[Array, Array, list[Array]]:
    i, f, g, o, y = step.gates
    d_h, d_c = d_state
    d_c = d_c + d_h * o * SLOPES[net.output_activation](y)
    d_i = d_c * g * i * (1 - i)
    d_f = d_c * step.state[1] * f * (1 - f)
    d_g = d_c * i * SLOPES[net.cell_activation](g)
    d_o = d_h * y * o * (1 - o)
    d_a = np.concatenate([d_i, d_f, d_g, d_o], axis=1)
    return d_a, d_a, [np.zeros_like(d_h), d_c * f]


def gru_step(
    net: Network, a: Array, u: Array, state: State
) -> tuple[State, tuple[Array, ...]]:
    a_r, a_z, a_n = np.split(a, 3, axis=1)
    u_r, u_z, u_n = np.split(u, 3, axis=1)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    n = np.tanh(a_n + r * u_n)
    return (n + z * (state[0] - n),), (r, z, n)


def gru_back(
    net: Network, d_state: State, step: Step
) -> tuple[Array, Array, list[Array]]:
    r, z, n = step.gates
    u_n = np.split(step.u, 3, axis=1)[2]
    (d_h,) = d_state
    d_n = d_h * (1 - z) * (1 - n * n)
    d_z = d_h * (step.state[0] - n) * z * (1 - z)
    d_r = d_n * u_n * r * (1 - r)
    d_a = np.concatenate([d_r, d_z, d_n], axis=1)
    d_u = np.concatenate([d_r, d_z, d_n * r], axis=1)
    return d_a, d_u, [d_h * z]


def rnn_step(
    net: Network, a: Array, u: Array, state: State
) -> tuple[State, tuple[Array, ...]]:
    h = ACTIVATIONS[net.cell_activation](a + u)
    return (h,), (h,)


def rnn_back(
    net: Network, d_state: State, step: Step
) -> tuple[Array, Array, list[Array]]:
    d_a = d_state[0] * SLOPES[net.cell_activation](step.gates[0])
    return d_a, d_a, [np.zeros_like(d_a)]


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}
BACKS = {"lstm": lstm_back, "gru": gru_back, "rnn": rnn_back}


def forward(
    net: Network, params: Mapping[str, Array], x: Array, state: State
) -> tuple[Array, State, list[list[Step]]]:
    """Run all layers over x (T, N, I) from the state, each (L*D, N, H).

    Returns the output (T, N, D*H), the state after the last step, and the tape: for
    every layer and direction its steps in the order of time.
    """
    directions = 2 if net.bidirectional else 1
    finals: list[State] = []
    tape: list[list[Step]] = []
    outputs: list[Array] = []
    for k, suffix in enumerate(net.suffixes()):
        if k % directions == 0 and k > 0:
            x, outputs = np.concatenate(outputs, axis=2), []
        w_ih, w_hh = params["weight_ih" + suffix], params["weight_hh" + suffix]
        now = tuple(s[k] for s in state)
        steps: dict[int, Step] = {}
        h = np.zeros((*x.shape[:2], w_hh.shape[1]), x.dtype)
        for t in _times(len(x), suffix):
            a = x[t] @ w_ih.T + params.get("bias" + suffix, 0)
            u = now[0] @ w_hh.T
            if "bias_hn" + suffix in params:
                u[:, -w_hh.shape[1] :] += params["bias_hn" + suffix]
            after, gates = STEPS[net.cell](net, a, u, now)
            steps[t] = Step(x[t], now, u, gates)
            now, h[t] = after, after[0]
        tape.append([steps[t] for t in range(len(x))])
        finals.append(now)
        outputs.append(h)
    h_n = tuple(np.stack(rows) for rows in zip(*finals, strict=True))
    return np.concatenate(outputs, axis=2), h_n, tape


def backward(
    net: Network,
    params: Mapping[str, Array],
    tape: list[list[Step]],
    d_output: Array,
    d_state: State,
) -> tuple[Array, State, dict[str, Array]]:
    """Back-propagate through time: gradients by x, by the initial state, by params."""
    directions = 2 if net.bidirectional else 1
    hidden = d_state[0].shape[2]
    grads = {name: np.zeros_like(value) for name, value in params.items()}
    d_state0 = tuple(np.zeros_like(d) for d in d_state)
    suffixes = net.suffixes()
    for layer in reversed(range(net.num_layers)):
        first = layer * directions
        inputs = tape[first][0].x.shape[1]
        d_x = np.zeros((*d_output.shape[:2], inputs), d_output.dtype)
        for k in range(first, first + directions):
            suffix = suffixes[k]
            w_ih, w_hh = params["weight_ih" + suffix], params["weight_hh" + suffix]
            d_y = np.split(d_output, directions, axis=2)[k - first]
            d_now = [d[k].copy() for d in d_state]
            for t in reversed(_times(len(d_y), suffix)):
                step = tape[k][t]
                d_now[0] += d_y[t]
                d_a, d_u, d_now = BACKS[net.cell](net, tuple(d_now), step)
                d_now[0] += d_u @ w_hh
                d_x[t] += d_a @ w_ih
                grads["weight_ih" + suffix] += d_a.T @ step.x
                grads["weight_hh" + suffix] += d_u.T @ step.state[0]
                if "bias" + suffix in params:
                    grads["bias" + suffix] += d_a.sum(axis=0)
                if "bias_hn" + suffix in params:
                    grads["bias_hn" + suffix] += d_u[:, -hidden:].sum(axis=0)
            for total, d in zip(d_state0, d_now, strict=True):
                total[k] = d
        d_output = d_x
    return d_output, d_state0, grads


def _times(length: int, suffix: str) -> range:
    """Steps in the order in which the direction takes them."""
    return range(length)[::-1] if suffix.endswith("_reverse") else range(length)

"""LSTM, GRU and RNN in plain NumPy, forward and backward, slow on purpose.

The specification that the tests hold the library to: one loop over time, one equation
a line, any float dtype, lengths, mask and reset. No dropout. Used by
tests/python/oracle.py.
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
    reset_after: bool = True  # r multiplies W_hn h + b_hn as in torch; if not, h (GRU)

    def suffixes(self) -> list[str]:
        """Ends of the parameters' names, in the order of the state's rows."""
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [f"_l{layer}{end}" for layer in range(self.num_layers) for end in ends]


class Marks(NamedTuple):
    """Which steps are computed; each may be None."""

    lengths: Array | None = None  # (N,)
    mask: Array | None = None  # (T, N)
    reset: Array | None = None  # (T, N)

    def at(self, t: int, rows: int) -> tuple[Array, Array, Array]:
        """Inside a row's length, real, and reset before time t, each (N, 1)."""
        yes = np.ones(rows, bool)
        inside = yes if self.lengths is None else t < np.asarray(self.lengths)
        real = inside if self.mask is None else inside & self.mask[t]
        reset = ~yes if self.reset is None else inside & self.reset[t]
        return inside[:, None], real[:, None], reset[:, None]


EVERY_STEP = Marks()


class Step(NamedTuple):
    """What a backward step needs from its forward step."""

    x: Array  # (N, I), zero where the step is not real
    state: State  # before the step, after resets, each (N, H)
    gates: State  # after their activations, each (N, H), and what else the cell keeps


class StepGradient(NamedTuple):
    """Gradients by what a step took: a = W_ih x + b, W_hh, b_hn and the state."""

    a: Array  # (N, gates*H)
    w_hh: Array  # (gates*H, H)
    b_hn: Array | None  # (H,), of a GRU
    state: State  # each (N, H)


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


# A cell step takes a = W_ih x + b (N, gates*H), W_hh, b_hn (of a GRU) and the state,
# and gives the new state and the gates. Its inverse takes the gradient by the former.


def lstm_step(
    net: Network, a: Array, w_hh: Array, b_hn: Array, state: State
) -> tuple[State, State]:
    h, c = state
    i, f, g, o = np.split(a + h @ w_hh.T, 4, axis=1)
    i, f, o = sigmoid(i), sigmoid(f), sigmoid(o)
    g = ACTIVATIONS[net.cell_activation](g)
    c = f * c + i * g
    y = ACTIVATIONS[net.output_activation](c)
    return (o * y, c), (i, f, g, o, y)


def lstm_back(net: Network, d_state: State, w_hh: Array, step: Step) -> StepGradient:
    i, f, g, o, y = step.gates
    h, c = step.state
    d_h, d_c = d_state
    d_c = d_c + d_h * o * SLOPES[net.output_activation](y)
    d_i = d_c * g * i * (1 - i)
    d_f = d_c * c * f * (1 - f)
    d_g = d_c * i * SLOPES[net.cell_activation](g)
    d_o = d_h * y * o * (1 - o)
    d_a = np.concatenate([d_i, d_f, d_g, d_o], axis=1)
    return StepGradient(d_a, d_a.T @ h, None, (d_a @ w_hh, d_c * f))


def gru_step(
    net: Network, a: Array, w_hh: Array, b_hn: Array, state: State
) -> tuple[State, State]:
    (h,) = state
    a_r, a_z, a_n = np.split(a, 3, axis=1)
    w_r, w_z, w_n = np.split(w_hh, 3)
    r, z = sigmoid(a_r + h @ w_r.T), sigmoid(a_z + h @ w_z.T)
    fed = h if net.reset_after else r * h
    u = fed @ w_n.T + b_hn
    n = np.tanh(a_n + (r * u if net.reset_after else u))
    return (n + z * (h - n),), (r, z, n, fed, u)


def gru_back(net: Network, d_state: State, w_hh: Array, step: Step) -> StepGradient:
    r, z, n, fed, u = step.gates
    (h,), (d_h,) = step.state, d_state
    w_r, w_z, w_n = np.split(w_hh, 3)
    d_n = d_h * (1 - z) * (1 - n * n)
    d_z = d_h * (h - n) * z * (1 - z)
    d_u = d_n * r if net.reset_after else d_n
    d_fed = d_u @ w_n
    d_r = (d_n * u if net.reset_after else d_fed * h) * r * (1 - r)
    d_h = d_h * z + d_r @ w_r + d_z @ w_z + (d_fed if net.reset_after else d_fed * r)
    d_a = np.concatenate([d_r, d_z, d_n], axis=1)
    d_w_hh = np.concatenate([d_r.T @ h, d_z.T @ h, d_u.T @ fed])
    return StepGradient(d_a, d_w_hh, d_u.sum(axis=0), (d_h,))


def rnn_step(
    net: Network, a: Array, w_hh: Array, b_hn: Array, state: State
) -> tuple[State, State]:
    h = ACTIVATIONS[net.cell_activation](a + state[0] @ w_hh.T)
    return (h,), (h,)


def rnn_back(net: Network, d_state: State, w_hh: Array, step: Step) -> StepGradient:
    d_a = d_state[0] * SLOPES[net.cell_activation](step.gates[0])
    return StepGradient(d_a, d_a.T @ step.state[0], None, (d_a @ w_hh,))


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}
BACKS = {"lstm": lstm_back, "gru": gru_back, "rnn": rnn_back}


def forward(
    net: Network,
    params: Mapping[str, Array],
    x: Array,
    state: State,
    marks: Marks = EVERY_STEP,
) -> tuple[Array, State, list[list[Step]]]:
    """Run all layers over x (T, N, I) from the state, each (L*D, N, H).

    Returns the output (T, N, D*H), the state after the last step, and the tape: for
    every layer and direction its steps in the order of time.
    """
    directions = 2 if net.bidirectional else 1
    finals: list[State] = []
    tape: list[list[Step]] = []
    outputs: list[Array] = []
    zero = np.zeros((), x.dtype)
    for k, suffix in enumerate(net.suffixes()):
        if k % directions == 0 and k > 0:
            x, outputs = np.concatenate(outputs, axis=2), []
        w_ih, w_hh = params["weight_ih" + suffix], params["weight_hh" + suffix]
        now = tuple(s[k] for s in state)
        steps: dict[int, Step] = {}
        h = np.zeros((*x.shape[:2], w_hh.shape[1]), x.dtype)
        for t in _times(len(x), suffix):
            inside, real, reset = marks.at(t, x.shape[1])
            now = tuple(np.where(reset, 0, s) for s in now)
            x_t = np.where(real, x[t], 0)
            a = x_t @ w_ih.T + params.get("bias" + suffix, zero)
            b_hn = params.get("bias_hn" + suffix, zero)
            after, gates = STEPS[net.cell](net, a, w_hh, b_hn, now)
            steps[t] = Step(x_t, now, gates)
            now = tuple(np.where(real, *pair) for pair in zip(after, now, strict=True))
            h[t] = np.where(inside, now[0], 0)
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
    marks: Marks = EVERY_STEP,
) -> tuple[Array, State, dict[str, Array]]:
    """Back-propagate through time: gradients by x, by the initial state, by params."""
    directions = 2 if net.bidirectional else 1
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
            d_now = [part[k].copy() for part in d_state]
            for t in reversed(_times(len(d_y), suffix)):
                step = tape[k][t]
                inside, real, reset = marks.at(t, d_y.shape[1])
                d_now[0] = d_now[0] + np.where(inside, d_y[t], 0)
                taken = tuple(np.where(real, d, 0) for d in d_now)
                d = BACKS[net.cell](net, taken, w_hh, step)
                d_now = [
                    np.where(reset, 0, np.where(real, through, past))
                    for through, past in zip(d.state, d_now, strict=True)
                ]
                d_x[t] += d.a @ w_ih
                grads["weight_ih" + suffix] += d.a.T @ step.x
                grads["weight_hh" + suffix] += d.w_hh
                if "bias" + suffix in params:
                    grads["bias" + suffix] += d.a.sum(axis=0)
                if "bias_hn" + suffix in params:
                    grads["bias_hn" + suffix] += d.b_hn
            for total, part in zip(d_state0, d_now, strict=True):
                total[k] = part
        d_output = d_x
    return d_output, d_state0, grads


def _times(length: int, suffix: str) -> range:
    """Steps in the order in which the direction takes them."""
    return range(length)[::-1] if suffix.endswith("_reverse") else range(length)

"""Gradients of the layers against central differences, in float64.

The loss is a random weighting of everything a layer returns, so that every gradient,
by input, initial state and parameters, is checked at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastlstm as fl

Array = npt.NDArray[np.float64]

ACTIVATIONS = ("tanh", "relu", "sigmoid", "linear")

STEP = 1e-3
"""Of the differences: rounding, 1e-16/STEP, and truncation, STEP**4, both < 1e-11."""

TOLERANCE = 1e-8

MOST_ENTRIES = 80
"""Entries of one array that are moved; of larger arrays a random choice."""


def central_difference(
    loss: Callable[[], float], array: Array, at: int, step: float = STEP
) -> float:
    """Derivative by one entry, by the five-point formula."""
    flat = array.reshape(-1)
    kept = flat[at]
    values = []
    for k in (-2, -1, 1, 2):
        flat[at] = kept + k * step
        values.append(loss())
    flat[at] = kept
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)


class Problem:
    """A layer, its inputs, and a loss with a known gradient by all it returns."""

    def __init__(
        self,
        layer: Any,
        *,
        T: int = 4,
        N: int | None = 3,
        with_state: bool = True,
        with_d_state: bool = True,
        **marks: Array,
    ) -> None:
        self.layer = layer
        self.marks = marks
        self.rng = np.random.default_rng(7)
        self.parts = 2 if isinstance(layer, fl.LSTM) else 1
        batch = () if N is None else (N,)
        steps = (*batch, T) if layer.batch_first else (T, *batch)
        directions = 2 if layer.bidirectional else 1
        rows = (layer.num_layers * directions, *batch)
        outputs = directions * layer.output_size
        self.x = self.rng.standard_normal((*steps, layer.input_size))
        self.state = self._draw_state(rows) if with_state else ()
        self.d_output = self.rng.standard_normal((*steps, outputs))
        self.d_state = self._draw_state(rows) if with_d_state else ()

    def _draw_state(self, shape: tuple[int, ...]) -> tuple[Array, ...]:
        sizes = (self.layer.output_size, self.layer.hidden_size)[: self.parts]
        return tuple(self.rng.standard_normal((*shape, size)) for size in sizes)

    def _pack(self, state: tuple[Array, ...]) -> Any:
        if not state:
            return None
        return state if self.parts == 2 else state[0]

    def forward(self) -> tuple[Array, tuple[Array, ...], Any]:
        self.layer.reseed(5)  # dropout draws the same mask every time
        output, state, tape = self.layer.forward(
            self.x, self._pack(self.state), **self.marks
        )
        return output, state if self.parts == 2 else (state,), tape

    def loss(self) -> float:
        output, state, _ = self.forward()
        total = float((output * self.d_output).sum())
        if self.d_state:
            total += sum(
                float((s * d).sum()) for s, d in zip(state, self.d_state, strict=True)
            )
        return total

    def gradients(self) -> list[tuple[str, Array, Array]]:
        """Name, array and gradient by it, of all that the loss depends on."""
        self.layer.zero_grad()
        _, _, tape = self.forward()
        d_x, d_state0 = self.layer.backward(
            self.d_output, tape, self._pack(self.d_state)
        )
        d_state0 = d_state0 if self.parts == 2 else (d_state0,)
        found = [("d_x", self.x, d_x)]
        if self.state:
            pairs = zip(self.state, d_state0, strict=True)
            found += [(f"d_state0[{i}]", s, d) for i, (s, d) in enumerate(pairs)]
        params, grads = self.layer.params, self.layer.grads
        return found + [(name, params[name], grads[name].copy()) for name in params]

    def check(self, step: float = STEP) -> None:
        for name, array, gradient in self.gradients():
            assert gradient.shape == array.shape, name
            entries = self.rng.permutation(array.size)[:MOST_ENTRIES]
            expected = [
                central_difference(self.loss, array, at, step) for at in entries
            ]
            error = np.linalg.norm(gradient.reshape(-1)[entries] - expected)
            assert error <= TOLERANCE * np.linalg.norm(expected), name

    def check_where_smooth(self) -> None:
        """As `check`, without the entries whose steps cross a kink of a clip or relu.

        There, and only there, two steps give different derivatives.
        """
        for name, array, gradient in self.gradients():
            entries = self.rng.permutation(array.size)[:MOST_ENTRIES]
            expected, finer = (
                np.array(
                    [central_difference(self.loss, array, at, s) for at in entries]
                )
                for s in (STEP, STEP / 4)
            )
            smooth = np.abs(expected - finer) <= 1e-9 * (1 + np.linalg.norm(expected))
            assert smooth.mean() > 0.5, name
            error = (gradient.reshape(-1)[entries] - expected)[smooth]
            limit = TOLERANCE * max(1, np.linalg.norm(expected))
            assert np.linalg.norm(error) <= limit, name


def move_from_kinks(layer: Any) -> None:
    """Make weights small and biases +-1, so that no pre-activation comes near 0.

    |W_ih x + W_hh h| stays below 1 for the sizes and values used here: both sides of
    a relu are met, and a difference's step never changes the side.
    """
    for name, value in layer.params.items():
        if name.startswith("bias"):
            value[0::2], value[1::2] = 1, -1
        else:
            value *= 0.05


def layer_of(name: str, *sizes: int, **options: Any) -> Any:
    return getattr(fl, name)(*sizes, dtype=np.float64, rng=1, **options)


@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("cell", ACTIVATIONS)
def test_lstm_gradients_with_every_pair_of_activations(cell: str, output: str) -> None:
    layer = layer_of("LSTM", 3, 5, cell_activation=cell, output_activation=output)
    problem = Problem(layer)
    if "relu" in (cell, output):
        move_from_kinks(layer)
        # c = f c + i g never changes sign where c0 has that of g, the bias's.
        signs = np.sign(layer.params["bias_l0"][10:15])
        problem.state[1][...] = 3.0 if cell == "sigmoid" else 3.0 * signs
    problem.check()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_of_stacks(name: str, num_layers: int, bidirectional: bool) -> None:
    Problem(
        layer_of(name, 3, 4, num_layers, bidirectional=bidirectional, batch_first=True)
    ).check()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_relu_rnn_gradients(num_layers: int, bidirectional: bool) -> None:
    layer = layer_of(
        "RNN", 3, 4, num_layers, nonlinearity="relu", bidirectional=bidirectional
    )
    move_from_kinks(layer)
    Problem(layer).check()


@pytest.mark.parametrize(
    ("H", "N", "I"),
    [
        (1, 1, 1),
        (1, 13, 5),
        (3, 7, 9),
        (8, 2, 1),
        (8, 13, 9),
        (9, 1, 5),
        (9, 7, 1),
        (17, 2, 9),
        (17, 13, 5),
        (17, 1, 1),
    ],
)
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_at_sizes_that_straddle_panels(
    name: str,
    H: int,
    N: int,
    I: int,  # noqa: E741
) -> None:
    Problem(layer_of(name, I, H), N=N).check()


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_of_one_unbatched_sequence(name: str) -> None:
    Problem(layer_of(name, 3, 5, 2, bidirectional=True), N=None).check()


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_without_bias(name: str) -> None:
    Problem(layer_of(name, 3, 5, 2, bias=False)).check()


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("with_d_state", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_where_a_state_is_left_out(
    name: str, with_state: bool, with_d_state: bool
) -> None:
    layer = layer_of(name, 3, 5)
    Problem(layer, with_state=with_state, with_d_state=with_d_state).check()


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_of_a_single_step(name: str) -> None:
    Problem(layer_of(name, 3, 5), T=1).check()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_through_dropout_between_layers(
    name: str, bidirectional: bool
) -> None:
    layer = layer_of(name, 3, 5, 3, dropout=0.4, bidirectional=bidirectional)
    problem = Problem(layer)
    dropped, _, _ = problem.forward()
    kept, _ = layer(problem.x, problem._pack(problem.state))
    assert not np.allclose(dropped, kept)
    problem.check()


@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_through_recurrent_dropout(name: str, N: int) -> None:
    options = {"recurrent_dropout": 0.4, "dropout": 0.2, "bidirectional": True}
    Problem(layer_of(name, 2, 3, 2, **options), N=N).check()


MARKS: dict[str, npt.NDArray[Any]] = {
    "lengths": np.array([3, 0, 4]),
    "mask": np.array([[0, 1, 1], [1, 1, 0], [0, 0, 1], [1, 1, 1]], bool),
    "reset": np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]], bool),
}


@pytest.mark.parametrize(
    "marks", ["lengths", "mask", "reset", "lengths mask", "lengths mask reset"]
)
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_of_ragged_masked_and_reset_batches(name: str, marks: str) -> None:
    given = {key: MARKS[key] for key in marks.split()}
    two = "reset" not in given
    Problem(layer_of(name, 3, 4, 2, bidirectional=two, dropout=0.3), **given).check()


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_on_every_isa(name: str, isa: str) -> None:
    Problem(layer_of(name, 5, 9, 2, bidirectional=True), N=7).check()

"""Ragged batches, masks and resets: lengths=, mask=, reset= of every layer.

Against the slow reference, against the same sequences run one by one or in pieces, and
at the edges. Gradients against differences are in test_gradients.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlstm as fl
from golden_files import name_state
from oracle import TOLERANCE, check, reference, run_reference

Array = npt.NDArray[Any]
Threads = Callable[[int], None]

LAYERS = {"lstm": fl.LSTM, "gru": fl.GRU, "rnn": fl.RNN}
KINDS = ["lengths", "mask", "reset", "lengths mask", "lengths mask reset"]

# T, N, I, H, and what they lead to in the core.
SHAPES = {
    "small": (9, 5, 3, 17),
    "chunks of several steps": (40, 13, 5, 20),
    "steps larger than a chunk": (4, 300, 9, 8),
    "one row": (12, 1, 9, 40),
    "one row, packed": (8, 1, 9, 190),
    "threads split the rows": (20, 48, 60, 60),
    "threads split the panels": (6, 8, 30, 370),
}


def draw_marks(
    rng: np.random.Generator, kinds: str, steps: int, rows: int
) -> dict[str, Array]:
    """Random marks of these kinds, every length among them that is special."""
    marks: dict[str, Array] = {}
    if "lengths" in kinds:
        marks["lengths"] = rng.integers(0, steps + 1, rows)
        marks["lengths"][rng.integers(rows)] = steps
    if "mask" in kinds:
        marks["mask"] = rng.random((steps, rows)) < 0.6
    if "reset" in kinds:
        marks["reset"] = rng.random((steps, rows)) < 0.2
    return marks


def is_real(marks: dict[str, Array], steps: int, rows: int) -> tuple[Array, Array]:
    """Steps (T, N) inside the lengths, and those that are real."""
    inside = np.ones((steps, rows), bool)
    if "lengths" in marks:
        inside = np.arange(steps)[:, None] < marks["lengths"]
    return inside, inside & marks["mask"] if "mask" in marks else inside


class Case:
    """A layer, random inputs and gradients, and NaN wherever nothing may be read."""

    def __init__(
        self,
        cell: str,
        shape: tuple[int, int, int, int],
        kinds: str,
        *,
        layers: int = 1,
        dtype: str = "float64",
        seed: int = 0,
        **options: Any,
    ) -> None:
        T, N, I, H = shape  # noqa: E741
        rng = self.rng = np.random.default_rng(seed)
        two = "reset" not in kinds
        self.cell, self.dtype = cell, dtype
        self.net = reference.Network(cell, layers, two)
        self.layer: Any = LAYERS[cell](
            I, H, layers, bidirectional=two, dtype=dtype, rng=rng, **options
        )
        self.marks = draw_marks(rng, kinds, T, N)
        self.inside, self.real = is_real(self.marks, T, N)
        D = 2 if two else 1

        def draw(*size: int) -> Array:
            return rng.standard_normal(size).astype(dtype)

        def draw_state() -> tuple[Array, ...]:
            return tuple(draw(layers * D, N, H) for _ in range(self.parts))

        self.x, self.d_output = draw(T, N, I), draw(T, N, D * H)
        self.state, self.d_state = draw_state(), draw_state()
        self.x[~self.real] = np.nan
        self.d_output[~self.inside] = np.nan

    @property
    def parts(self) -> int:
        return 2 if self.cell == "lstm" else 1

    def pack(self, state: tuple[Array, ...]) -> Any:
        return state if self.parts == 2 else state[0]

    def infer(self, x: Array, state: tuple[Array, ...], **marks: Array | None) -> Any:
        output, last = self.layer(x, self.pack(state), **marks)
        return output, last if self.parts == 2 else (last,)

    def train(
        self,
        x: Array,
        state: tuple[Array, ...],
        d_output: Array,
        d_state: tuple[Array, ...],
        **marks: Any,
    ) -> dict[str, Array]:
        self.layer.zero_grad()
        output, last, tape = self.layer.forward(x, self.pack(state), **marks)
        d_x, d_first = self.layer.backward(d_output, tape, self.pack(d_state))
        grads = {name: grad.copy() for name, grad in self.layer.grads.items()}
        if self.parts == 1:
            last, d_first = (last,), (d_first,)
        states = name_state(last, "{}_n") | name_state(d_first, "d_{}0")
        return {"output": output, "d_x": d_x} | grads | states

    def run(self) -> dict[str, Array]:
        return self.train(self.x, self.state, self.d_output, self.d_state, **self.marks)

    def expected(self) -> dict[str, Array]:
        def exact(value: Array) -> Array:
            return value.astype(np.float64)

        return run_reference(
            self.net,
            {name: exact(value) for name, value in self.layer.params.items()},
            exact(self.x),
            tuple(map(exact, self.state)),
            exact(self.d_output),
            tuple(map(exact, self.d_state)),
            reference.Marks(**self.marks),
        )

    def check(self) -> None:
        got = self.run()
        check(self.expected(), got, self.dtype)
        output, last = self.infer(self.x, self.state, **self.marks)
        same_bits({"output": output} | name_state(last, "{}_n"), got)


def same_bits(got: dict[str, Array], wanted: dict[str, Array]) -> None:
    for name, value in got.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def close(got: Array, wanted: Array, dtype: str) -> None:
    error = np.linalg.norm(got - wanted)
    assert error <= TOLERANCE[dtype] * np.linalg.norm(wanted)


# Against the reference


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("cell", LAYERS)
def test_every_way_of_the_core_agrees_with_reference(
    cell: str, shape: tuple[int, int, int, int], kinds: str, threads: Threads
) -> None:
    threads(3)
    Case(cell, shape, kinds).check()


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("cell", LAYERS)
def test_stacks_agree_with_reference_on_every_isa(
    isa: str, cell: str, dtype: str, kinds: str
) -> None:
    Case(cell, (9, 7, 3, 33), kinds, layers=3, dtype=dtype).check()


def test_chosen_activations_agree_with_reference() -> None:
    case = Case("lstm", (9, 7, 3, 20), "lengths mask", cell_activation="sigmoid")
    case.net = reference.Network("lstm", 1, True, cell_activation="sigmoid")
    case.check()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    cell=st.sampled_from(sorted(LAYERS)),
    shape=st.tuples(*(st.integers(1, size) for size in (9, 20, 9, 20))),
    kinds=st.sampled_from(KINDS),
    layers=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_marks_agree_with_reference(
    cell: str, shape: Any, kinds: str, layers: int, seed: int
) -> None:
    Case(cell, shape, kinds, layers=layers, seed=seed).check()


# Against running sequences, or their pieces, apart


@pytest.mark.parametrize("kinds", ["lengths", "lengths mask"])
@pytest.mark.parametrize("cell", LAYERS)
def test_a_ragged_batch_equals_its_rows_run_alone(cell: str, kinds: str) -> None:
    case = Case(cell, (11, 9, 3, 37), kinds, layers=2, dtype="float32")
    whole = case.run()
    sums: dict[str, Array] = {}
    for n, length in enumerate(case.marks["lengths"]):
        row = slice(n, n + 1)
        mask = case.marks.get("mask")
        alone = case.train(
            case.x[:length, row],
            tuple(s[:, row].copy() for s in case.state),
            case.d_output[:length, row],
            tuple(d[:, row].copy() for d in case.d_state),
            mask=None if mask is None else mask[:length, row],
        )
        for name, value in alone.items():
            if name in case.layer.grads:
                sums[name] = sums.get(name, 0) + value
                continue
            padded = whole[name][:, row]
            if name in ("output", "d_x"):
                assert not padded[length:].any()
                padded = padded[:length]
            np.testing.assert_array_equal(value, padded, err_msg=name)
    for name, value in sums.items():
        close(value, whole[name], "float32")


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("rows", [1, 3])
def test_resets_equal_pieces_run_apart(cell: str, rows: int) -> None:
    case = Case(cell, (23, rows, 3, 20), "", layers=2, dtype="float32", seed=5)
    options = {"dtype": "float32", "rng": 1}
    case.layer = layer = LAYERS[cell](3, 20, 2, **options)
    case.state = tuple(s[:2] for s in case.state)
    case.d_state = tuple(d[:2] for d in case.d_state)
    case.d_output = case.d_output[:, :, :20].copy()
    cuts = [0, 4, 5, 11, 23]
    reset = np.zeros((23, rows), bool)
    reset[cuts[1:-1]] = True
    whole = case.train(case.x, case.state, case.d_output, case.d_state, reset=reset)
    zeros = tuple(np.zeros_like(s) for s in case.state)
    sums: dict[str, Array] = {}
    for begin, end in itertools.pairwise(cuts):
        piece = case.train(
            case.x[begin:end],
            case.state if begin == 0 else zeros,
            case.d_output[begin:end],
            case.d_state if end == 23 else zeros,
        )
        for name, value in piece.items():
            if name in layer.grads:
                sums[name] = sums.get(name, 0) + value
            elif name in ("output", "d_x"):
                np.testing.assert_array_equal(value, whole[name][begin:end])
            elif (name.endswith("_n") and end == 23) or (
                name.startswith("d_") and begin == 0
            ):
                np.testing.assert_array_equal(value, whole[name], err_msg=name)
    for name, value in sums.items():
        close(value, whole[name], "float32")


@pytest.mark.parametrize("cell", LAYERS)
def test_marks_that_say_nothing_change_no_bit(cell: str) -> None:
    case = Case(cell, (30, 12, 3, 20), "", layers=2, dtype="float32", dropout=0.3)
    all_steps = np.ones((30, 12), bool)
    case.layer.reseed(3)
    plain = case.run()
    for marks in (
        {"lengths": np.full(12, 30)},
        {"mask": all_steps},
        {"lengths": np.full(12, 30), "mask": all_steps},
    ):
        case.layer.reseed(3)
        case.marks = marks
        same_bits(case.run(), plain)
    one_way = LAYERS[cell](3, 20, rng=0)
    output, _, tape = one_way.forward(case.x)
    kept, _, kept_tape = one_way.forward(case.x, reset=~all_steps)
    np.testing.assert_array_equal(output, kept)
    ones = np.ones_like(output)
    np.testing.assert_array_equal(
        one_way.backward(ones, tape)[0], one_way.backward(ones, kept_tape)[0]
    )


@pytest.mark.parametrize("cell", LAYERS)
def test_the_order_of_the_rows_changes_no_bit(cell: str) -> None:
    case = Case(cell, (12, 8, 3, 20), "lengths", layers=2, dtype="float32")
    case.marks["lengths"] = np.array([3, 12, 0, 5, 7, 1, 9, 4])
    case.x, case.d_output = np.nan_to_num(case.x), np.nan_to_num(case.d_output)
    wanted = case.run()
    order = case.rng.permutation(8)
    got = case.train(
        case.x[:, order],
        tuple(s[:, order].copy() for s in case.state),
        case.d_output[:, order],
        tuple(d[:, order].copy() for d in case.d_state),
        lengths=case.marks["lengths"][order],
    )
    for name, value in wanted.items():
        moved = value if name in case.layer.grads else value[:, order]
        np.testing.assert_array_equal(got[name], moved, err_msg=name)


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("shape", [(30, 96, 24, 64), (9, 4, 40, 300), (60, 1, 5, 350)])
def test_bits_do_not_depend_on_threads(
    shape: tuple[int, int, int, int], kinds: str, threads: Threads
) -> None:
    case = Case("lstm", shape, kinds, dtype="float32")
    threads(1)
    wanted = case.run()
    for count in (2, 3, 4):
        threads(count)
        same_bits(case.run(), wanted)


# What the marks mean


def test_masked_steps_repeat_the_held_output_in_both_directions() -> None:
    lstm = fl.LSTM(3, 5, bidirectional=True, rng=0)
    x = np.random.default_rng(0).standard_normal((5, 1, 3)).astype(np.float32)
    h0 = np.full((2, 1, 5), 0.25, np.float32)
    mask = np.array([0, 1, 0, 1, 0], bool)[:, None]
    output, (h_n, c_n) = lstm(x, (h0, h0), mask=mask)
    short, (h_s, c_s) = lstm(x[[1, 3]], (h0, h0))
    there, back = np.split(output, 2, axis=2)
    short_there, short_back = np.split(short, 2, axis=2)
    np.testing.assert_array_equal(there[0], h0[0])
    np.testing.assert_array_equal(there[1:3], short_there[[0, 0]])
    np.testing.assert_array_equal(there[3:], short_there[[1, 1]])
    np.testing.assert_array_equal(back[4], h0[1])
    np.testing.assert_array_equal(back[2:4], short_back[[1, 1]])
    np.testing.assert_array_equal(back[:2], short_back[[0, 0]])
    np.testing.assert_array_equal(h_n, h_s)
    np.testing.assert_array_equal(c_n, c_s)


def test_a_reset_zeroes_the_initial_state_and_that_of_a_masked_step() -> None:
    lstm = fl.LSTM(3, 5, rng=0)
    x = np.random.default_rng(0).standard_normal((4, 1, 3)).astype(np.float32)
    h0 = np.ones((1, 1, 5), np.float32)
    fresh, _ = lstm(x)
    reset = np.array([1, 0, 0, 0], bool)[:, None]
    output, _, tape = lstm.forward(x, (h0, h0), reset=reset)
    np.testing.assert_array_equal(output, fresh)
    _, d_state = lstm.backward(np.ones_like(output), tape)
    assert not any(d.any() for d in d_state)
    late = np.array([0, 0, 0, 1], bool)[:, None]
    output, (h_n, c_n) = lstm(x, reset=late, mask=~late)
    np.testing.assert_array_equal(output[:3], fresh[:3])
    assert not output[3].any()
    assert not h_n.any()
    assert not c_n.any()


def test_a_reset_ends_nan() -> None:
    lstm = fl.LSTM(3, 5, rng=0)
    x = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
    x[1, 0] = np.nan
    reset = np.zeros((6, 2), bool)
    reset[3, 0] = True
    output, _ = lstm(x, reset=reset)
    assert np.isnan(output[1:3, 0]).all()
    np.testing.assert_array_equal(output[3:, 0], lstm(x[3:, :1])[0][:, 0])


def test_rows_of_length_zero_pass_their_state_through() -> None:
    gru = fl.GRU(3, 5, 2, bidirectional=True, rng=0)
    x = np.full((4, 3, 3), np.nan, np.float32)
    h0 = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    output, h_n, tape = gru.forward(x, h0, lengths=[0, 0, 0])
    assert not output.any()
    np.testing.assert_array_equal(h_n, h0)
    d_x, d_h0 = gru.backward(np.full_like(output, np.nan), tape, h0)
    assert not d_x.any()
    np.testing.assert_array_equal(d_h0, h0)
    assert not any(grad.any() for grad in gru.grads.values())


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3)])
def test_marks_of_empty_sequences(shape: tuple[int, int, int]) -> None:
    lstm = fl.LSTM(3, 5, rng=0)
    steps = np.zeros(shape[:2], bool)
    lengths = np.zeros(shape[1], np.int64)
    output, _, tape = lstm.forward(
        np.zeros(shape, np.float32), lengths=lengths, mask=steps, reset=steps
    )
    assert output.shape == (*shape[:2], 5)
    assert lstm.backward(output, tape)[0].shape == shape


def test_marks_follow_the_layout_of_x() -> None:
    case = Case("lstm", (7, 4, 3, 5), "lengths mask reset", dtype="float32")
    wanted, _ = case.infer(case.x, case.state, **case.marks)
    first = fl.LSTM(3, 5, batch_first=True)
    first.load_state_dict(case.layer.state_dict())
    swapped = {
        name: mark if mark.ndim == 1 else mark.T for name, mark in case.marks.items()
    }
    output, _ = first(case.x.swapaxes(0, 1), case.pack(case.state), **swapped)
    np.testing.assert_array_equal(output.swapaxes(0, 1), wanted)
    for n in range(4):
        length = int(case.marks["lengths"][n])
        for given_length in (length, [length], np.uint8(length)):
            alone, _ = case.layer(
                case.x[:, n],
                tuple(s[:, n].copy() for s in case.state),
                lengths=given_length,
                mask=case.marks["mask"][:, n],
                reset=case.marks["reset"][:, n],
            )
            np.testing.assert_array_equal(alone, wanted[:, n])


def f32(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("marks", "error", "message"),
    [
        ({"lengths": [4, 5]}, ValueError, "from 0 to T = 4, got 5 at row 1"),
        ({"lengths": [-1, 4]}, ValueError, "from 0 to T = 4, got -1 at row 0"),
        ({"lengths": [4]}, ValueError, r"lengths must have shape \(N,\) = \(2,\)"),
        ({"lengths": 4}, ValueError, r"= \(2,\), got \(\)"),
        ({"lengths": [4.0, 2.0]}, TypeError, "lengths must be integers, got float64"),
        ({"lengths": [True, True]}, TypeError, "lengths must be integers, got bool"),
        ({"lengths": [[1], [1, 2]]}, TypeError, r"lengths must be integers, got \[\[1"),
        ({"mask": [[True]]}, TypeError, "mask must be a numpy.ndarray of bool"),
        ({"mask": np.ones((4, 2))}, TypeError, r"call mask.astype\(bool\)"),
        ({"mask": np.ones((2, 4), bool)}, ValueError, r"mask must .* \(T, N\) = \(4"),
        ({"reset": np.ones((4, 2), int)}, TypeError, r"call reset.astype\(bool\)"),
        ({"reset": np.ones(4, bool)}, ValueError, r"reset must .* got \(4,\)"),
    ],
)
def test_wrong_marks_are_named(
    marks: dict[str, Any], error: type[Exception], message: str
) -> None:
    for run in (fl.LSTM(3, 5), fl.GRU(3, 5).forward, fl.RNN(3, 5)):
        with pytest.raises(error, match=message):
            run(f32(4, 2, 3), **marks)


def test_two_directions_cannot_be_reset() -> None:
    lstm = fl.LSTM(3, 5, bidirectional=True)
    with pytest.raises(ValueError, match="reset needs one direction"):
        lstm(f32(4, 2, 3), reset=np.zeros((4, 2), bool))

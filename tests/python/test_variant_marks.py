"""Variants of the cells on ragged and masked batches and with resets, every ISA."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from test_gradients import Problem
from test_variants import EVERYTHING, LSTM_VARIANTS, OTHERS, draw, make, parts

Array = npt.NDArray[Any]

CELLS = {name: ("lstm", options) for name, options in LSTM_VARIANTS.items()} | OTHERS

T, N = 6, 5

LENGTHS = np.array([4, 0, 6, 1, 6])


def draw_marks(*kinds: str) -> dict[str, Array]:
    rng = np.random.default_rng(2)
    marks: dict[str, Array] = {
        "lengths": LENGTHS,
        "mask": rng.random((T, N)) < 0.7,
        "reset": rng.random((T, N)) < 0.3,
    }
    return {kind: marks[kind] for kind in kinds}


@pytest.mark.parametrize("kinds", [["lengths"], ["mask"], ["lengths", "mask", "reset"]])
@pytest.mark.parametrize(("cell", "options"), CELLS.values(), ids=CELLS)
def test_rows_are_what_single_steps_make_of_them(
    isa: str, cell: str, options: dict[str, Any], kinds: list[str]
) -> None:
    layer = make(cell, 3, 11, **options)
    marks = draw_marks(*kinds)
    x, state = draw(layer, T, N)
    real = np.arange(T)[:, None] < marks.get("lengths", np.full(N, T))
    reset = marks.get("reset", np.zeros((T, N), bool)) & real
    live = real & marks.get("mask", np.ones((T, N), bool))
    x[~live] = np.nan
    output, last = layer(x, state, **marks)
    for n in range(N):
        now = [np.ascontiguousarray(part[:, n : n + 1]) for part in parts(state)]
        for t in range(T):
            if reset[t, n]:
                now = [np.zeros_like(part) for part in now]
            if live[t, n]:
                given = tuple(now) if cell == "lstm" else now[0]
                _, after = layer(x[t : t + 1, n : n + 1], given)
                now = list(parts(after))
            wanted = now[0][0, 0] if real[t, n] else 0
            np.testing.assert_array_equal(output[t, n], wanted)
        for got, wanted in zip(parts(last), now, strict=True):
            np.testing.assert_array_equal(got[:, n : n + 1], wanted)


@pytest.mark.parametrize("kinds", [["lengths", "mask"], ["lengths", "mask", "reset"]])
@pytest.mark.parametrize("dropped", [0.0, 0.4])
@pytest.mark.parametrize(("cell", "options"), CELLS.values(), ids=CELLS)
def test_gradients(
    cell: str, options: dict[str, Any], dropped: float, kinds: list[str]
) -> None:
    layer = make(cell, 3, 5, dtype="float64", recurrent_dropout=dropped, **options)
    problem = Problem(layer, T=T, N=N, **draw_marks(*kinds))
    problem.check_where_smooth()


def test_gradients_of_everything_at_once(isa: str) -> None:
    options = EVERYTHING | {"dropout": 0.3, "clip": 2.0, "cell_clip": 0.8}
    layer = make("lstm", 3, 5, dtype="float64", **options)
    problem = Problem(layer, T=T, N=N, **draw_marks("lengths", "mask"))
    problem.check_where_smooth()


def test_padding_and_masked_steps_are_never_read(isa: str) -> None:
    layer = make("lstm", 3, 9, **EVERYTHING)
    marks = draw_marks("lengths", "mask")
    x, state = draw(layer, T, N)
    live = (np.arange(T)[:, None] < LENGTHS) & marks["mask"]
    found = []
    for filling in (0.0, np.nan):
        layer.reseed(1)
        layer.zero_grad()
        x[~live] = filling
        output, _, tape = layer.forward(x, state, **marks)
        d_output = np.ones_like(output)
        d_output[np.arange(T)[:, None] >= LENGTHS] = filling
        d_x, d_state = layer.backward(d_output, tape)
        assert not d_x[~live].any()
        grads = [grad.copy() for grad in layer.grads.values()]
        found.append([output, d_x, *d_state, *grads])
    for got, wanted in zip(found[1], found[0], strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("options", [{"zoneout": 0.5}, {"recurrent_dropout": 0.5}])
def test_draws_do_not_depend_on_the_order_of_the_rows(options: dict[str, Any]) -> None:
    layer = make("lstm", 3, 9, peepholes=True, **options)
    x, state = draw(layer, T, N)
    results = []
    for lengths in (np.full(N, T), LENGTHS):
        layer.reseed(1)
        output, _, _ = layer.forward(x, state, lengths=lengths)
        results.append(output)
    for n in range(N):
        np.testing.assert_array_equal(
            results[1][: LENGTHS[n], n], results[0][: LENGTHS[n], n]
        )

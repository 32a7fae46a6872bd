"""Tapes of variants: gates and cell at every step, and checkpoints, every ISA."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from oracle import variants
from test_variant_marks import CELLS, N, T, draw_marks
from test_variants import EVERYTHING, draw, make, parts

Array = npt.NDArray[Any]

KINDS = [[], ["lengths"], ["mask"], ["reset"], ["lengths", "mask", "reset"]]


def reference_gates(
    cell: str, options: dict[str, Any], layer: Any, x: Array, state: list[Array]
) -> tuple[Array, Array | None]:
    """The gates of one step, and c before zoneout."""
    params = {name.removesuffix("_l0"): value for name, value in layer.params.items()}
    if cell == "lstm":
        *gates, c = variants.lstm_gates(options, params, x, state[0], state[1])
        return np.stack(gates), c
    if cell == "gru":
        return np.stack(variants.gru_gates(options, params, x, state[0])), None
    return np.stack(variants.rnn_step(options, params, x, state[0])), None


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize(("cell", "options"), CELLS.values(), ids=CELLS)
def test_gates_and_cell_of_every_step(
    isa: str, cell: str, options: dict[str, Any], kinds: list[str]
) -> None:
    layer = make(cell, 3, 11, dtype="float64", **options)
    marks = draw_marks(*kinds)
    x, state = draw(layer, T, N)
    output, last, tape = layer.forward(x, state, **marks)
    real = np.arange(T)[:, None] < marks.get("lengths", np.full(N, T))
    live = real & marks.get("mask", np.ones((T, N), bool))
    before = [part[0] for part in parts(state)]
    for t in range(T):
        if "reset" in marks:
            again = (marks["reset"][t] & real[t])[:, None]
            before = [np.where(again, 0, part) for part in before]
        gates, c = reference_gates(cell, options, layer, x[t], before)
        wanted = np.where(live[t][:, None], gates, 0)
        np.testing.assert_allclose(tape.gates[:, t], wanted, atol=1e-12)
        now = [np.where(real[t][:, None], output[t], before[0])]
        if c is not None:
            got = tape.cell[t]
            assert not got[~real[t]].any()
            np.testing.assert_array_equal(
                got[real[t] & ~live[t]], before[1][real[t] & ~live[t]]
            )
            error = np.abs(got - c)
            if "zoneout" in options:
                error = np.minimum(error, np.abs(got - before[1]))
            assert error[live[t]].max(initial=0) < 1e-12
            now.append(np.where(real[t][:, None], got, before[1]))
        before = now
    for got, wanted in zip(before, parts(last), strict=True):
        np.testing.assert_array_equal(got, wanted[0])


def test_tapes_of_stacks_in_two_directions() -> None:
    layer = make("lstm", 3, 11, **EVERYTHING)
    x, state = draw(layer, T, N)
    _, (_, c_n), tape = layer.forward(x, state)
    for index in (0, 1):
        assert tape.gates_of(index).shape == (4, T, N, 22)
        cell = tape.cell_of(index)
        np.testing.assert_array_equal(cell[-1, :, :11], c_n[2 * index])
        np.testing.assert_array_equal(cell[0, :, 11:], c_n[2 * index + 1])


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize(
    ("cell", "options"),
    [*CELLS.values(), ("lstm", EVERYTHING)],
    ids=[*CELLS, "everything"],
)
def test_checkpoints_change_no_bit(
    cell: str, options: dict[str, Any], kinds: list[str]
) -> None:
    if options.get("bidirectional"):
        kinds = [kind for kind in kinds if kind != "reset"]
    options = {"num_layers": 2, "dropout": 0.3, "recurrent_dropout": 0.2} | options
    layer = make(cell, 3, 11, **options)
    marks = draw_marks(*kinds)
    x, state = draw(layer, T, N)
    found = []
    for every in (None, 1, 2, 4, T):
        layer.reseed(1)
        layer.zero_grad()
        output, last, tape = layer.forward(x, state, checkpoint_every=every, **marks)
        d_x, d_state = layer.backward(np.cos(output), tape, last)
        grads = [grad.copy() for grad in layer.grads.values()]
        found.append([output, *parts(last), d_x, *parts(d_state), *grads])
    for other in found[1:]:
        for got, wanted in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(got, wanted)

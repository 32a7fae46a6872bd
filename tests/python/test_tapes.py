"""What a tape keeps: gates and cell of every step, or checkpoints of every k-th."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastlstm as fl
from oracle import reference
from test_sequences import KINDS, LAYERS, Case, same_bits

Array = npt.NDArray[Any]


def reference_tape(case: Case) -> list[Any]:
    """Steps of the reference by layer and direction, in the order of time."""
    _, _, tape = reference.forward(
        case.net,
        {name: value.astype(np.float64) for name, value in case.layer.params.items()},
        case.x,
        case.state,
        reference.Marks(**case.marks),
    )
    return tape


@pytest.mark.parametrize("kinds", ["", *KINDS])
@pytest.mark.parametrize("cell", LAYERS)
def test_gates_of_every_layer(isa: str, cell: str, kinds: str) -> None:
    case = Case(cell, (6, 5, 3, 19), kinds, layers=2)
    _, _, tape = case.layer.forward(case.x, case.pack(case.state), **case.marks)
    steps = reference_tape(case)
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    D = 1 if "reset" in kinds else 2
    for layer in range(2):
        got = tape.gates_of(layer)
        assert got.shape == (gates, 6, 5, D * 19)
        for d in range(D):
            for t, step in enumerate(steps[layer * D + d]):
                for g in range(gates):
                    wanted = np.where(case.real[t][:, None], step.gates[g], 0)
                    np.testing.assert_allclose(
                        got[g, t, :, d * 19 : (d + 1) * 19], wanted, atol=1e-13
                    )
    np.testing.assert_array_equal(tape.gates, tape.gates_of(1))
    np.testing.assert_array_equal(tape.gates, tape.gates_of(-1))


@pytest.mark.parametrize("kinds", ["", *KINDS])
def test_cell_at_every_step(kinds: str) -> None:
    case = Case("lstm", (6, 5, 3, 19), kinds, layers=2, dtype="float32")
    output, (_, c_n), tape = case.layer.forward(case.x, case.state, **case.marks)
    there, there_n = tape.cell[..., :19], c_n[2 if "reset" not in kinds else 1]
    assert tape.cell.shape == output.shape
    for n in range(5):
        steps = case.marks["lengths"][n] if "lengths" in case.marks else 6
        assert not tape.cell[steps:, n].any()
        if steps > 0:
            np.testing.assert_array_equal(there[steps - 1, n], there_n[n])
        if "mask" in case.marks:
            continue
        o = tape.gates[3][:steps, n]
        wanted = o * np.tanh(tape.cell[:steps, n])
        np.testing.assert_allclose(output[:steps, n], wanted, atol=1e-6)


def test_cell_and_gates_follow_the_layout_of_x() -> None:
    lstm = fl.LSTM(3, 5, batch_first=True, rng=0)
    x = np.random.default_rng(0).standard_normal((4, 7, 3)).astype(np.float32)
    _, _, tape = lstm.forward(x)
    assert tape.cell.shape == (4, 7, 5)
    for n in range(4):
        _, _, alone = lstm.forward(x[n])
        np.testing.assert_array_equal(alone.cell, tape.cell[n])
        np.testing.assert_array_equal(alone.gates, tape.gates[:, n])


def test_what_a_tape_does_not_keep_is_an_error() -> None:
    x = np.zeros((4, 2, 3), np.float32)
    _, _, tape = fl.GRU(3, 5).forward(x)
    with pytest.raises(RuntimeError, match="only an LSTM has a cell"):
        _ = tape.cell
    with pytest.raises(ValueError, match="layer must be from 0 to 0, got 1"):
        tape.gates_of(1)
    _, _, tape = fl.LSTM(3, 5).forward(x, checkpoint_every=2)
    with pytest.raises(RuntimeError, match="checkpoints keeps neither"):
        _ = tape.gates
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1, got 0"):
        fl.LSTM(3, 5).forward(x, checkpoint_every=0)


# Checkpoints


@pytest.mark.parametrize("kinds", ["", *KINDS])
@pytest.mark.parametrize(
    "shape",
    [
        (23, 5, 3, 20),
        (23, 1, 3, 20),
        (60, 17, 3, 20),
        (20, 48, 60, 60),
        (6, 8, 30, 370),
    ],
)
@pytest.mark.parametrize("cell", LAYERS)
def test_checkpoints_change_no_bit(
    cell: str,
    shape: tuple[int, int, int, int],
    kinds: str,
    threads: Callable[[int], None],
) -> None:
    threads(2)
    case = Case(cell, shape, kinds, layers=2, dtype="float32", dropout=0.3)
    case.layer.reseed(3)
    wanted = case.run()
    for every in (1, 3, 5, shape[0], 1000):
        case.layer.reseed(3)
        got = case.train(
            case.x,
            case.state,
            case.d_output,
            case.d_state,
            checkpoint_every=every,
            **case.marks,
        )
        same_bits(got, wanted)


def test_checkpoints_of_chosen_activations() -> None:
    case = Case("lstm", (11, 4, 3, 20), "lengths", cell_activation="sigmoid")
    wanted = case.run()
    args = (case.x, case.state, case.d_output, case.d_state)
    same_bits(case.train(*args, checkpoint_every=4, **case.marks), wanted)


def test_ten_thousand_steps() -> None:
    case = Case("lstm", (10_000, 2, 1, 8), "", dtype="float32")
    wanted = case.run()
    assert all(np.isfinite(value).all() for value in wanted.values())
    args = (case.x, case.state, case.d_output, case.d_state)
    same_bits(case.train(*args, checkpoint_every=100), wanted)


def three_layers(**options: Any) -> fl.LSTM:
    return fl.LSTM(2, 16, 3, dropout=0.2, rng=0, **options)


@pytest.mark.parametrize("options", [{}, {"peepholes": True, "layer_norm": True}])
def test_tapes_of_stacks_grow_with_the_checkpoints(options: dict[str, Any]) -> None:
    def held(steps: int, every: int | None, **marks: Any) -> int:
        layer = three_layers(**options)  # with blocks of its own
        x = np.ones((steps, 8, 2), np.float32)
        size: int = layer.forward(x, checkpoint_every=every, **marks)[2].nbytes
        return size

    short = held(1024, 32)
    assert held(1024, None) > 50 * short
    assert short == pytest.approx(31 * 3 * 2 * 8 * 16 * 4, rel=0.1)  # h and c, float32
    assert held(4096, 64) < 2.2 * short
    lengths = np.arange(1, 9) * 512  # kept: 8 bytes a step, the order of the rows
    assert held(4096, 64, lengths=lengths) < held(4096, 64) + 9 * 4096


def test_a_stack_over_ten_thousand_steps() -> None:
    layer = three_layers()
    x = np.random.default_rng(0).standard_normal((10_000, 2, 2)).astype(np.float32)
    found = []
    for every in (None, 100):
        layer.reseed(1)
        layer.zero_grad()
        output, state, tape = layer.forward(x, checkpoint_every=every)
        d_x, d_state = layer.backward(np.cos(output), tape)
        grads = [grad.copy() for grad in layer.grads.values()]
        found.append([output, *state, d_x, *d_state, *grads])
    for got, wanted in zip(*found, strict=True):
        assert np.isfinite(wanted).all()
        np.testing.assert_array_equal(got, wanted)


def test_the_output_is_free_with_checkpoints() -> None:
    lstm = fl.LSTM(3, 5, rng=0)
    x = np.random.default_rng(0).standard_normal((9, 2, 3)).astype(np.float32)
    wanted, _, tape = lstm.forward(x)
    assert not wanted.flags.writeable
    d_wanted, _ = lstm.backward(np.ones_like(wanted), tape)
    output, _, tape = lstm.forward(x, checkpoint_every=3)
    output[...] = np.nan
    d_x, _ = lstm.backward(np.ones_like(output), tape)
    np.testing.assert_array_equal(d_x, d_wanted)

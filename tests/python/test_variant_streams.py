"""Streams of variants: the bits of the whole sequence, masks, state, bfloat16, models.

Every option alone and in pairs, all at once, both element types, every ISA.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastlstm as fl
from test_stream import bfloat16
from test_variants import EVERYTHING, OTHERS, PAIRS, draw, make, parts

Array = npt.NDArray[Any]

ALL = EVERYTHING | {
    "bidirectional": False,
    "num_layers": 3,
    "cell_activation": ("elu", 0.7),
    "output_activation": ("scaled_tanh", 0.9, 1.1),
}
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: ("lstm", options) for name, options in PAIRS.items()},
    "everything": ("lstm", ALL),
    **{
        name: (cell, options | {"num_layers": 2})
        for name, (cell, options) in OTHERS.items()
    },
}
FEW = {name: CELLS[name] for name in ("everything", "GRU before", "RNN softsign")}


def started(layer: Any, batch: int, state: Any, **options: Any) -> fl.Stream:
    stream = layer.stream(batch, **options)
    stream.state = state
    return stream


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cell", "options"), CELLS.values(), ids=CELLS)
def test_steps_and_blocks_equal_the_whole_sequence(
    isa: str, cell: str, options: dict[str, Any], dtype: str
) -> None:
    layer = make(cell, 3, 19, dtype=dtype, **options)
    for batch in (1, 4):
        x, state = draw(layer, 7, batch)
        whole, last = layer(x, state)
        stream = started(layer, batch, state)
        out = np.empty((batch, layer.output_size), dtype)
        for t in range(3):
            np.testing.assert_array_equal(stream.step(x[t], out=out), whole[t])
        np.testing.assert_array_equal(stream.process(x[3:]), whole[3:])
        for got, wanted in zip(parts(stream.state), parts(last), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("cell", "options"), CELLS.values(), ids=CELLS)
def test_masks_are_those_of_the_whole_sequence(
    cell: str, options: dict[str, Any]
) -> None:
    layer = make(cell, 3, 11, **options)
    x, state = draw(layer, 12, 5)
    rng = np.random.default_rng(0)
    active, reset = rng.random((12, 5)) < 0.6, rng.random((12, 5)) < 0.2
    whole, _ = layer(x, state, mask=active, reset=reset)
    stream = started(layer, 5, state)
    alone = [
        started(layer, 1, tuple_of(state, lambda s, n=n: s[:, n : n + 1]))
        for n in range(5)
    ]
    out = np.full((5, layer.output_size), 7, np.float32)
    for t in range(12):
        before = out.copy()
        stream.step(x[t], out=out, active=active[t], reset=reset[t])
        np.testing.assert_array_equal(out[active[t]], whole[t, active[t]])
        np.testing.assert_array_equal(out[~active[t]], before[~active[t]])
        for n, one in enumerate(alone):
            row = out[n : n + 1].copy()
            one.step(
                x[t, n : n + 1],
                out=row,
                active=active[t, n : n + 1],
                reset=reset[t, n : n + 1],
            )
            np.testing.assert_array_equal(row[0], out[n])


def tuple_of(state: Any, pick: Any) -> Any:
    picked = tuple(np.ascontiguousarray(pick(part)) for part in parts(state))
    return picked if isinstance(state, tuple) else picked[0]


@pytest.mark.parametrize(("cell", "options"), FEW.values(), ids=FEW)
def test_reset_and_refresh(cell: str, options: dict[str, Any]) -> None:
    layer = make(cell, 3, 11, **options)
    x, _ = draw(layer, 4, 2)
    stream = layer.stream(2)
    stream.process(x)
    stream.reset(np.array([False, True]))
    for part in parts(stream.state):
        assert part[:, 0].any()
        assert not part[:, 1].any()
    first = layer(x)[0]
    for value in layer.params.values():
        value *= 1.1
    stream.reset()
    np.testing.assert_array_equal(stream.process(x), first)
    stream.refresh()
    stream.reset()
    np.testing.assert_array_equal(stream.process(x), layer(x)[0])


@pytest.mark.parametrize(("cell", "options"), CELLS.values(), ids=CELLS)
def test_bfloat16_gives_the_bits_of_matrices_rounded_before(
    cell: str, options: dict[str, Any]
) -> None:
    layer = make(cell, 3, 19, **options)
    x, state = draw(layer, 5, 3)
    got = started(layer, 3, state, precision="bfloat16").process(x)
    exact, _ = layer(x, state)
    wanted = {
        name: bfloat16(value) if value.ndim == 2 else value.copy()
        for name, value in layer.params.items()
    }
    layer.round_weights("bfloat16")
    for name, value in layer.params.items():
        np.testing.assert_array_equal(value, wanted[name])
    np.testing.assert_array_equal(got, layer(x, state)[0])
    assert 0 < np.abs(got - exact).max() < 0.2


@pytest.mark.parametrize(("cell", "options"), FEW.values(), ids=FEW)
def test_streams_of_models(cell: str, options: dict[str, Any], tmp_path: Any) -> None:
    layer = make(cell, 3, 11, **options)
    model = fl.SequenceModel(
        layer,
        fl.Linear(layer.output_size, 4, rng=0),
        task="regression",
        return_sequences=True,
    )
    model.save(tmp_path / "model.safetensors")
    x, _ = draw(layer, 6, 2)
    whole = model.predict(x.swapaxes(0, 1)).swapaxes(0, 1)
    for each in (model, fl.load(tmp_path / "model.safetensors")):
        np.testing.assert_array_equal(each.stream(2).process(x), whole)


def test_a_state_has_the_shape_of_the_projection() -> None:
    stream = fl.LSTM(2, 8, 2, proj_size=3, rng=0).stream(4)
    h, c = stream.state
    assert h.shape == (2, 4, 3)
    assert c.shape == (2, 4, 8)
    with pytest.raises(
        ValueError, match=r"h must have shape \(L, N, proj_size\) = \(2, 4, 3\)"
    ):
        stream.state = (c, c)
    assert stream.step(np.ones((4, 2), np.float32)).shape == (4, 3)

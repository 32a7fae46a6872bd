"""Streams against the whole sequence, masks, state, refresh, precision, refusals."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from typing import Any

import numpy as np
import pytest

import fastlstm as fl

LAYERS = {"lstm": fl.LSTM, "gru": fl.GRU, "rnn": fl.RNN}
rng = np.random.default_rng(0)


def sequence(*shape: int, dtype: Any = np.float32) -> Any:
    return rng.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_steps_and_blocks_equal_the_whole_sequence(
    cell: str, dtype: Any, batch: int
) -> None:
    layer = LAYERS[cell](3, 20, 2, dtype=dtype, rng=0)
    x = sequence(9, batch, 3, dtype=dtype)
    whole, state = layer(x)
    stream = layer.stream(batch)
    out = np.empty((batch, 20), dtype)
    for t in range(4):
        assert stream.step(x[t], out=out) is out
        assert np.array_equal(out, whole[t])
    assert np.array_equal(stream.process(x[4:]), whole[4:])
    for got, wanted in zip(as_tuple(stream.state), as_tuple(state), strict=True):
        assert np.array_equal(got, wanted)


def as_tuple(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("batch", [1, 3])
def test_threads_may_share_a_step(batch: int) -> None:
    layer = fl.LSTM(3, 130, 2, rng=0)
    x = sequence(9, batch, 3)
    stream = layer.stream(batch, threads=2)
    assert stream.threads == 2
    steps = np.stack([stream.step(x_t) for x_t in x])
    assert np.array_equal(steps, layer(x)[0])
    model = fl.SequenceModel(layer, fl.Linear(130, 2, rng=0), return_sequences=True)
    one, two = model.stream(batch), model.stream(batch, threads=2)
    assert np.array_equal(one.process(x), two.process(x))


def test_a_single_stream_may_do_without_the_batch_axis() -> None:
    layer = fl.LSTM(3, 5, rng=0)
    x = sequence(4, 3)
    flat, batched = layer.stream(), layer.stream()
    assert flat.step(x[0]).shape == (5,)
    assert batched.step(x[:1]).shape == (1, 5)
    assert np.array_equal(flat.process(x[1:]), batched.process(x[1:, None])[:, 0])
    assert np.array_equal(flat.state[0], batched.state[0])


def test_masks() -> None:
    layer = fl.GRU(3, 8, rng=0)
    together, alone = layer.stream(4), [layer.stream() for _ in range(4)]
    out = np.full((4, 8), 7, np.float32)
    wanted = out.copy()
    for _ in range(10):
        x = sequence(4, 3)
        active, reset = rng.random(4) < 0.5, rng.random(4) < 0.3
        together.step(x, out=out, active=active, reset=reset)
        for n, stream in enumerate(alone):
            if reset[n]:
                stream.reset()
            if active[n]:
                wanted[n] = stream.step(x[n])
        assert np.array_equal(out, wanted)
    together.reset(np.array([True, False, False, True]))
    assert not together.state[0, [0, 3]].any()
    assert together.state[0, [1, 2]].any(axis=-1).all()
    together.reset()
    assert not together.state.any()


def test_state_can_be_set() -> None:
    layer = fl.LSTM(3, 8, 2, rng=0)
    x = sequence(6, 2, 3)
    stream = layer.stream(2)
    stream.process(x[:3])
    kept = stream.state
    rest = stream.process(x[3:])
    stream.state = kept
    assert np.array_equal(stream.process(x[3:]), rest)
    with pytest.raises(TypeError, match="c must be a numpy"):
        stream.state = kept[0]
    with pytest.raises(
        ValueError, match=r"h must have shape \(L, N, H\) = \(2, 2, 8\)"
    ):
        stream.state = (kept[0][:1], kept[1])
    with pytest.raises(TypeError, match="state must be an array h, got a pair"):
        fl.RNN(3, 8).stream().state = (kept[0][:1, :1], kept[1][:1, :1])


def test_a_stream_is_a_snapshot_until_refreshed() -> None:
    model = fl.SequenceModel(fl.LSTM(2, 8, rng=0), fl.Linear(8, 3, rng=0))
    x = sequence(2)
    stream, unchanged = model.stream(), model.stream()
    model.recurrent.params["weight_ih_l0"] *= 2
    model.head.params["bias"] += 1
    first = stream.step(x)
    assert np.array_equal(first, unchanged.step(x))
    stream.refresh()
    stream.reset()
    assert np.array_equal(stream.step(x), model.stream().step(x))
    assert not np.array_equal(first, model.stream().step(x))


@pytest.mark.parametrize("embedded", [False, True])
def test_the_stream_of_a_model_includes_head_and_embedding(embedded: bool) -> None:
    table = fl.Embedding(10, 3, rng=0) if embedded else None
    model = fl.SequenceModel(
        fl.LSTM(3, 8, rng=0),
        fl.Linear(8, 4, rng=0),
        task="regression",
        return_sequences=True,
        embedding=table,
    )
    x = rng.integers(10, size=(5, 6)) if embedded else sequence(5, 6, 3)
    whole = model.predict(x)
    stream = model.stream(5)
    for t in range(3):
        assert np.array_equal(stream.step(np.ascontiguousarray(x[:, t])), whole[:, t])
    rest = stream.process(np.ascontiguousarray(x[:, 3:].swapaxes(0, 1)))
    assert np.array_equal(rest.swapaxes(0, 1), whole[:, 3:])
    if table is not None:
        table.params["weight"] *= 2
        stream.refresh()
        stream.reset()
        assert np.array_equal(stream.step(x[:, 0]), model.predict(x[:, :1])[:, 0])
        with pytest.raises(IndexError, match=r"indices must be in 0\.\.9"):
            stream.step(np.full(5, 10))


def bfloat16(values: Any) -> Any:
    """Round to nearest, ties to even, by the integer arithmetic of the definition."""
    bits = values.view(np.uint32).astype(np.uint64)
    return (
        ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view("f4")
    )


def test_bfloat16_streams_and_files(tmp_path: Any) -> None:
    model = fl.SequenceModel(
        fl.LSTM(5, 40, rng=0),
        fl.Linear(40, 2, rng=0),
        task="regression",
        return_sequences=True,
    )
    model.save(tmp_path / "model.safetensors")
    x = sequence(3, 7, 5)
    half = model.stream(3, precision="bfloat16")
    loaded = fl.load(tmp_path / "model.safetensors", precision="bfloat16")
    for name, value in model.recurrent.params.items():
        wanted = bfloat16(value) if name.startswith("weight") else value
        assert np.array_equal(loaded.recurrent.params[name], wanted)
    whole = loaded.predict(x)
    own = loaded.stream(3)
    assert own.precision == "bfloat16"
    steps = np.ascontiguousarray(x.swapaxes(0, 1))
    assert np.array_equal(half.process(steps).swapaxes(0, 1), whole)
    assert np.array_equal(own.process(steps).swapaxes(0, 1), whole)
    error = np.abs(whole - model.predict(x)).max()
    assert 0 < error < 0.02


def test_bfloat16_is_for_float32() -> None:
    with pytest.raises(ValueError, match="bfloat16 needs weights of float32"):
        fl.LSTM(2, 3, dtype=np.float64).stream(precision="bfloat16")
    with pytest.raises(
        ValueError, match=r'must be None or "bfloat16", got \'float16\''
    ):
        fl.LSTM(2, 3).stream(precision="float16")
    with pytest.raises(ValueError, match="the layer float32"):
        fl.LSTM(2, 3, dtype=np.float64).round_weights("bfloat16")


def test_x_may_lie_in_any_way_and_be_out() -> None:
    layer = fl.LSTM(3, 3, rng=0)
    x = sequence(3, 2).T
    wanted = layer.stream(2).step(np.ascontiguousarray(x))
    assert np.array_equal(layer.stream(2).step(x), wanted)
    both = np.ascontiguousarray(x)
    layer.stream(2).step(both, out=both)
    assert np.array_equal(both, wanted)


def read_only(shape: Any) -> Any:
    array = np.zeros(shape, np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        ([1.0, 2, 3], {}, TypeError, "x must be a numpy.ndarray of float32, got list"),
        (np.zeros((2, 3)), {}, TypeError, r"x\.astype\(np\.float32\)"),
        (read_only(3), {}, ValueError, r"x must have shape \(N, I\) = \(2, 3\)"),
        (read_only((2, 4)), {}, ValueError, r"= \(2, 3\), got \(2, 4\)"),
        (read_only((2, 3)), {"out": read_only((2, 8))}, ValueError, "writeable"),
        (
            read_only((2, 3)),
            {"out": np.zeros((2, 8))},
            TypeError,
            "out must be float32",
        ),
        (
            read_only((2, 3)),
            {"out": np.zeros((8, 2), np.float32).T},
            ValueError,
            "out must be C-contiguous",
        ),
        (
            read_only((2, 3)),
            {"out": np.zeros((2, 7), np.float32)},
            ValueError,
            r"out must have shape \(N, O\) = \(2, 8\), got \(2, 7\)",
        ),
        (
            read_only((2, 3)),
            {"active": np.ones(2, bool)},
            ValueError,
            "active needs out",
        ),
        (
            read_only((2, 3)),
            {"reset": np.ones(3, bool)},
            ValueError,
            r"array of bool of shape \(N,\) = \(2,\), got bool of shape \(3,\)",
        ),
        (read_only((2, 3)), {"reset": np.ones(2)}, ValueError, "reset.*got float64"),
        (read_only((2, 3)), {"reset": [True] * 2}, ValueError, "reset.*got list"),
        (
            read_only((2, 3)),
            {"mask": None},
            TypeError,
            "out, active and reset, not mask",
        ),
    ],
)
def test_steps_that_are_refused(
    x: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    stream = fl.LSTM(3, 8, rng=0).stream(2)
    with pytest.raises(error, match=message):
        stream.step(x, **options)
    assert not stream.state[0].any()


def test_streams_that_are_refused() -> None:
    with pytest.raises(ValueError, match="one direction"):
        fl.LSTM(2, 3, bidirectional=True).stream()
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        fl.LSTM(2, 3).stream(0)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        fl.LSTM(2, 3).stream(threads=0)
    stream = fl.LSTM(2, 3).stream()
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(stream)
    with pytest.raises(TypeError, match="got 0 positional arguments"):
        stream.step()
    x = np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match="out must not share memory with x"):
        fl.LSTM(2, 2).stream().process(x, x)
    with pytest.raises(RuntimeError, match="never opened"):
        fl.Stream.__new__(fl.Stream).step(x[0])


def test_one_thread_at_a_time() -> None:
    """A long block runs without the GIL; a second call meanwhile is refused."""
    stream = fl.LSTM(64, 256, rng=0).stream(8)
    x = sequence(400, 8, 64)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with contextlib.suppress(RuntimeError):  # it is the one refused
                stream.process(x)

    def step_often() -> None:
        for _ in range(10_000):
            time.sleep(0.001)  # between steps the stream is free: the block begins
            stream.step(x[0])

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with pytest.raises(RuntimeError, match="is being stepped by another thread"):
            step_often()
    finally:
        stop.set()
        worker.join()


def test_a_step_makes_no_python_objects() -> None:
    """No block of memory more after a thousand steps: references are kept in order."""
    import sys

    stream = fl.LSTM(1, 16, rng=0).stream(2)
    x, out = np.ones((2, 1), np.float32), np.zeros((2, 16), np.float32)
    mask = np.array([True, False])
    stream.step(x, out=out, active=mask, reset=mask)
    counts = [sys.getrefcount(a) for a in (x, out, mask, x.dtype)]
    before = sys.getallocatedblocks()
    for _ in range(1000):
        stream.step(x, out=out, active=mask, reset=mask)
    assert sys.getallocatedblocks() - before < 10
    assert [sys.getrefcount(a) for a in (x, out, mask, x.dtype)] == counts

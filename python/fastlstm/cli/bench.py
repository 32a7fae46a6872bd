"""``fastlstm bench``: how fast this machine trains and runs, in ten seconds."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastlstm as fl
from fastlstm.cli.common import add_common, set_threads, table


class Shape(NamedTuple):
    """One measurement."""

    name: str
    input_size: int
    hidden_size: int
    num_layers: int
    seq_len: int
    batch_size: int


SHAPES = (
    Shape("digits", 28, 128, 1, 28, 128),
    Shape("sine", 1, 32, 1, 30, 32),
    Shape("amplifier", 1, 24, 1, 512, 16),
    Shape("policy", 64, 256, 1, 256, 8),
    Shape("forecast", 1, 128, 2, 72, 128),
    Shape("one sequence", 64, 128, 1, 100, 1),
)
_SECONDS_PER_SHAPE = 1.5


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "bench",
        help="measure this machine",
        description="Measure training (forward, and backward with all gradients) and "
        "inference of the LSTM for some shapes, float32; medians.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the time, less exact"
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    set_threads(args)
    cpu = fl.cpu_info()
    print(f"{cpu['name']}, {cpu['isa']}, at most {cpu['threads']} threads, float32")
    seconds = _SECONDS_PER_SHAPE * (0.1 if args.quick else 1)
    rows = []
    for shape in SHAPES:
        train, infer = measure(shape, args.seed, seconds)
        forward = flops(shape)
        rows.append(
            [
                shape.name,
                "/".join(map(str, shape[1:])),
                f"{train * 1e3:.3f}",
                f"{3 * forward / train / 1e9:.0f}",
                f"{infer * 1e3:.3f}",
                f"{forward / infer / 1e9:.0f}",
            ]
        )
    header = ["shape", "I/H/L/T/N", "train ms", "GFLOP/s", "infer ms", "GFLOP/s"]
    print(table(header, rows))
    return 0


def flops(shape: Shape) -> float:
    """Floating-point operations of the matrix products of one forward pass."""
    _, i, h, layers, t, n = shape
    inputs = i + h * (layers - 1)
    return 2.0 * 4 * h * (inputs + layers * h) * t * n


def measure(shape: Shape, seed: int, seconds: float) -> tuple[float, float]:
    """Return the median seconds of a training step and of inference."""
    rng = np.random.default_rng(seed)
    _, i, h, layers, t, n = shape
    lstm = fl.LSTM(i, h, layers, rng=rng)
    x = rng.standard_normal((t, n, i), np.float32)
    d_output = rng.standard_normal((t, n, h), np.float32)

    def train() -> None:
        _, _, tape = lstm.forward(x)
        lstm.backward(d_output, tape)

    return _median(train, seconds / 2), _median(lambda: lstm(x), seconds / 2)


def _median(work: Callable[[], object], seconds: float) -> float:
    """Median time of a call, after one that warms up."""
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)

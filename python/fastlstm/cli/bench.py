"""``fastlstm bench``: how fast this machine trains and runs, in ten seconds."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastlstm as fl
from fastlstm.cli.common import add_common, set_threads, table
from fastlstm.cli.work import Shape
from fastlstm.runtime import Limits

SHAPES = (
    Shape("digits", 28, 128, 1, 28, 128),
    Shape("sine", 1, 32, 1, 30, 32),
    Shape("amplifier", 1, 24, 1, 512, 16),
    Shape("policy", 64, 256, 1, 256, 8),
    Shape("forecast", 1, 128, 2, 72, 128),
    Shape("one sequence", 64, 128, 1, 100, 1),
)
_SECONDS_PER_SHAPE = 1.4
_SECONDS_FOR_LIMITS = 0.5


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "bench",
        help="measure this machine",
        description="Measure training (forward, and backward with all gradients) and "
        "inference of the LSTM for some shapes, float32; medians. 'of limit' is the "
        "share of what the machine can do at most, measured first: multiply-adds on "
        "registers, or reading the recurrent weights once a step, whichever takes "
        "longer; activations are not counted.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the time, less exact"
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print the tables."""
    set_threads(args)
    share = 0.1 if args.quick else 1.0
    cpu = fl.cpu_info()
    print(f"{cpu['name']}, {cpu['isa']}, at most {cpu['threads']} threads, float32\n")
    limits = {
        n: fl.machine_limits(n, seconds=share * _SECONDS_FOR_LIMITS)
        for n in sorted({1, int(cpu["threads"])})
    }
    print(limits_table(list(limits.values())), end="\n\n")
    most = limits[max(limits)]
    rows = []
    for shape in SHAPES:
        row = [shape.name, shape.sizes]
        for train in (True, False):
            work = shape._replace(train=train)
            seconds = measure(work, args.seed, share * _SECONDS_PER_SHAPE / 2)
            row += [
                f"{seconds * 1e3:.3f}",
                f"{work.flops / seconds / 1e9:.0f}",
                f"{work.least_seconds(most) / seconds:.0%}",
            ]
        rows.append(row)
    figures = ["GFLOP/s", "of limit"]
    print(
        table(["shape", "I/H/L/T/N", "train ms", *figures, "infer ms", *figures], rows)
    )
    return 0


def limits_table(limits: list[Limits]) -> str:
    """Lay out what the machine can do at most."""
    names = [name for name, _, _ in limits[0].reads]
    rows = [
        [
            str(limit.threads),
            f"{limit.flops / 1e9:.0f}",
            *(f"{rate / 1e9:.0f}" for _, _, rate in limit.reads),
        ]
        for limit in limits
    ]
    return table(["threads", "GFLOP/s", *(f"{name} GB/s" for name in names)], rows)


def measure(shape: Shape, seed: int, seconds: float) -> float:
    """Return the median seconds of a training step, or of inference."""
    rng = np.random.default_rng(seed)
    lstm = fl.LSTM(shape.input_size, shape.hidden_size, shape.num_layers, rng=rng)
    steps = (shape.seq_len, shape.batch_size)
    x = rng.standard_normal((*steps, shape.input_size), np.float32)
    d_output = rng.standard_normal((*steps, shape.hidden_size), np.float32)

    def train() -> None:
        _, _, tape = lstm.forward(x)
        lstm.backward(d_output, tape)

    return median_time(train if shape.train else lambda: lstm(x), seconds)


def median_time(work: Callable[[], object], seconds: float) -> float:
    """Return the median time of a call, after one that warms up."""
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)

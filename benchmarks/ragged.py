"""Time ragged batches, resets and decaying states, beside PyTorch if installed.

    python benchmarks/ragged.py --threads 1

Training passes (forward and backward), float32. The ways of a table are called in turn,
round after round, in this process; a row is the median over rounds, a ratio the median
of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping

# The threads of a peer must sleep, not spin, while another is timed.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

import fastlstm as fl

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

Work = Callable[[], object]


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[: arguments.threads])
    fl.set_num_threads(arguments.threads)
    if torch is not None:
        torch.set_num_threads(arguments.threads)
    for table in (ragged, resets, decaying):
        table(arguments.rounds)


def ragged(rounds: int) -> None:
    """Lengths 10 to 500 against padding to the longest."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 501, 32)
    lengths[0] = 500
    x = rng.standard_normal((500, 32, 64)).astype(np.float32)
    lstm = fl.LSTM(64, 128, rng=0)
    real = lengths.sum() / (500 * 32)
    ways = {
        "padded": training(lstm, x),
        "lengths": training(lstm, x, lengths=lengths),
    }
    if torch is not None:
        ways["torch padded"] = torch_padded(x)
        ways["torch packed"] = torch_packed(x, lengths)
    title = f"ragged: in 64, hidden 128, T 10..500, batch 32; real steps {real:.1%}"
    times = show(title, ways, rounds, "padded")
    work = statistics.median(
        b / (a * real) for a, b in zip(times["padded"], times["lengths"], strict=True)
    )
    print(f"lengths over (real x padded): {work:.3f}; goal at most 1.15")


def resets(rounds: int) -> None:
    """Time a reset every 20 steps or so."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 8, 64)).astype(np.float32)
    reset = rng.random((256, 8)) < 1 / 20
    lstm = fl.LSTM(64, 256, rng=0)
    ways = {"plain": training(lstm, x), "reset": training(lstm, x, reset=reset)}
    show("reset: in 64, hidden 256, T 256, batch 8; goal 1.03", ways, rounds, "plain")


def decaying(rounds: int) -> None:
    """Time a state that would be denormal for most of 4000 steps."""
    x = np.zeros((4000, 8, 16), np.float32)
    # f = 0.995 and g = 0: c leaves the normal numbers after 900 steps, and those that
    # hold denormals are never left, because their decay is rounded away.
    lstm = fl.LSTM(16, 64, forget_bias=5.3, rng=0)
    lstm.params["bias_l0"][128:192] = 0
    lstm.params["weight_hh_l0"][128:192] = 0
    alive = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    state = (np.zeros((1, 8, 64), np.float32), np.full((1, 8, 64), 1e-36, np.float32))
    ways = {"alive": training(lstm, alive), "decaying": training(lstm, x, state)}
    title = "denormals: in 16, hidden 64, T 4000, batch 8; goal 1.2"
    show(title, ways, rounds, "alive")


def training(
    lstm: fl.LSTM,
    x: np.ndarray,
    state: tuple[np.ndarray, np.ndarray] | None = None,
    **marks: np.ndarray,
) -> Work:
    """Return one forward and backward pass."""
    output, _ = lstm(x, state, **marks)
    d_output = np.ones_like(output)

    def run() -> None:
        lstm.zero_grad()
        _, _, tape = lstm.forward(x, state, **marks)
        lstm.backward(d_output, tape)

    return run


def torch_padded(x: np.ndarray) -> Work:
    """Return the same work by PyTorch."""
    lstm = torch.nn.LSTM(x.shape[2], 128)
    given = torch.from_numpy(x).requires_grad_()

    def run() -> None:
        lstm.zero_grad()
        lstm(given)[0].sum().backward()

    return run


def torch_packed(x: np.ndarray, lengths: np.ndarray) -> Work:
    """Return the ragged work by PyTorch."""
    lstm = torch.nn.LSTM(x.shape[2], 128)
    given = torch.from_numpy(x).requires_grad_()
    counts = torch.from_numpy(lengths)

    def run() -> None:
        lstm.zero_grad()
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            given, counts, enforce_sorted=False
        )
        lstm(packed)[0].data.sum().backward()

    return run


def show(
    title: str, ways: Mapping[str, Work], rounds: int, base: str
) -> dict[str, list[float]]:
    """Time all ways in turn, print and return seconds by round."""
    for work in ways.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    print(f"\n{title}")
    for name, taken in times.items():
        ratio = statistics.median(
            a / b for a, b in zip(taken, times[base], strict=True)
        )
        milliseconds = statistics.median(taken) * 1e3
        print(f"{name:14}{milliseconds:9.2f} ms   {ratio:7.3f} x {base}")
    return times


if __name__ == "__main__":
    main()

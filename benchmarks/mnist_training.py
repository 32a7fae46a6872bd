"""Train the same MNIST classifier here and in PyTorch, whole programs in turn.

    python benchmarks/mnist_training.py --threads 2
    python benchmarks/mnist_training.py --torch /path/to/other/venv/bin/python

LSTM 28/128 over the rows, a dense head on the last state, cross-entropy, batch 128,
gradients clipped to norm 1, Adam with one cycle over all epochs. The time is that of
training: shuffling, gathering, forward, backward, clipping and updates, from arrays in
memory, the test left out. Each library has its own process on the same CPUs; they train
epoch by epoch in turn, and the one that waits is stopped. PyTorch gets its fused Adam.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

BATCH = 128
HIDDEN = 128
PEAK_LR = 1e-2
CLIP = 1.0

Report = Callable[[float, float], None]
"""Told the seconds and the test accuracy of every epoch."""


def train_fastlstm(
    data: Any, epochs: int, threads: int, seed: int, report: Report
) -> None:
    """Train with `SequenceModel.fit`."""
    import fastlstm as fl

    fl.set_num_threads(threads)
    x, y, x_test, y_test = data
    rng = np.random.default_rng(seed)
    model = fl.SequenceModel(
        fl.LSTM(28, HIDDEN, forget_bias=1.0, rng=rng), fl.Linear(HIDDEN, 10, rng=rng)
    )
    model.fit(
        x,
        y,
        epochs=epochs,
        batch_size=BATCH,
        optimizer=fl.Adam(PEAK_LR),
        schedule=fl.OneCycle(PEAK_LR),
        clip_norm=CLIP,
        validation_data=(x_test, y_test),
        rng=seed,
        callbacks=[lambda _, logs: report(logs["seconds"], logs["val_accuracy"])],
    )


def train_torch(
    data: Any, epochs: int, threads: int, seed: int, report: Report
) -> None:
    """Train with the loop that PyTorch's users write, over tensors in memory."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    x, y, x_test, y_test = (torch.from_numpy(array) for array in data)
    lstm, head = nn.LSTM(28, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 10)
    with torch.no_grad():
        lstm.bias_ih_l0[HIDDEN : 2 * HIDDEN] = 1.0
        lstm.bias_hh_l0[HIDDEN : 2 * HIDDEN] = 0.0
    params = [*lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(params, lr=PEAK_LR, fused=True)
    steps = -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LR, total_steps=epochs * steps, cycle_momentum=False
    )
    for _ in range(epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            _, (h_n, _) = lstm(x[rows])
            nn.functional.cross_entropy(head(h_n[-1]), y[rows]).backward()
            nn.utils.clip_grad_norm_(params, CLIP)
            optimizer.step()
            schedule.step()
        seconds = time.perf_counter() - start
        with torch.no_grad():
            parts = [head(lstm(part)[1][0][-1]) for part in x_test.split(1000)]
            read = torch.cat(parts).argmax(dim=1)
        report(seconds, float((read == y_test).float().mean()))


TRAINERS = {"fastlstm": train_fastlstm, "torch": train_torch}


class Worker:
    """A training program in its own process, stopped while it waits."""

    def __init__(self, name: str, python: str, args: argparse.Namespace) -> None:
        settings = {
            "--worker": name,
            "--data": args.data,
            "--epochs": args.epochs,
            "--threads": args.threads,
            "--rounds": args.rounds,
        }
        self._process = subprocess.Popen(
            [
                python,
                __file__,
                *(str(part) for pair in settings.items() for part in pair),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.error: str | None = self._answer()["error"]
        """Why it cannot train."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def epoch(self) -> dict[str, float]:
        """Let it train one epoch; return seconds and accuracy."""
        assert self._process.stdin is not None
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer: dict[str, float] = self._answer()
        os.kill(self._process.pid, signal.SIGSTOP)
        return answer

    def close(self) -> None:
        """End the process."""
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a worker ended; its message is above")
        return json.loads(line)


def work(args: argparse.Namespace) -> None:
    """Be a worker: train each round with its own seed, an epoch for every line read."""
    with np.load(args.data) as arrays:
        data = [arrays[name] for name in ("x", "y", "x_test", "y_test")]
    try:
        importlib.import_module(args.worker)
        error = None
    except ImportError as missing:
        error = str(missing)
    print(json.dumps({"error": error}), flush=True)

    def report(seconds: float, accuracy: float) -> None:
        print(json.dumps({"seconds": seconds, "accuracy": accuracy}), flush=True)
        sys.stdin.readline()

    sys.stdin.readline()
    for seed in range(args.rounds):
        TRAINERS[args.worker](data, args.epochs, args.threads, seed, report)


def runs(worker: Worker, args: argparse.Namespace) -> Iterator[tuple[float, float]]:
    """Yield an epoch at a time: seconds, and the accuracy after it."""
    for _ in range(args.rounds * args.epochs):
        answer = worker.epoch()
        yield answer["seconds"], answer["accuracy"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="trainings, each a seed")
    parser.add_argument(
        "--digits", type=int, default=60_000, help="train on so many of the digits"
    )
    parser.add_argument(
        "--torch", default=sys.executable, help="Python that has torch and numpy"
    )
    parser.add_argument("--worker", choices=TRAINERS, help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    compare(args)


def compare(args: argparse.Namespace) -> None:
    """Train with both libraries in turn and print a table."""
    import tempfile

    import fastlstm as fl

    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: args.threads]))
    with tempfile.TemporaryDirectory() as folder:
        args.data = f"{folder}/mnist.npz"
        train, test = fl.datasets.mnist("train"), fl.datasets.mnist("test")
        x, y = (array[: args.digits] for array in train)
        np.savez(args.data, x=x, y=y, x_test=test[0], y_test=test[1])
        pythons = {"fastlstm": sys.executable, "torch": args.torch}
        workers = {name: Worker(name, path, args) for name, path in pythons.items()}
        for name in [name for name, worker in workers.items() if worker.error]:
            worker = workers.pop(name)
            print(f"without {name}: {worker.error} (--torch: a Python that has it)")
            worker.close()
        epochs: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
        try:
            for turn in zip(*(runs(w, args) for w in workers.values()), strict=True):
                for name, epoch in zip(workers, turn, strict=True):
                    epochs[name].append(epoch)
        finally:
            for worker in workers.values():
                worker.close()
    print(
        f"{args.threads} threads, {args.epochs} epochs of {len(x)} digits, "
        f"{args.rounds} seeds"
    )
    print(
        "library   seconds of training: median (all)      test accuracy: median (all)"
    )
    medians = {}
    for name, values in epochs.items():
        n = args.epochs
        seconds = [
            sum(s for s, _ in values[i : i + n]) for i in range(0, len(values), n)
        ]
        accuracy = [values[i + n - 1][1] for i in range(0, len(values), n)]
        medians[name] = statistics.median(seconds)
        shown = ", ".join(f"{s:.2f}" for s in seconds)
        read = ", ".join(f"{a:.2%}" for a in accuracy)
        print(
            f"{name:8}  {medians[name]:6.2f} ({shown})"
            f"   {statistics.median(accuracy):.2%} ({read})"
        )
    if "torch" in medians:
        print(f"fastlstm / torch: {medians['fastlstm'] / medians['torch']:.3f}")


if __name__ == "__main__":
    main()

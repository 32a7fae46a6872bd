"""k small models in one call of fit_many against k one-thread fits, one after another.

    python benchmarks/fit_many.py --models 8 --threads 2

Rounds alternate between the two; prints the medians, their ratio, and whether the
weights are the same to the bit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

import fastlstm as fl

# The sine task: every value of 30 from the ones before.
_HIDDEN = 32
_LENGTH = 30
_BATCH = 32


def make_models(count: int, hidden: int) -> list[fl.SequenceModel]:
    """Return untrained models that differ in their seeds."""
    return [
        fl.SequenceModel(
            fl.LSTM(1, hidden, rng=seed),
            fl.Linear(hidden, 1, rng=seed),
            task="regression",
            return_sequences=True,
        )
        for seed in range(count)
    ]


def one_by_one(models: list[fl.SequenceModel], **settings: object) -> None:
    """Train each model on one thread, one after another."""
    for seed, model in enumerate(models):
        model.fit(**settings, rng=seed)  # type: ignore[arg-type]


def together(models: list[fl.SequenceModel], **settings: object) -> None:
    """Train all models in one call."""
    fl.fit_many(models, **settings, rng=list(range(len(models))))  # type: ignore[arg-type]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--threads", type=int, default=fl.get_num_threads())
    parser.add_argument("--hidden", type=int, default=_HIDDEN)
    parser.add_argument("--batch-size", type=int, default=_BATCH)
    parser.add_argument("--samples", type=int, default=3200)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    x, y = fl.datasets.noisy_sine(n=args.samples, length=_LENGTH)
    settings = {"x": x, "y": y, "epochs": 2, "batch_size": args.batch_size}
    ways: list[tuple[int, Callable[..., None]]] = [
        (1, one_by_one),
        (args.threads, together),
    ]
    seconds: dict[str, list[float]] = {}
    weights = []
    for _ in range(args.rounds):
        for threads, way in ways:
            fl.set_num_threads(threads)
            models = make_models(args.models, args.hidden)
            start = time.perf_counter()
            way(models, **settings)
            seconds.setdefault(way.__name__, []).append(time.perf_counter() - start)
            weights.append([p for m in models for p in m.recurrent.params.values()])
    same = all(
        np.array_equal(a, b)
        for other in weights[1:]
        for a, b in zip(weights[0], other, strict=True)
    )
    alone, at_once = (statistics.median(seconds[way.__name__]) for _, way in ways)
    print(f"{args.models} models 1/{args.hidden}, T {_LENGTH}, batch {args.batch_size}")
    print(f"one after another, 1 thread  {alone * 1e3:8.1f} ms")
    print(f"fit_many, {args.threads} threads          {at_once * 1e3:8.1f} ms")
    print(
        f"ratio {alone / at_once:.2f}, {alone / at_once / args.threads:.2f} x threads"
    )
    print(f"same bits: {same}")


if __name__ == "__main__":
    main()

"""``fastlstm sine``: the next value of a noisy sine, and thirty more by feedback."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastlstm as fl
from fastlstm.cli.common import add_common, positive_float, positive_int, prepare, table
from fastlstm.cli.sine_data import (
    AHEAD,
    SEEN,
    STEP,
    Errors,
    FreshSines,
    feed_back,
    measure,
    sequences,
)
from fastlstm.nn.variants import ACTIVATIONS

Array = npt.NDArray[Any]
CELLS = {"rnn": fl.RNN, "gru": fl.GRU, "lstm": fl.LSTM}

_HIDDEN = 32
_EPOCHS = 15
_BATCHES = 200  # an epoch
_BATCH_SIZE = 32
_LR = 1e-2


@dataclass(frozen=True)
class SineResult:
    """A trained model and what it reached."""

    model: fl.SequenceModel
    samples: int  # sequences seen in training
    seconds: float
    errors: Errors


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "sine",
        help="predict a noisy sine",
        description="Train a model that predicts the next value of a noisy sine from "
        "30 samples; print its errors one and 30 values ahead beside the limit; plot.",
    )
    parser.add_argument("--preset", choices=("default", "classic"), default="default")
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="train the three cells alike over 5 seeds and plot their errors",
    )
    parser.add_argument("--hidden", type=positive_int, metavar="N")
    parser.add_argument("--epochs", type=positive_int, metavar="N")
    parser.add_argument("--lr", type=positive_float, metavar="X", help="learning rate")
    for name in ("cell", "output"):
        parser.add_argument(
            f"--{name}-activation",
            choices=ACTIVATIONS,
            default="tanh",
            help="of the LSTM (default: tanh)",
        )
    add_common(parser, out="fastlstm-sine")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, report, save and plot."""
    if args.compare:
        _check_compare(args)
    folder = prepare(args)
    if args.compare:
        from fastlstm.cli.compare import compare

        return compare(args, folder)
    if args.preset == "classic":
        from fastlstm.cli.sine_classic import train_classic

        result = train_classic(args)
    else:
        result = train(
            args.seed,
            cell=args.cell,
            hidden=args.hidden or _HIDDEN,
            epochs=args.epochs or _EPOCHS,
            lr=args.lr or _LR,
            activations=(args.cell_activation, args.output_activation),
            progress=not args.quiet,
        )
    print(error_table(result.errors))
    print(f"trained {result.seconds:.1f} s on {result.samples:,} sequences")
    path = folder / "sine.safetensors"
    result.model.save(path)
    for written in [path, *write_plots(result, folder)]:
        print(f"wrote {written}")
    return 0


def _check_compare(args: argparse.Namespace) -> None:
    """Refuse options that would say nothing in a comparison of all cells."""
    if args.preset != "default":
        raise ValueError(f"--compare has no --preset {args.preset}")
    if (args.cell_activation, args.output_activation) != ("tanh", "tanh"):
        raise ValueError("--compare has no cell or output activation to choose")


def train(
    seed: int,
    *,
    cell: str = "lstm",
    hidden: int = _HIDDEN,
    epochs: int = _EPOCHS,
    lr: float = _LR,
    activations: tuple[str, str] = ("tanh", "tanh"),
    progress: bool = True,
) -> SineResult:
    """Train with Adam on a one-cycle schedule, on new sequences all the time."""
    rng = np.random.default_rng(seed)
    model = build_model(cell, hidden, rng, activations)
    start = time.perf_counter()
    model.fit(
        FreshSines(_BATCHES, _BATCH_SIZE, rng),
        epochs=epochs,
        optimizer=fl.Adam(lr),
        schedule=fl.OneCycle(lr, epochs * _BATCHES, pct_start=0.2),
        progress=progress,
        rng=rng,
    )
    seconds = time.perf_counter() - start
    samples = epochs * _BATCHES * _BATCH_SIZE
    return SineResult(model, samples, seconds, measure(model))


def build_model(
    cell: str,
    hidden: int,
    rng: np.random.Generator,
    activations: tuple[str, str] = ("tanh", "tanh"),
    *,
    forget_bias: float | None = 1.0,
) -> fl.SequenceModel:
    """Return an untrained model that answers at every step.

    Only an LSTM takes `forget_bias`; None starts it as the other cells start.
    """
    options: dict[str, Any] = {"batch_first": True, "rng": rng}
    if cell == "lstm":
        options["forget_bias"] = forget_bias
        options["cell_activation"], options["output_activation"] = activations
    elif activations != ("tanh", "tanh"):
        raise ValueError(f"--cell {cell} has no cell or output activation to choose")
    return fl.SequenceModel(
        CELLS[cell](1, hidden, **options),
        fl.Linear(hidden, 1, rng=rng),
        task="regression",
        return_sequences=True,
    )


def error_table(errors: Errors) -> str:
    """Lay out errors beside the limit and the tutorial's."""
    header = ["rms error, 1,000 fresh sequences", "model", "limit", "tutorial"]
    rows = [
        ["one value ahead", f"{errors.one:.4f}", f"{errors.limit_one:.4f}", "0.029"],
        [
            f"{AHEAD} values ahead, fed back",
            f"{errors.thirty:.4f}",
            f"{errors.limit_thirty:.4f}",
            "0.156",
        ],
    ]
    return table(header, rows)


def write_plots(result: SineResult, folder: Path) -> list[Path]:
    """Write the three plots; return the files."""
    from fastlstm import plot

    model, errors = result.model, result.errors
    figures = {
        "one-ahead.png": plot.one_ahead(*_one_ahead(model), errors.one),
        "thirty-ahead.png": plot.thirty_ahead(*_thirty_ahead(model), errors.thirty),
        "from-one-value.png": plot.from_one_value(*_from_one_value(model)),
    }
    return [plot.save(figure, folder / name) for name, figure in figures.items()]


def _one_ahead(model: fl.SequenceModel) -> tuple[Array, Array, Array, Array]:
    """Predict along a long curve, each value from the 30 samples before it alone."""
    x, y = sequences(1, 100, 1)
    noisy, clean = x[0, :, 0], np.append(np.nan, y[0, :-1, 0])
    windows = np.lib.stride_tricks.sliding_window_view(noisy[:-1], SEEN)[:, :, None]
    predicted = feed_back(model, np.ascontiguousarray(windows), 1)[:, 0]
    return np.arange(len(noisy)) * STEP, noisy, clean, predicted


def _thirty_ahead(model: fl.SequenceModel) -> tuple[Array, Array, Array, Array]:
    x, y = sequences(3, SEEN + AHEAD, 2)
    seen = np.ascontiguousarray(x[:, :SEEN])
    clean = np.concatenate([np.full((len(x), 1), np.nan), y[:, :-1, 0]], axis=1)
    times = np.arange(SEEN + AHEAD) * STEP
    return times, seen[:, :, 0], clean, feed_back(model, seen, AHEAD)


def _from_one_value(model: fl.SequenceModel) -> tuple[Array, Array, Array, Array]:
    """Generate a curve from its first value, a crest: no other phase has that value."""
    count = 100
    times = np.arange(count) * STEP
    seed = np.ones((1, 1), np.float32)
    recurrent = np.append(seed, feed_back(model, seed[:, None], count - 1))
    fresh = [seed]
    for _ in range(count - 1):
        fresh.append(feed_back(model, fresh[-1][:, None], 1))
    return times, np.cos(times), np.concatenate(fresh)[:, 0], recurrent

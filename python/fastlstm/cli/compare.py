"""``fastlstm sine --compare``: the three cells trained alike, over several seeds.

Two settings: predicting one ahead from noisy samples, and going on blind: after 30
samples the input is blank, and the curve has to be kept up from memory.

All cells share hidden size, kind of start weights, optimizer and data. The LSTM gets no
forget bias here: it alone lowers the error in the second setting by more than a third.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastlstm as fl
from fastlstm.cli.common import table
from fastlstm.cli.sine import CELLS, build_model
from fastlstm.cli.sine_data import AHEAD, SEEN, sequences

Array = npt.NDArray[Any]
Runs = dict[str, tuple[Array, Array]]

_SEEDS = 5
_EPOCHS = 15
_SEQUENCES = 640  # an epoch
_TESTS = 300
_TEST_SEED = 1_000_003
_LR = 1e-3  # suits the RNN better than 3e-3, which would favour the LSTM


@dataclass(frozen=True)
class Setting:
    """What the cells are compared on."""

    title: str
    length: int
    visible: int  # samples after which the input is blank

    def data(self, n: int, rng: int | np.random.Generator) -> tuple[Array, Array]:
        """Return x and the clean curve a step on, (n, length, 1)."""
        x, y = sequences(n, self.length, rng)
        x[:, self.visible :] = 0
        return x, y


SETTINGS = (
    Setting("One ahead, 60 noisy samples", SEEN + AHEAD, SEEN + AHEAD),
    Setting("Going on blind for 120 steps after 30 samples", 150, SEEN),
)


def compare(args: argparse.Namespace, folder: Path) -> int:
    """Train all cells in all settings, print a table, plot."""
    from fastlstm import plot

    epochs, hidden, lr = args.epochs or _EPOCHS, args.hidden or 32, args.lr or _LR
    runs: dict[str, Runs] = {}
    for setting in SETTINGS:
        runs[setting.title] = {}
        for cell in CELLS:
            both = [
                train_one(setting, cell, args.seed + i, epochs, hidden, lr)
                for i in range(_SEEDS)
            ]
            errors, norms = (np.array(values) for values in zip(*both, strict=True))
            runs[setting.title][cell] = errors, norms
            if not args.quiet:
                print(f"{setting.title}: {cell.upper()} done", flush=True)
    print(f"alike: hidden {hidden}, Adam {lr:g}, {epochs} epochs, no forget bias")
    print(result_table(runs))
    for title, cells in runs.items():
        print(f"{title}: {verdict(cells)}")
    path = plot.save(plot.cell_comparison(runs), folder / "cells.png")
    print(f"wrote {path}")
    return 0


def train_one(
    setting: Setting, cell: str, seed: int, epochs: int, hidden: int, lr: float
) -> tuple[list[float], list[float]]:
    """Train one cell; return the error and the gradient norm of every epoch."""
    rng = np.random.default_rng(seed)
    model = build_model(cell, hidden, rng, forget_bias=None)
    x_test, y_test = setting.data(_TESTS, _TEST_SEED)
    weight = np.ones((_SEQUENCES, setting.length), np.float32)
    weight[:, : SEEN // 2] = 0
    optimizer = fl.Adam(lr)
    errors, norms = [], []
    for _ in range(epochs):
        x, y = setting.data(_SEQUENCES, rng)
        history = model.fit(
            x, y, batch_size=32, optimizer=optimizer, sample_weight=weight, rng=rng
        )
        error = (model.predict(x_test) - y_test)[:, SEEN // 2 :]
        errors.append(float(np.sqrt(np.mean(np.square(error, dtype=np.float64)))))
        norms.append(history.history["grad_norm"][0])
    return errors, norms


def result_table(runs: dict[str, Runs]) -> str:
    """Lay out the last errors, and the largest of the epochs' mean gradient norms."""
    header = ["setting, cell", "error", "smallest", "largest", "peak gradient"]
    rows = []
    for title, cells in runs.items():
        for cell, (errors, norms) in cells.items():
            last = errors[:, -1]
            values = [np.median(last), last.min(), last.max(), norms.max()]
            rows.append([f"{title}, {cell.upper()}", *(f"{v:.3g}" for v in values)])
    return table(header, rows)


def verdict(cells: Runs) -> str:
    """Say what was measured: LSTM against RNN, error and steadiness.

    Examples
    --------
    >>> import numpy as np
    >>> one, two = np.full((5, 3), 1.0), np.full((5, 3), 2.0)
    >>> verdict({"lstm": (one, one), "rnn": (two, two)})
    'LSTM over RNN: median error x 0.50, better in 5 of 5 seeds, peak gradient x 0.50'
    """
    (lstm, lstm_norms), (rnn, rnn_norms) = cells["lstm"], cells["rnn"]
    ratio = np.median(lstm[:, -1]) / np.median(rnn[:, -1])
    better = int(np.sum(lstm[:, -1] < rnn[:, -1]))
    steadier = lstm_norms.max() / rnn_norms.max()
    return (
        f"LSTM over RNN: median error x {ratio:.2f}, better in {better} of {len(lstm)} "
        f"seeds, peak gradient x {steadier:.2f}"
    )

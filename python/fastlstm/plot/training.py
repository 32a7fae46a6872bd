"""Figures of a classifier's training: learning curve, misread digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastlstm.plot.style import BLUE, ORANGE, figure, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

_COLUMNS, _ROWS = 8, 5


def learning_curve(history: Mapping[str, Sequence[float]]) -> Figure:
    """Plot loss and score against the epoch, in training and validation.

    Parameters
    ----------
    history : mapping of str to sequence of float
        ``loss`` and ``accuracy`` or ``rmse``, with or without ``val_`` versions, one
        value an epoch, as in ``History.history``.

    Examples
    --------
    >>> curve = learning_curve({"loss": [1.0, 0.5], "accuracy": [0.6, 0.9]})
    >>> curve.axes[0].get_ylabel()
    'mean loss'
    """
    score = "accuracy" if "accuracy" in history else "rmse"
    result = figure(9, 3.6)
    left, right = result.subplots(1, 2)
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axes, name in ((left, "loss"), (right, score)):
        axes.plot(epochs, history[name], "o-", color=BLUE, label="training")
        if f"val_{name}" in history:
            test = history[f"val_{name}"]
            text = f"test, in the end {test[-1]:.2%}" if name == "accuracy" else "test"
            axes.plot(epochs, test, "s--", color=ORANGE, label=text)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    label(left, "Loss", "epoch", "mean loss")
    if score == "accuracy":
        label(right, "Accuracy", "epoch", "share read right")
        right.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    else:
        label(right, "Error", "epoch", "root mean square error")
    return result


def misread(
    images: Array, labels: Array, predictions: Array, probabilities: Array
) -> Figure:
    """Plot a sheet of misread images, the surest mistakes first.

    Parameters
    ----------
    images : array (N, side, side)
        The misread images, 0 to 1.
    labels, predictions : array (N,)
        What they are and what was read.
    probabilities : array (N, classes)
        What the model thought.
    """
    sure = probabilities.max(axis=1) if len(images) else np.zeros(0)
    shown = np.argsort(-sure, kind="stable")[: _COLUMNS * _ROWS]
    rows = max(1, -(-len(shown) // _COLUMNS))
    result = figure(9, 0.4 + 1.2 * rows)
    result.suptitle(
        f"{len(images)} misread, the {len(shown)} surest mistakes "
        "(digit -> read as, with its probability)",
        fontsize=11,
    )
    grid = result.subplots(rows, _COLUMNS).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, i in zip(grid, shown, strict=False):
        axes.imshow(images[i], cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(f"{labels[i]} -> {predictions[i]}  {sure[i]:.0%}", fontsize=9)
    return result

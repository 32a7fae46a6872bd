"""Figure that compares cells: error and gradient norm against the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastlstm.plot.style import BLUE, GREEN, RED, figure, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

_COLORS = {"rnn": RED, "gru": GREEN, "lstm": BLUE}
_STYLES = {"rnn": ":", "gru": "--", "lstm": "-"}


def cell_comparison(runs: Mapping[str, Mapping[str, tuple[Array, Array]]]) -> Figure:
    """Plot the median of several seeds as a line, smallest to largest as a band.

    Parameters
    ----------
    runs : mapping of setting to mapping of cell to (errors, norms)
        Each array (seeds, epochs): root mean square error on fresh sequences, and mean
        norm of the gradient before clipping.
    """
    result = figure(10, 3.7 * len(runs))
    result.suptitle("Line: median of the seeds; band: smallest to largest", fontsize=11)
    grid = result.subplots(len(runs), 2, squeeze=False)
    for row, (setting, cells) in zip(grid, runs.items(), strict=True):
        for axes, which in zip(row, (0, 1), strict=True):
            for cell, values in cells.items():
                _line(axes, cell, values[which])
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(_minor_label)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(frameon=False)
        label(row[0], f"{setting}: error", "epoch", "rms error, fresh sequences")
        label(row[1], f"{setting}: gradient", "epoch", "mean norm before clipping")
    return result


def _line(axes: Any, cell: str, values: Array) -> None:
    """One cell: median line, band from the smallest to the largest."""
    epochs = np.arange(1, values.shape[1] + 1)
    axes.fill_between(
        epochs, values.min(axis=0), values.max(axis=0), color=_COLORS[cell], alpha=0.15
    )
    axes.plot(
        epochs,
        np.median(values, axis=0),
        _STYLES[cell],
        color=_COLORS[cell],
        lw=2,
        label=f"{cell.upper()}, {len(values)} seeds",
    )


def _minor_label(value: float, _position: int) -> str:
    """Name the twos and fives between powers of ten, the rest would overlap."""
    return f"{value:g}" if f"{value:.0e}"[0] in "25" else ""

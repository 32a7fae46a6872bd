"""Figures of the noisy sine: one ahead, thirty ahead, a whole curve from one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastlstm.plot.style import BLUE, GREEN, GREY, RED, figure, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

_TIME = "time (rad)"
_VALUE = "value"


def one_ahead(
    times: Array, noisy: Array, clean: Array, predicted: Array, rmse: float
) -> Figure:
    """Plot a noisy curve and, at every step, the value predicted from 30 before it.

    Parameters
    ----------
    times, noisy, clean : array (K,)
        The curve as measured and as it is.
    predicted : array (K - 30,)
        Predictions of values 30 .. K-1.
    rmse : float
        Over many sequences, for the title.
    """
    result = figure(9, 4.2)
    above, below = result.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    seen = len(times) - len(predicted)
    above.plot(times, clean, color=GREY, lw=1, label="clean sine")
    above.plot(times, noisy, ".", color=BLUE, ms=5, label="noisy samples")
    above.plot(
        times[seen:], predicted, "x", color=RED, ms=5, label="predicted one ahead"
    )
    above.legend(frameon=False, ncols=3, loc="upper center")
    above.set_ylim(-1.25, 1.55)
    label(above, f"One value ahead from 30 samples (rms error {rmse:.4f})", "", _VALUE)
    below.axhline(0, color=GREY, lw=1)
    below.plot(times[seen:], predicted - clean[seen:], color=RED)
    label(below, "", _TIME, "error")
    return result


def thirty_ahead(
    times: Array, noisy: Array, clean: Array, predicted: Array, rmse: float
) -> Figure:
    """Plot some sequences of 30 samples, each continued by 30 fed-back predictions.

    Parameters
    ----------
    times : array (60,)
    noisy : array (S, 30)
        What the model saw.
    clean : array (S, 60)
    predicted : array (S, 30)
        Values 30 .. 59, each fed back to predict the next.
    rmse : float
        Over many sequences, for the title.
    """
    result = figure(9, 2.0 * len(noisy) + 0.6)
    rows = result.subplots(len(noisy), 1, sharex=True, squeeze=False)[:, 0]
    for axes, seen, true, guess in zip(rows, noisy, clean, predicted, strict=True):
        axes.plot(times, true, color=GREY, lw=1, label="clean sine")
        axes.plot(times[:30], seen, ".", color=BLUE, label="noisy samples seen")
        axes.plot(times[30:], guess, "x", color=RED, ms=5, label="predictions fed back")
        label(axes, "", "", _VALUE)
    label(
        rows[0],
        f"30 values ahead by feeding predictions back (rms error {rmse:.4f})",
        "",
        _VALUE,
    )
    rows[-1].set_xlabel(_TIME)
    rows[0].set_ylim(-1.2, 1.75)
    rows[0].legend(frameon=False, ncols=3, loc="upper center")
    return result


def from_one_value(
    times: Array, clean: Array, fresh: Array, recurrent: Array
) -> Figure:
    """Plot the curve generated from its first value alone, in two ways.

    Parameters
    ----------
    times, clean : array (K,)
        The curve whose first value is the seed.
    fresh : array (K,)
        Each value predicted from the one before it with a fresh state.
    recurrent : array (K,)
        Each value predicted from the one before it with the state carried on.
    """
    result = figure(9, 3.8)
    axes = result.subplots()
    axes.plot(times, clean, color=GREY, lw=1, label="clean sine")
    axes.plot(
        times, fresh, "--", color=GREEN, label="fresh state: knows one value only"
    )
    axes.plot(times, recurrent, color=RED, label="state carried on")
    axes.plot(times[:1], clean[:1], "o", color=BLUE, ms=8, label="seed value")
    low, high = np.min([clean, fresh, recurrent]), np.max([clean, fresh, recurrent])
    axes.set_ylim(low - 0.1, high + 0.55)
    axes.legend(frameon=False, ncols=2, loc="upper center")
    label(axes, "The whole curve from a single seed value", _TIME, _VALUE)
    return result

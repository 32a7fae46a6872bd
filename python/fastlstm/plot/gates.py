"""Figure of what a cell did: gates, and c of an LSTM, at every step of a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastlstm.plot.style import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

# Gates in the order of a tape: name, and whether the values have a sign.
_GATES = {
    4: [
        ("input gate i", False),
        ("forget gate f", False),
        ("candidate g", True),
        ("output gate o", False),
    ],
    3: [("reset gate r", False), ("update gate z", False), ("candidate n", True)],
    1: [("state h", True)],
}


def gates(tape: Any, *, sequence: int = 0, layer: int = -1) -> Figure:
    """Plot gates as images: steps from left to right, units from top to bottom.

    Parameters
    ----------
    tape
        From `forward` of an LSTM, GRU or RNN, without `checkpoint_every`.
    sequence : int
        Which one of the batch.
    layer : int
        Which layer; the last one unless given. Both directions' units are stacked.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> from fastlstm import plot
    >>> _, _, tape = fl.LSTM(1, 8, rng=0).forward(np.ones((20, 1, 1), np.float32))
    >>> [axes.get_title(loc="left") for axes in plot.gates(tape).axes[:2]]
    ['input gate i', 'forget gate f']
    """
    values = tape.gates_of(layer)
    images = [
        (title, signed, _one(tape, part, sequence))
        for (title, signed), part in zip(_GATES[len(values)], values, strict=True)
    ]
    if len(values) == 4:
        images.append(("cell state c", True, _one(tape, tape.cell_of(layer), sequence)))
    result = figure(9, 1.9 * len(images) + 0.4)
    rows = result.subplots(len(images), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, signed, image) in zip(rows, images, strict=True):
        _draw(axes, title, signed, image)
    rows[-1].set_xlabel("step")
    return result


def _one(tape: Any, values: Array, sequence: int) -> Array:
    """Values (T, U) of one sequence of a batch."""
    if values.ndim == 2:
        return values
    return values[sequence] if tape.batch_first else values[:, sequence]


def _draw(axes: Any, title: str, signed: bool, image: Array) -> None:
    # A gate is between 0 and 1, a candidate between -1 and 1 unless it is larger.
    largest = max(1.0, float(np.abs(image).max(initial=0)))
    shown = axes.imshow(
        image.T,
        aspect="auto",
        interpolation="nearest",
        cmap="RdBu_r" if signed else "viridis",
        vmin=-largest if signed else 0,
        vmax=largest,
    )
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_ylabel("unit")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.figure.colorbar(shown, ax=axes, pad=0.01)

"""What all figures share: size, colours, saving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlstm._extras import require
from fastlstm._files import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"

_DPI = 120


def figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    module = require("matplotlib.figure", extra="demo", what="plotting")
    result: Figure = module.Figure(figsize=(width, height), layout="constrained")
    return result


def label(axes: Any, title: str, x: str, y: str) -> None:
    """Title and axis labels, a light grid, no box."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a PNG, whole or not at all, and return its path.

    Parameters
    ----------
    figure : Figure
    path : path-like
        Where to; a file there is replaced.
    """
    target = Path(path)
    with replace_file(target) as file:
        figure.savefig(file, format="png", dpi=_DPI)
    return target

"""Figures of training runs and predictions; needs matplotlib (extra ``demo``).

Every function returns a `matplotlib.figure.Figure` of its own; no global state is used.
"""

from fastlstm.plot.compare import cell_comparison
from fastlstm.plot.gates import gates
from fastlstm.plot.sine import from_one_value, one_ahead, thirty_ahead
from fastlstm.plot.style import save
from fastlstm.plot.training import learning_curve, misread

__all__ = [
    "cell_comparison",
    "from_one_value",
    "gates",
    "learning_curve",
    "misread",
    "one_ahead",
    "save",
    "thirty_ahead",
]

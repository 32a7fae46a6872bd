"""Draw cell.svg, the data flow of the LSTM cell in the code's names.

Run: python docs/draw_cell.py [FILE]; needs matplotlib.
"""

import sys
from itertools import pairwise

from matplotlib.figure import Figure

INK, GATE, STATE = "#222222", "#dbe9f6", "#fdebd0"


def main() -> None:
    """Draw and save."""
    figure = Figure(figsize=(9, 5.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 18)
    axes.set_ylim(0, 10.4)
    axes.axis("off")

    def box(x, y, text, color):
        axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=12,
            color=INK,
            bbox={"boxstyle": "round,pad=0.45", "fc": color, "ec": INK},
        )

    def arrow(*points):
        for start, end in pairwise(points[:-1]):
            axes.plot(*zip(start, end, strict=True), color=INK, lw=1.4)
        axes.annotate(
            "",
            points[-1],
            points[-2],
            arrowprops={
                "arrowstyle": "-|>",
                "color": INK,
                "lw": 1.4,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )

    def dot(x, y, text):
        axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=14,
            color=INK,
            bbox={"boxstyle": "circle,pad=0.25", "fc": "white", "ec": INK},
        )

    gates = {"f": 4.2, "i": 6.6, "g": 9.0, "o": 11.4}
    names = {"f": "f = s(.)", "i": "i = s(.)", "g": "g = tanh(.)", "o": "o = s(.)"}
    box(9, 1.2, "gates = bias + weight_ih x_t + weight_hh h_{t-1}     (4H)", GATE)
    for name, x in gates.items():
        box(x, 3.9, names[name], GATE)
        arrow((x, 1.85), (x, 3.3))
    for x, text in ((1.2, "h_{t-1}"), (1.2, "x_t")):
        y = 1.5 if text.startswith("h") else 0.8
        axes.text(x, y, text, ha="center", va="center", fontsize=13, color=INK)
        arrow((2.1, y), (3.8, y))

    axes.text(1.2, 8.4, "c_{t-1}", ha="center", va="center", fontsize=13, color=INK)
    arrow((2.1, 8.4), (3.75, 8.4))
    dot(4.2, 8.4, "x")
    arrow((4.2, 4.5), (4.2, 7.95))
    dot(7.8, 6.2, "x")
    arrow((6.6, 4.5), (6.6, 6.2), (7.35, 6.2))
    arrow((9.0, 4.5), (9.0, 6.2), (8.25, 6.2))
    dot(7.8, 8.4, "+")
    arrow((4.65, 8.4), (7.35, 8.4))
    arrow((7.8, 6.65), (7.8, 7.95))
    arrow((8.25, 8.4), (16.4, 8.4))
    axes.text(17.0, 8.4, "c_t", ha="center", va="center", fontsize=13, color=INK)
    box(13.6, 6.9, "tanh", STATE)
    arrow((13.6, 8.4), (13.6, 7.45))
    dot(13.6, 5.2, "x")
    arrow((13.6, 6.35), (13.6, 5.65))
    arrow((11.4, 4.5), (11.4, 5.2), (13.15, 5.2))
    arrow((14.05, 5.2), (16.4, 5.2))
    axes.text(17.0, 5.2, "h_t", ha="center", va="center", fontsize=13, color=INK)
    axes.text(
        9,
        9.7,
        "c_t = f * c_{t-1} + i * g          h_t = o * tanh(c_t)",
        ha="center",
        va="center",
        fontsize=12,
        color=INK,
    )
    axes.text(
        5.0, 7.7, "forget", ha="center", fontsize=10, color="#555555", style="italic"
    )
    axes.text(
        9.2,
        7.1,
        "what enters",
        ha="center",
        fontsize=10,
        color="#555555",
        style="italic",
    )
    figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "docs/cell.svg")


if __name__ == "__main__":
    main()

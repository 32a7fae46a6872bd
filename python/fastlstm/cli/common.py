"""What the commands share: options, number types, the output folder, tables."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fastlstm.runtime import set_num_threads


def positive_int(text: str) -> int:
    """Return an integer >= 1; for argparse.

    Examples
    --------
    >>> positive_int("12")
    12
    """
    return _checked_int(text, 1)


def seed_int(text: str) -> int:
    """Return an integer >= 0; for argparse."""
    return _checked_int(text, 0)


def positive_float(text: str) -> float:
    """Return a finite number > 0; for argparse.

    Examples
    --------
    >>> positive_float("1e-3")
    0.001
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be finite and above 0, got {text!r}")
    return value


def add_common(parser: argparse.ArgumentParser, out: str | None = None) -> None:
    """Add --seed and --threads, and with an output folder --out and --quiet."""
    parser.add_argument(
        "--seed", type=seed_int, default=0, metavar="N", help="of all random numbers"
    )
    parser.add_argument(
        "--threads", type=positive_int, metavar="N", help="at most; default: all CPUs"
    )
    if out is not None:
        parser.add_argument(
            "--out",
            type=Path,
            default=Path(out),
            metavar="DIR",
            help="folder for the results (default: %(default)s)",
        )
        parser.add_argument("--quiet", action="store_true", help="no progress bars")


def set_threads(args: argparse.Namespace) -> None:
    """Apply --threads."""
    if args.threads is not None:
        set_num_threads(args.threads)


def prepare(args: argparse.Namespace) -> Path:
    """Apply --threads; make the output folder and try it, before any work.

    Raises
    ------
    OSError
        If the folder cannot be made or written to; it names the folder.
    """
    set_threads(args)
    folder: Path = args.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"--out {folder} is not writable: {error.strerror}") from error
    return folder


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table: first column to the left, the others to the right.

    Examples
    --------
    >>> print(table(["task", "s"], [["mnist", "4.0"], ["sine", "12.5"]]))
    task      s
    -----  ----
    mnist   4.0
    sine   12.5
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _checked_int(text: str, minimum: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = minimum - 1
    if not minimum <= value < 2**31:
        raise argparse.ArgumentTypeError(
            f"must be an integer from {minimum} to 2147483647, got {text!r}"
        )
    return value

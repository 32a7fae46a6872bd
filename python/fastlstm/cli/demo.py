"""``fastlstm demo``: both tasks from training to plots, in under a minute."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fastlstm.cli import mnist, sine
from fastlstm.cli.common import add_common, prepare, table

# Few images, for a quick look at whether everything works.
_QUICK_IMAGES = 2000


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "demo",
        help="train both tasks, print a table, write the plots",
        description="Train the digits and the noisy sine, print a table of results "
        "and write the plots. Uses MNIST if it is at hand or can be downloaded, else "
        "scikit-learn's digits.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="less training, to try the installation"
    )
    add_common(parser, out="fastlstm-demo")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, print the table, plot."""
    folder = prepare(args)
    rows, paths = [], []
    for task in (_digits, _sine):
        task_rows, task_paths = task(args, folder)
        rows += task_rows
        paths += task_paths
    header = ["task", "samples/s", "seconds", "result", "limit"]
    print("\n" + table(header, rows))
    for path in paths:
        print(f"wrote {path}")
    return 0


def _images(args: argparse.Namespace) -> mnist.Images:
    """MNIST, or the digits where it cannot be had."""
    try:
        return mnist.mnist_images(28, None, _QUICK_IMAGES if args.quick else None)
    except (ConnectionError, ImportError) as error:
        print(f"using scikit-learn's digits: {error}", file=sys.stderr)
        return mnist.digits_images()


def _digits(
    args: argparse.Namespace, folder: Path
) -> tuple[list[list[str]], list[Path]]:
    images = _images(args)
    print(f"Digits: {images.name}, {len(images.x)} training images", flush=True)
    small = images.side < 28
    preset = mnist.Preset(
        128, 1, 10 if small else 1 if args.quick else 2, 64, 1e-2, restarts=not small
    )
    args.cell_activation = args.output_activation = "tanh"
    result = mnist.train(images, preset, args)
    row = [
        images.name,
        f"{result.samples / result.seconds:,.0f}",
        f"{result.seconds:.1f}",
        f"{result.accuracy:.2%} right",
        "",
    ]
    return [row], mnist.write_plots(result, images, folder)


def _sine(args: argparse.Namespace, folder: Path) -> tuple[list[list[str]], list[Path]]:
    print("Noisy sine: the next value from 30", flush=True)
    result = sine.train(args.seed, progress=not args.quiet)
    errors = result.errors
    speed = [f"{result.samples / result.seconds:,.0f}", f"{result.seconds:.1f}"]
    rows = [
        [
            "sine, 1 ahead",
            *speed,
            f"rms {errors.one:.4f}",
            f"{errors.limit_one:.4f}",
        ],
        [
            "sine, 30 ahead",
            "",
            "",
            f"rms {errors.thirty:.4f}",
            f"{errors.limit_thirty:.4f}",
        ],
    ]
    return rows, sine.write_plots(result, folder)

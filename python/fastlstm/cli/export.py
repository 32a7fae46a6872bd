"""``fastlstm export``: a model file as one header of C or C++."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import fastlstm as fl
from fastlstm.cli.common import add_common, set_threads


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "export",
        help="write a model as one header of C or C++",
        description="Write a model as one self-contained header: weights, a step "
        "function and a self-test; no library and no heap are needed to run it.",
    )
    parser.add_argument("model", type=Path, help="a .safetensors file")
    parser.add_argument(
        "--cpp", type=Path, metavar="FILE", help="C++11 header to write"
    )
    parser.add_argument("--c", type=Path, metavar="FILE", help="C99 header to write")
    parser.add_argument(
        "--name", help="namespace or prefix of all names (default: the file's stem)"
    )
    parser.add_argument(
        "--int8", action="store_true", help="one byte a weight, one factor a row"
    )
    add_common(parser)
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Write the headers and print what they take."""
    if args.cpp is None and args.c is None:
        args.parser.error("give --cpp FILE, --c FILE or both")
    set_threads(args)
    model = fl.load(args.model)
    for language, path in (("c++", args.cpp), ("c", args.c)):
        if path is None:
            continue
        report = fl.export.to_header(
            model,
            path,
            language=language,
            name=args.name,
            int8=args.int8,
            rng=args.seed,
        )
        sizes = report.sizes
        lines = [
            ("header", f"{path} ({path.stat().st_size:,} bytes of text)"),
            ("name", report.name),
            ("weights", f"{sizes.weights:,} bytes, constant"),
            ("state", f"{sizes.state:,} bytes a stream"),
            ("stack", f"about {sizes.stack:,} bytes"),
            ("work", f"{sizes.multiply_adds:,} multiply-adds a step"),
        ]
        if report.int8_error is not None:
            lines.append(
                ("int8 error", f"{report.int8_error:.2%} of the outputs' rms, on noise")
            )
        for label, value in lines:
            print(f"{label + ':':<14} {value}")
    return 0

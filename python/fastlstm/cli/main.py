"""Command line: parses arguments, runs a command, turns errors into one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from fastlstm.runtime import __version__

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    from fastlstm.cli import bench, demo, export, info, mnist, sine

    parser = argparse.ArgumentParser(
        prog="fastlstm", description="LSTM, GRU and RNN for the CPU."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="command", required=True)
    for command in (demo, mnist, sine, info, export, bench):
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; ``sys.argv[1:]`` if left out.

    Returns
    -------
    int
        0 if all went well, 1 if it failed, 130 if interrupted; wrong usage exits
        with 2 at once. FASTLSTM_DEBUG=1 shows the traceback of a failure.

    Examples
    --------
    >>> main(["info", "missing.safetensors"])
    1
    """
    args = build_parser().parse_args(argv)
    try:
        code: int = args.run(args)
    except KeyboardInterrupt:
        print("fastlstm: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (
        ArithmeticError,
        ImportError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        if os.environ.get("FASTLSTM_DEBUG") == "1":
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"fastlstm: error: {text}", file=sys.stderr)
        return EXIT_FAILED
    return code

"""Compare the memory that a training step takes here and in PyTorch.

Each library runs in a process of its own. What counts is the peak of its resident
memory over a few training steps, above that after import: parameters, gradients, x and
the gradient of the output are part of it on both sides.

Run: python benchmarks/memory.py [--threads N] [--shapes NAME ...]
     [--python torch=/path/to/python]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from shapes import SHAPES

_STEPS = 3
_MIB = 1 << 20


def main() -> None:
    """Measure and print the table."""
    names = [shape.name for shape in SHAPES if shape.train]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", nargs="*", choices=names, default=names)
    parser.add_argument("--python", nargs="*", default=[], metavar="PEER=PATH")
    args = parser.parse_args()
    pythons = dict(pair.split("=", 1) for pair in args.python)
    print(f"peak memory of {_STEPS} training steps, MiB; {args.threads} thread(s)")
    print(f"{'shape I/H/L/T/N':<32}{'fastlstm':>10}{'torch':>10}{'ratio':>8}")
    for shape in SHAPES:
        if shape.name not in args.shapes:
            continue
        peaks = []
        for peer in ("fastlstm", "torch"):
            worker = str(Path(__file__).with_name("worker.py"))
            python = pythons.get(peer, sys.executable)
            question = {"ask": "memory", "problem": shape._asdict(), "steps": _STEPS}
            done = subprocess.run(
                [python, worker, peer, str(args.threads), "auto"],
                input=json.dumps(question) + "\n",
                capture_output=True,
                text=True,
                check=True,
            )
            peaks.append(json.loads(done.stdout.splitlines()[-1])["bytes"])
        label = f"{shape.name} {shape.sizes}"
        ours, theirs = (peak / _MIB for peak in peaks)
        print(
            f"{label:<32}{ours:>10.1f}{theirs:>10.1f}{ours / theirs:>8.2f}", flush=True
        )


if __name__ == "__main__":
    main()

"""Time this package and other libraries side by side; see benchmarks/README.md.

Every library runs in a process of its own, pinned to the same CPUs. They are called in
turn, round after round, so that drift of the machine falls on all alike; whoever waits
is stopped (SIGSTOP), so that no spinning thread disturbs the one that is timed. Before
that, all results are compared with those of this package.

Run: python benchmarks/compare.py [--threads N] [--shapes NAME ...] [--peers NAME ...]
     [--rounds N] [--python torch=/path/to/python] [--isa avx2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from shapes import SHAPES

import fastlstm as fl
from fastlstm.cli.bench import limits_table
from fastlstm.cli.work import Shape
from fastlstm.runtime import Limits

PEERS = ("fastlstm", "torch", "tensorflow", "jax", "onnxruntime", "numpy")
_SECONDS = 0.25  # of one library in one round
# Largest difference of results, relative to the largest value of an array: ten times
# what different orders of summation give in float32 on the longest shape.
_TOLERANCE = 1e-4
_HELD = {
    "auto": {},
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",  # PyTorch, TensorFlow
        "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",  # PyTorch
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",  # JAX, TensorFlow
        "OPENBLAS_CORETYPE": "Haswell",  # NumPy
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX X86_V4",
    },
}


class Peer:
    """A library in its own process, stopped unless it is asked something."""

    def __init__(self, name: str, python: str, threads: int, isa: str) -> None:
        self.name = name
        counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        worker = str(Path(__file__).with_name("worker.py"))
        self._process = subprocess.Popen(
            [python, worker, name, str(threads), isa],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **dict.fromkeys(counts, str(threads)), **_HELD[isa]},
        )
        self.start = self._answer()
        self._pause()

    def ask(self, question: str, **details: Any) -> dict[str, Any]:
        """Let it run one question; the answer has "error" if it could not."""
        if self._process.poll() is not None or self._process.stdin is None:
            return {"error": "it has ended"}
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps({"ask": question, **details}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self._pause()
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": "it ended without an answer"}

    def _pause(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)


def start_peers(args: argparse.Namespace) -> list[Peer]:
    """Start every library that can be imported; say which."""
    pythons = dict(pair.split("=", 1) for pair in args.python)
    peers = []
    for name in args.peers:
        peer = Peer(name, pythons.get(name, sys.executable), args.threads, args.isa)
        if "error" in peer.start:
            print(f"{name} is left out: {peer.start['error']}")
        else:
            peers.append(peer)
            print(f"{name} {peer.start['version']}")
    return peers


def prepare(peers: list[Peer], shape: Shape) -> dict[Peer, dict[str, Any]]:
    """Set up a shape everywhere; return who can do it, how, and how exactly."""
    ready: dict[Peer, dict[str, Any]] = {}
    reference: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for peer in peers:
            path = f"{folder}/{peer.name}.npz"
            answer = peer.ask("prepare", problem=shape._asdict(), results=path)
            if "error" in answer:
                if "NotImplemented" not in answer["error"]:
                    print(f"  {peer.name}: {answer['error']}")
                continue
            with np.load(path) as file:
                results = dict(file)
            Path(path).unlink()
            reference = reference or results
            answer["difference"] = difference(results, reference)
            if answer["difference"] > _TOLERANCE:
                print(f"  {peer.name} differs by {answer['difference']:.1e}")
                continue
            ready[peer] = answer
    return ready


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Return the largest difference of any array, relative to its largest value."""
    if a.keys() != b.keys() or any(a[k].shape != b[k].shape for k in a):
        return float("inf")
    return max(float(np.abs(a[k] - b[k]).max() / np.abs(b[k]).max()) for k in a)


def measure(ready: dict[Peer, dict[str, Any]], rounds: int) -> None:
    """Add to every library's entry its times in seconds, one a round."""
    for entry in ready.values():
        entry["rounds"] = []
    for _ in range(rounds):
        for peer, entry in ready.items():
            answer = peer.ask("time", seconds=_SECONDS)
            if "seconds" in answer:
                entry["rounds"].append(answer["seconds"])
    for entry in ready.values():
        entry["seconds"] = statistics.median(entry["rounds"] or [float("nan")])


def summary(shape: Shape, times: dict[str, float], limits: Limits) -> dict[str, Any]:
    """Return best peer, ratio to it, GFLOP/s and share of the limit of this package."""
    others = {name: s for name, s in times.items() if name != "fastlstm"}
    best = min(others, key=lambda name: others[name]) if others else None
    found: dict[str, Any] = {"best_peer": best}
    if ours := times.get("fastlstm"):
        found["ratio"] = others[best] / ours if best else None
        found["gflops"] = shape.flops / ours / 1e9
        found["share_of_limit"] = shape.least_seconds(limits) / ours
    return found


def print_row(
    shape: Shape, names: list[str], times: dict[str, float], row: Any
) -> None:
    """Print a row as soon as it is there: it may be long until the next one."""
    label = f"{shape.name} {shape.sizes}" + (" bi" if shape.bidirectional else "")
    line = f"{label:<34}"
    for name in names:
        ms = f"{times[name] * 1e3:.4g}" if name in times else "-"
        line += f"{ms:>{max(len(name), 8) + 1}}"
    ratio = f"{row['ratio']:.2f}" if row.get("ratio") else "-"
    line += f"{ratio:>7} {row['best_peer'] or '':<12}"
    if "gflops" in row:
        line += f"{row['gflops']:>7.0f}{row['share_of_limit']:>9.0%}"
    print(line, flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    names = [shape.name for shape in SHAPES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", choices=names, default=names)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument(
        "--python",
        nargs="*",
        default=[],
        metavar="PEER=PATH",
        help="run a library in another environment, which needs NumPy too",
    )
    parser.add_argument(
        "--isa",
        choices=_HELD,
        default="auto",
        help="hold every library to it, and leave out those that cannot be held",
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def main() -> None:
    """Measure and print the table."""
    args = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    fl.set_isa(args.isa)
    limits = fl.machine_limits(args.threads, seconds=2.0)
    cpu = fl.cpu_info()
    print(f"{cpu['name']}, {cpu['isa']}\n{limits_table([limits])}\n")
    peers = start_peers(args)
    names = [peer.name for peer in peers]
    results = {}
    try:
        print(
            f"\n{args.threads} thread(s), medians in ms; results agree with the first"
        )
        head = "".join(f"{name:>{max(len(name), 8) + 1}}" for name in names)
        print(f"{'shape I/H/L/T/N':<34}{head}  ratio best peer   GFLOP/s of limit")
        for shape in SHAPES:
            if shape.name not in args.shapes:
                continue
            ready = prepare(peers, shape)
            measure(ready, args.rounds)
            times = {peer.name: entry["seconds"] for peer, entry in ready.items()}
            row = summary(shape, times, limits)
            by_name = {peer.name: entry for peer, entry in ready.items()}
            results[shape.name] = {"shape": shape._asdict(), **row, "peers": by_name}
            print_row(shape, names, times, row)
    finally:
        for peer in peers:
            peer.close()
    if args.json is not None:
        document = {
            "cpu": cpu["name"],
            "isa": cpu["isa"],
            "threads": args.threads,
            "limits": limits._asdict(),
            "versions": {peer.name: peer.start["version"] for peer in peers},
            "results": results,
        }
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()

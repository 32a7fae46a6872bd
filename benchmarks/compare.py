"""Time this package and other libraries side by side; see benchmarks/README.md.

Every library runs in a process of its own, pinned to the same CPUs. They are called in
turn, round after round, so that drift of the machine falls on all alike; whoever waits
is stopped (SIGSTOP), so that no spinning thread disturbs the one that is timed.

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
import time
from pathlib import Path

from peers import PEERS, Work
from shapes import SHAPES, Shape

_SECONDS = 0.25  # of one library in one round


class Peer:
    """A library in its own process, stopped unless it is asked something."""

    def __init__(self, name: str, python: str, threads: int, isa: str) -> None:
        self.name = name
        caps = {"avx2": "AVX2", "avx512": "AVX512_CORE"}
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        if isa in caps:
            environment["ONEDNN_MAX_CPU_ISA"] = caps[isa]
        self._process = subprocess.Popen(
            [python, __file__, "--worker", name, str(threads), isa],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.version = self._answer()
        self._pause()

    def ask(self, question: str) -> float | None:
        """Let it run one question; None if it cannot answer."""
        if self._process.poll() is not None or self._process.stdin is None:
            return None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self._pause()
        return float(answer) if answer else None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _pause(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)


def worker(name: str, threads: int, isa: str) -> None:
    """Answer `prepare INDEX` with one warm time, `time` with a median; in seconds."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:threads])
    module = __import__(name)
    print(getattr(module, "__version__", "unknown"), flush=True)
    work: Work = lambda: None  # noqa: E731  (replaced by prepare)
    for line in sys.stdin:
        question, *arguments = line.split()
        if question == "prepare":
            work = PEERS[name](SHAPES[int(arguments[0])], threads, isa)
            work()
        print(median_time(work, _SECONDS if question == "time" else 0), flush=True)


def median_time(work: Work, seconds: float) -> float:
    """Median time of a call, over at least `seconds`."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(peers: list[Peer], shape: Shape, rounds: int) -> dict[str, float]:
    """Return the median over rounds of every library that can run the shape."""
    index = SHAPES.index(shape)
    ready = [peer for peer in peers if peer.ask(f"prepare {index}") is not None]
    times: dict[str, list[float]] = {peer.name: [] for peer in ready}
    for _ in range(rounds):
        for peer in ready:
            seconds = peer.ask("time")
            if seconds is not None:
                times[peer.name].append(seconds)
    return {name: statistics.median(list_) for name, list_ in times.items() if list_}


def start_peers(args: argparse.Namespace) -> list[Peer]:
    """Start every library that can be imported; say which."""
    pythons = dict(pair.split("=", 1) for pair in args.python)
    peers = []
    for name in args.peers:
        python = pythons.get(name, sys.executable)
        peer = Peer(name, python, args.threads, args.isa)
        if peer.version:
            peers.append(peer)
            print(f"{name} {peer.version}")
        else:
            print(f"{name} is not installed")
    return peers


def main() -> None:
    """Measure and print the table."""
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], int(sys.argv[3]), sys.argv[4])
        return
    names = [shape.name for shape in SHAPES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", choices=names, default=names)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--python", nargs="*", default=[], metavar="PEER=PATH")
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    peers = start_peers(args)
    results = {}
    try:
        print(f"\n{args.threads} thread(s), medians in ms")
        for shape in SHAPES:
            if shape.name not in args.shapes:
                continue
            times = measure(peers, shape, args.rounds)
            results[shape.label] = times
            print_row(shape, times)
    finally:
        for peer in peers:
            peer.close()
    if args.json is not None:
        versions = {peer.name: peer.version for peer in peers}
        document = {"versions": versions, "threads": args.threads, "seconds": results}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def print_row(shape: Shape, times: dict[str, float]) -> None:
    """Print a row as soon as it is there: it may be long until the next one."""
    cells = [f"{name} {seconds * 1e3:9.3f}" for name, seconds in times.items()]
    others = [seconds for name, seconds in times.items() if name != "fastlstm"]
    if "fastlstm" in times:
        ours = times["fastlstm"]
        cells.append(f"{shape.flops / ours / 1e9:5.0f} GFLOP/s")
        if others:
            cells.append(f"best other / fastlstm {min(others) / ours:5.2f}")
    print(f"{shape.label:<46}" + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()

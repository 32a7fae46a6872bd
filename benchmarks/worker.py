"""One library in a process of its own; compare.py starts it and asks it things.

Questions and answers are lines of JSON on standard input and output. An environment
that runs a worker needs NumPy and the library, not this package.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import PEERS, Candidate, Prepare, Problem


def main(name: str, threads: int, isa: str) -> None:
    """Answer questions until there are no more."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:threads])
    # Libraries print; only answers may reach the other side.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        prepare = PEERS[name](threads, isa)
        distribution = {"tensorflow": "tensorflow-cpu"}.get(name, name)
        answer({"version": importlib.metadata.version(distribution)})
    except ImportError as error:
        answer({"error": str(error)})
        return
    best: Candidate | None = None
    for line in sys.stdin:
        question = json.loads(line)
        if question["ask"] == "prepare":
            best = None  # frees memory first
            problem = Problem(**question["problem"])
            try:
                best, found = fastest(prepare(problem))
                np.savez(question["results"], **best.results())
                answer(found)
            except Exception as error:  # the other side reports it
                best = None
                answer({"error": f"{type(error).__name__}: {error}"})
        elif question["ask"] == "memory":
            answer({"bytes": step_memory(prepare, question)})
        elif best is not None:
            answer({"seconds": median_time(best.run, question["seconds"])})


def fastest(candidates: list[Candidate]) -> tuple[Candidate, dict[str, Any]]:
    """Try the ways that a library offers; return the fastest, warm, and all times."""
    times = {}
    for candidate in candidates:
        candidate.run()  # compiles, allocates
        many = len(candidates) > 1
        times[candidate.name] = median_time(candidate.run, 0.2) if many else 0.0
    best = min(candidates, key=lambda candidate: times[candidate.name])
    return best, {"way": best.name, "tried": times}


def step_memory(prepare: Prepare, question: dict[str, Any]) -> int:
    """Return the peak of resident bytes in some steps, above that after import."""
    imported = _status_bytes("VmRSS")
    work = prepare(Problem(**question["problem"]))[0].run
    # Forget the peak so far, of making the data.
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(question["steps"]):
        work()
    return _status_bytes("VmHWM") - imported


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise ValueError(f"{field} is not in /proc/self/status")


def median_time(work: Callable[[], object], seconds: float) -> float:
    """Median time of a call, over at least `seconds`."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

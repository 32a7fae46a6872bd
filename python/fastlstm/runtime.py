"""The process: instruction set, threads, CPU and build."""

from __future__ import annotations

import platform
from typing import Any, NamedTuple

import numpy as np

from fastlstm import _core

__version__: str = _core.version


def set_isa(name: str) -> None:
    """Force the instruction set of the kernels.

    Parameters
    ----------
    name : {"auto", "scalar", "avx2", "avx512", "amx", "neon"}
        ``"auto"`` is the best that this CPU has. The environment variable
        FASTLSTM_ISA sets it at the first use. Results of different instruction sets
        agree to rounding, not to the bit.

    Raises
    ------
    ValueError
        If this build or this CPU lacks it.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.set_isa("scalar")
    >>> fl.cpu_info()["isa"]
    'scalar'
    >>> fl.set_isa("auto")
    """
    _core.set_isa(name)


def get_num_threads() -> int:
    """Return the most threads that one call may use.

    The default is FASTLSTM_NUM_THREADS, else the CPUs of the affinity mask within the
    container's quota. Results never depend on it, and no call uses more threads than
    there are CPUs.
    """
    return _core.num_threads()


def set_num_threads(n: int) -> None:
    """Set the most threads that one call may use.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Examples
    --------
    >>> import fastlstm as fl
    >>> before = fl.get_num_threads()
    >>> fl.set_num_threads(1)
    >>> fl.get_num_threads()
    1
    >>> fl.set_num_threads(before)
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"n must be an int from 1 to 1024, got {n!r}")
    if not 1 <= n <= 1024:
        raise ValueError(f"n must be an int from 1 to 1024, got {n}")
    _core.set_num_threads(int(n))


def cpu_info() -> dict[str, Any]:
    """Return what this CPU offers and what is in use.

    Returns
    -------
    dict
        ``name``, ``machine``, ``cpus`` that this process may use, ``isas`` that build
        and CPU have (worst first), ``isa`` and ``threads`` in force.

    Examples
    --------
    >>> import fastlstm as fl
    >>> "scalar" in fl.cpu_info()["isas"]
    True
    """
    return {
        "name": _core.cpu_name(),
        "machine": platform.machine(),
        "cpus": _core.available_cpus(),
        "isas": _core.available_isas(),
        "isa": _core.isa(),
        "threads": _core.num_threads(),
    }


class Limits(NamedTuple):
    """What some threads of this machine can do at most; see `machine_limits`."""

    threads: int
    flops: float
    """Floating-point operations a second; a multiply-add is two."""
    reads: tuple[tuple[str, int, float], ...]
    """Name of each level of memory, bytes that it holds for these threads, and bytes
    that they read from it in a second; nearest first."""

    def read_seconds(self, size: int) -> float:
        """Return the least time for reading `size` bytes that are read ever again.

        The nearest levels keep what they hold, so only the rest comes from farther.

        Examples
        --------
        >>> limits = Limits(1, 1e9, (("L1", 100, 10.0), ("memory", 1 << 60, 5.0)))
        >>> limits.read_seconds(50), limits.read_seconds(150)
        (5.0, 20.0)
        """
        seconds, nearer = 0.0, 0
        for _, holds, rate in self.reads:
            here = min(size, holds) - nearer
            if here > 0:
                seconds += here / rate
                nearer = min(size, holds)
        return seconds


_CACHES = (("L1", 1, 32 << 10), ("L2", 2, 512 << 10), ("L3", 3, 8 << 20))
"""Name, level, and the size to assume where the system does not tell."""
_LARGEST_CACHE_READ = 16 << 20
"""A virtual machine is told of its host's whole L3, of which it has a part."""
_LARGEST_READ = 512 << 20


def machine_limits(threads: int = 1, *, seconds: float = 0.5) -> Limits:
    """Measure what this machine can do at most, with the instruction set in force.

    Parameters
    ----------
    threads : int
        That work together.
    seconds : float
        How long to measure, about; longer finds more undisturbed moments.

    Returns
    -------
    Limits
        In float32: multiply-adds from registers alone, and reads from the caches and
        from memory.

    Examples
    --------
    >>> import fastlstm as fl
    >>> limits = fl.machine_limits(seconds=0.01)
    >>> [name for name, _, _ in limits.reads]
    ['L1', 'L2', 'L3', 'memory']
    """
    share = seconds / 5
    flops = _core.probe_flops(threads, share)
    reads = []
    for name, level, assumed in _CACHES:
        cache = _core.cache_bytes(level) or assumed
        # The last level is common to the threads. Half of a cache leaves room for what
        # else it holds.
        each = cache // threads if level == 3 else cache
        size = min(max(each // 2, 4096), _LARGEST_CACHE_READ)
        rate = _core.probe_read(threads, size, share)
        reads.append((name, each * threads, rate))
    largest = min(4 * reads[-1][1], _LARGEST_READ) // threads
    rate = _core.probe_read(threads, largest, share)
    reads.append(("memory", 1 << 62, rate))
    return Limits(threads, flops, tuple(reads))


def build_config() -> dict[str, Any]:
    """Return how the core was built.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.build_config()["version"] == fl.__version__
    True
    """
    return {"version": __version__, **_core.build_config()}

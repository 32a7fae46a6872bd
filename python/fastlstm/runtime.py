"""The process: instruction set, threads, CPU and build."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from fastlstm import _core

__version__: str = _core.version


def set_isa(name: str) -> None:
    """Force the instruction set of the kernels.

    Parameters
    ----------
    name : {"auto", "scalar", "avx2", "avx512", "neon"}
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
    container's quota. Results never depend on it.
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


def build_config() -> dict[str, Any]:
    """Return how the core was built.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.build_config()["version"] == fl.__version__
    True
    """
    return {"version": __version__, **_core.build_config()}

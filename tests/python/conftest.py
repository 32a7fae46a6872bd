"""Fixtures that several test files share, and the tools of the environment."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Iterator

import pytest

import fastlstm as fl
from fastlstm import _core

# cmake and ninja come with the extra test; the environment need not be activated.
os.environ["PATH"] = os.pathsep.join(
    [sysconfig.get_path("scripts"), os.environ["PATH"]]
)


@pytest.fixture(params=fl.cpu_info()["isas"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on every instruction set of this CPU."""
    fl.set_isa(request.param)
    yield request.param
    fl.set_isa("auto")


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set the number of threads, above the CPUs too; restored after the test."""
    before = fl.get_num_threads()
    _core.allow_oversubscription(True)
    yield fl.set_num_threads
    _core.allow_oversubscription(False)
    fl.set_num_threads(before)

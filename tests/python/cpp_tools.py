"""What the tests that build C++ share: finding tools, running commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

import fastlstm as fl

ROOT = Path(__file__).parents[2]
# Set where the C++ tests must not be skipped for want of a Debian package.
REQUIRED = "FASTLSTM_REQUIRE_CPP_TESTS"
# On two cores a build takes half a minute, the tests seconds, under qemu some minutes.
TIME_LIMIT = 1800
# Programs are built for this machine, or for this one and run under qemu.
AARCH64 = "aarch64"
TOOLCHAIN = ROOT / "cmake" / "aarch64-linux-gnu.cmake"


def need(program: str, package: str) -> None:
    """Skip the test, or fail where it is required, unless `program` is there."""
    if shutil.which(program) is None:
        missing(f"the C++ tests need {program}: apt-get install {package}")


def missing(reason: str) -> None:
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command; where it fails, fail the test with the end of what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIME_LIMIT,
        env={**os.environ, **(env or {})},
    )
    if done.returncode != 0:
        if "apt-get install doctest-dev" in done.stdout:
            missing("the C++ tests need doctest: apt-get install doctest-dev")
        end = "\n".join(done.stdout.splitlines()[-60:])
        pytest.fail(f"{' '.join(map(str, command))}\n{end}", pytrace=False)
    return done.stdout


def build(source: Path, folder: Path, *options: str) -> None:
    """Configure a CMake project and build it."""
    run("cmake", "-S", source, "-B", folder, "-G", "Ninja", *options)
    run("cmake", "--build", folder, "--parallel", str(os.cpu_count() or 1))


def emulator_of(machine: str) -> list[str]:
    """What runs a program of this machine; nothing unless it is aarch64."""
    if machine != AARCH64:
        return []
    need("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    need("qemu-aarch64", "qemu-user")
    return ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]


def isas_of(machine: str) -> list[str]:
    """Return the instruction sets that a program of this machine can be told to use."""
    return ["scalar", "neon"] if machine == AARCH64 else fl.cpu_info()["isas"]


def use_tools_of_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """cmake and ninja from the virtual environment, whether it is activated or not."""
    scripts = sysconfig.get_path("scripts")
    monkeypatch.setenv("PATH", scripts + os.pathsep + os.environ["PATH"])
    if not (ROOT / "tests" / "cpp" / "CMakeLists.txt").is_file():
        pytest.skip("the C++ sources are not beside the tests")
    need("cmake", "cmake")
    need("ninja", "ninja-build")

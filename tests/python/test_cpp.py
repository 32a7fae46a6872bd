"""Configure, build and run the C++ tests, for this CPU and for aarch64 under qemu."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Set where the C++ tests must not be skipped for want of a Debian package.
REQUIRED = "FASTLSTM_REQUIRE_CPP_TESTS"
# On two cores a build takes half a minute, the tests seconds, under qemu a minute.
TIME_LIMIT = 600


def need(program: str, package: str) -> None:
    """Skip the test, or fail where it is required, unless `program` is there."""
    if shutil.which(program) is None:
        missing(f"the C++ tests need {program}: apt-get install {package}")


def missing(reason: str) -> None:
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command: str | Path) -> str:
    """Run a command; where it fails, fail the test with the end of what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIME_LIMIT,
    )
    if done.returncode != 0:
        if "apt-get install doctest-dev" in done.stdout:
            missing("the C++ tests need doctest: apt-get install doctest-dev")
        end = "\n".join(done.stdout.splitlines()[-60:])
        pytest.fail(f"{' '.join(map(str, command))}\n{end}", pytrace=False)
    return done.stdout


def build_and_test(build: Path, *options: str) -> None:
    jobs = str(os.cpu_count() or 1)
    run(
        *("cmake", "-S", ROOT, "-B", build, "-G", "Ninja"),
        *("-DCMAKE_BUILD_TYPE=Release", "-DFASTLSTM_BUILD_TESTS=ON"),
        # A warning of a compiler that nobody has tried yet is no reason to fail.
        f"-DFASTLSTM_WERROR={'ON' if os.environ.get(REQUIRED) else 'OFF'}",
        *options,
    )
    run("cmake", "--build", build, "--parallel", jobs)
    report = run("ctest", "--test-dir", build, "--output-on-failure")
    assert "100% tests passed" in report
    assert (build / "tests" / "cpp" / "fastlstm_tests").is_file()


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """cmake and ninja from the virtual environment, whether it is activated or not."""

    scripts = sysconfig.get_path("scripts")
    monkeypatch.setenv("PATH", scripts + os.pathsep + os.environ["PATH"])
    if not (ROOT / "tests" / "cpp" / "CMakeLists.txt").is_file():
        pytest.skip("the C++ sources are not beside the tests")
    need("cmake", "cmake")
    need("ninja", "ninja-build")


def test_cpp_tests_pass_here(tmp_path: Path) -> None:
    need("g++", "g++")
    build_and_test(tmp_path)


def test_cpp_tests_pass_on_aarch64(tmp_path: Path) -> None:
    need("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    need("qemu-aarch64", "qemu-user")
    toolchain = ROOT / "cmake" / "aarch64-linux-gnu.cmake"
    build_and_test(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")

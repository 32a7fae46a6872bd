"""Configure, build and run the C++ tests, for this CPU and for aarch64 under qemu."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpp_tools import REQUIRED, ROOT, build, need, run, use_tools_of_environment


def build_and_test(folder: Path, *options: str) -> None:
    build(
        ROOT,
        folder,
        *("-DCMAKE_BUILD_TYPE=Release", "-DFASTLSTM_BUILD_TESTS=ON"),
        # A warning of a compiler that nobody has tried yet is no reason to fail.
        f"-DFASTLSTM_WERROR={'ON' if os.environ.get(REQUIRED) else 'OFF'}",
        *options,
    )
    report = run("ctest", "--test-dir", folder, "--output-on-failure")
    assert "100% tests passed" in report
    assert (folder / "tests" / "cpp" / "fastlstm_tests").is_file()


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tools_of_environment(monkeypatch)


def test_cpp_tests_pass_here(tmp_path: Path) -> None:
    need("g++", "g++")
    build_and_test(tmp_path)


def test_cpp_tests_pass_on_aarch64(tmp_path: Path) -> None:
    need("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    need("qemu-aarch64", "qemu-user")
    toolchain = ROOT / "cmake" / "aarch64-linux-gnu.cmake"
    build_and_test(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")

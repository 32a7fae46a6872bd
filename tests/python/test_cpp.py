"""Configure, build and run the C++ tests, for this CPU and for aarch64 under qemu.

Those of what may run in real time also run under RealtimeSanitizer, if a clang has it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cpp_tools import (
    AARCH64,
    REQUIRED,
    ROOT,
    TOOLCHAIN,
    build,
    emulator_of,
    need,
    run,
    use_tools_of_environment,
)

# A clang++ 20 or newer, where it is not on the path; .ci/unpack-clang brings one.
REALTIME_CXX = "FASTLSTM_REALTIME_CXX"


def build_and_test(folder: Path, *options: str) -> None:
    build(
        ROOT,
        folder,
        *("-DCMAKE_BUILD_TYPE=Release", "-DFASTLSTM_BUILD_TESTS=ON"),
        # A warning of a compiler that nobody has tried yet is no reason to fail.
        f"-DFASTLSTM_WERROR={'ON' if os.environ.get(REQUIRED) else 'OFF'}",
        *options,
    )
    parallel = ("--parallel", str(os.cpu_count() or 1))
    report = run("ctest", "--test-dir", folder, "--output-on-failure", *parallel)
    assert "100% tests passed" in report
    assert (folder / "tests" / "cpp" / "fastlstm_tests").is_file()


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tools_of_environment(monkeypatch)


def test_cpp_tests_pass_here(tmp_path: Path) -> None:
    need("g++", "g++")
    build_and_test(tmp_path)


def test_cpp_tests_pass_on_aarch64(tmp_path: Path) -> None:
    emulator_of(AARCH64)
    build_and_test(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}")


def realtime_compiler(folder: Path) -> str:
    """Return a clang++ with RealtimeSanitizer, or skip the test with what was tried."""
    named = os.environ.get(REALTIME_CXX)
    on_path = [f"clang++-{version}" for version in range(30, 19, -1)] + ["clang++"]
    tried = []
    for name in [named] if named else on_path:
        compiler = shutil.which(name)
        if compiler is None:
            continue
        version = re.search(r"clang version (\d+)", run(compiler, "--version"))
        source = folder / "empty.cpp"
        source.write_text("int main() { return 0; }\n")
        command = [compiler, "-fsanitize=realtime", source, "-o", folder / "empty"]
        works = subprocess.run(command, capture_output=True).returncode == 0
        if works and subprocess.run([folder / "empty"]).returncode == 0:
            return compiler
        tried.append(f"{name} is version {version[1] if version else 'unknown'}")
    if named:
        pytest.fail(f"{REALTIME_CXX}={named} has no RealtimeSanitizer")
    pytest.skip(
        "RealtimeSanitizer needs clang++ 20 or newer with its compiler-rt, on the path "
        f"or named by {REALTIME_CXX}: {', '.join(tried) or 'there is no clang++'}"
    )


def test_kernels_leave_no_copy_to_the_linker(tmp_path: Path) -> None:
    """No copy of a template that needs a newer CPU can stand in for a common one."""
    need("g++", "g++")
    need("nm", "binutils")
    # Without optimisation every inline function and template is a symbol.
    options = ("-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O0")
    run("cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", *options)
    run("cmake", "--build", tmp_path, "--target", "fastlstm_core")
    objects = list(tmp_path.rglob("kernels/*.o"))
    assert len(objects) > 1
    for path in objects:
        if path.name.startswith("dispatch"):
            continue  # of no instruction set
        # W: weak, u: unique in the process; V: the same of data.
        symbols = re.findall(r" ([WuV]) (.+)", run("nm", "--demangle", path))
        shared = [name for _, name in symbols if not name.startswith("DW.ref.")]
        assert shared == [], path.name


def test_what_may_run_in_real_time_under_its_sanitizer(tmp_path: Path) -> None:
    compiler = realtime_compiler(tmp_path)
    folder = tmp_path / "build"
    run(
        *("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja"),
        # Compiling fast is worth more than speed.
        *("-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O0"),
        *("-DFASTLSTM_BUILD_TESTS=ON", "-DFASTLSTM_SANITIZE=realtime"),
        f"-DCMAKE_CXX_COMPILER={compiler}",
    )
    run("cmake", "--build", folder, "--target", "fastlstm_realtime_tests")
    # Its first test shows that the sanitizer does end what allocates or locks.
    report = run("ctest", "--test-dir", folder, "-R", "^realtime$", "--verbose")
    assert re.search(r"test cases: +3 \| +3 passed", report)

"""The C++ library in other people's programs: installed, as a folder, by pkg-config."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cpp_tools import ROOT, build, need, run, use_tools_of_environment

CONSUMER = ROOT / "tests" / "consumer"
# These tests are about finding and linking: compiling fast is worth more than speed.
QUICK = "-DCMAKE_CXX_FLAGS_RELEASE=-O0"


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tools_of_environment(monkeypatch)
    need("g++", "g++")


@pytest.fixture(scope="module", params=["static", "shared"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def prefix(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where fastlstm is installed; moved there, as a package manager would."""
    folder = tmp_path_factory.mktemp(kind)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_tools_of_environment(monkeypatch)
        build(ROOT, folder / "build", QUICK, shared_option(kind))
        run("cmake", "--install", folder / "build", "--prefix", folder / "first")
    return (folder / "first").rename(folder / "second")


def shared_option(kind: str) -> str:
    return f"-DBUILD_SHARED_LIBS={'ON' if kind == 'shared' else 'OFF'}"


def check_runs(program: Path, **env: str) -> None:
    assert re.fullmatch(r"fastlstm \d+\.\d+\.\d+ works\n", run(program, env=env))


def test_find_package(prefix: Path, tmp_path: Path) -> None:
    build(CONSUMER / "find_package", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
    check_runs(tmp_path / "consumer_cpp")


def test_another_minor_version_is_refused(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(consumer CXX)\n"
        "find_package(fastlstm 0.0.1 CONFIG)\n"
        'message(STATUS "found: ${fastlstm_FOUND}")\n'
    )
    options = ("-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    assert "found: 0" in run("cmake", "-S", tmp_path, "-B", tmp_path / "b", *options)


def test_add_subdirectory(kind: str, tmp_path: Path) -> None:
    build(
        CONSUMER / "add_subdirectory",
        tmp_path,
        f"-DFASTLSTM_SOURCE_DIR={ROOT}",
        QUICK,
        shared_option(kind),
    )
    check_runs(tmp_path / "consumer_cpp")


def test_pkg_config(kind: str, prefix: Path, tmp_path: Path) -> None:
    need("pkg-config", "pkgconf")
    library = next(prefix.glob("lib*"))
    static = ["--static"] if kind == "static" else []
    flags = shlex.split(
        run(
            *("pkg-config", "--cflags", "--libs", *static, "fastlstm"),
            env={"PKG_CONFIG_PATH": str(library / "pkgconfig")},
        )
    )
    version = '-DFASTLSTM_VERSION="0.0.0"'  # only CMake gives it
    program = tmp_path / "consumer"
    run("g++", "-std=c++17", version, CONSUMER / "main.cpp", "-o", program, *flags)
    check_runs(program, LD_LIBRARY_PATH=str(library))


def test_only_the_interface_is_exported(kind: str, prefix: Path) -> None:
    if kind == "static":
        pytest.skip("a static library exports nothing")
    library = next(prefix.glob("lib*/libfastlstm.so"))
    lines = run("nm", "--dynamic", "--defined-only", "--demangle", library).splitlines()
    # Weak symbols are the standard library's templates; T is a function of ours.
    functions = [line.split(" T ")[1] for line in lines if " T " in line]
    assert functions
    for function in functions:
        assert re.match(r"fastlstm::[A-Za-z]+|fastlstm_", function), function
    text = "\n".join(lines)
    for internal in ("layer_forward", "run_region", "kernels", "Pool::"):
        assert internal not in text.replace("BufferPool::", "")

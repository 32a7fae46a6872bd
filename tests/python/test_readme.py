"""The programs of the README and of docs/sequences.md run as they stand."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def block(language):
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_python_block_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    accuracy = float(lines[0].split("'accuracy': ")[1].rstrip("}"))
    assert accuracy > 0.9
    assert lines[-1] == "(20, 4, 16) (32, 8)"


def test_cpp_block_builds_and_runs(tmp_path):
    for tool in ("cmake", "ninja", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: the extra test brings cmake and ninja, g++ c++")
    (tmp_path / "main.cpp").write_text(block("cpp"))
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\n"
        "project(consumer CXX)\n"
        f'add_subdirectory("{ROOT}" fastlstm)\n'
        "add_executable(your_program main.cpp)\n"
        "target_link_libraries(your_program PRIVATE fastlstm::core)\n"
    )
    build = tmp_path / "build"
    for command in (
        ["cmake", "-G", "Ninja", "-S", tmp_path, "-B", build],
        ["cmake", "--build", build],
    ):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    result = subprocess.run([build / "your_program"], capture_output=True, text=True)
    assert result.returncode == 0
    assert 0 < float(result.stdout.split("=")[1]) < 1


def test_blocks_of_the_guide_to_sequences_run(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra demo")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "sequences.md").read_text()
    names = {}
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
        exec(compile(code, f"sequences.md, block {number}", "exec"), names)
    assert number > 5
    assert (tmp_path / "gates.png").stat().st_size > 0

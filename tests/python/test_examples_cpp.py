"""The C++ examples: trained quickly, built here and for aarch64, run on their data.

Each runs on every instruction set.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import fastlstm as fl
from cpp_tools import (
    AARCH64,
    ROOT,
    TOOLCHAIN,
    build,
    emulator_of,
    isas_of,
    need,
    run,
    use_tools_of_environment,
)

EXAMPLES = ROOT / "examples" / "cpp"
QUICK = "-DCMAKE_CXX_FLAGS_RELEASE=-O1"


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tools_of_environment(monkeypatch)
    need("g++", "g++")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and data of the three examples; less of both than by default."""
    if not EXAMPLES.is_dir():
        pytest.skip("the examples are not beside the tests")
    out = tmp_path_factory.mktemp("trained")
    for name, options in (
        ("amplifier", ["--steps", "150", "--seconds", "6"]),
        ("voice", ["--clips", "50"]),
        ("watch", []),
    ):
        command = [sys.executable, str(EXAMPLES / name / "train.py"), *options]
        run(*command, "--out", out / name)
    return out


@pytest.fixture(scope="module")
def folder_of(
    trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return what builds the examples for a machine, once, and tells their folder."""

    @cache
    def build_for(machine: str) -> Path:
        folder = tmp_path_factory.mktemp(machine)
        options = [QUICK, f"-DAMP_HEADER_DIR={trained / 'amplifier'}"]
        if machine == AARCH64:
            options.append(f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}")
        with pytest.MonkeyPatch.context() as monkeypatch:
            use_tools_of_environment(monkeypatch)
            build(EXAMPLES, folder, *options)
        return folder

    return build_for


@pytest.fixture(
    scope="module",
    params=[
        (machine, isa) for machine in ("here", AARCH64) for isa in isas_of(machine)
    ],
    ids="-".join,
)
def programs(
    request: pytest.FixtureRequest, folder_of: Callable[[str], Path]
) -> tuple[list[str], Path]:
    """Return what runs a program, and the folder of the programs."""
    machine, isa = request.param
    return ["env", f"FASTLSTM_ISA={isa}", *emulator_of(machine)], folder_of(machine)


def example(programs: tuple[list[str], Path], name: str, *arguments: object) -> str:
    emulator, folder = programs
    return run(*emulator, folder / name, *map(str, arguments))


def samples(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767


def answers_of(model: fl.SequenceModel, sound: np.ndarray) -> np.ndarray:
    x = sound.astype(np.float32)[None, :, None]
    return np.asarray(model.predict(x)[0, :, 0])


@pytest.mark.parametrize("block", [64, 1000])
def test_amplifier(programs, trained, tmp_path, block):
    folder, out = trained / "amplifier", tmp_path / "out.wav"
    model = folder / "amp24.safetensors"
    text = example(programs, "amplifier", model, folder / "input.wav", out, block)
    assert float(re.search(r"([\d.]+) of real time", text).group(1)) > 0
    played, target = samples(out), samples(folder / "target.wav")
    expected = answers_of(fl.load(model), samples(folder / "input.wav"))
    assert np.abs(played - np.clip(expected, -1, 1)).max() < 1 / 32767
    assert np.sum((played - target) ** 2) / np.sum(target**2) < 0.15


def test_amplifier_from_the_header(programs, trained, tmp_path):
    folder, out = trained / "amplifier", tmp_path / "out.wav"
    text = example(programs, "amplifier_header", folder / "input.wav", out)
    assert float(re.search(r"largest error (\S+)", text).group(1)) < 1e-6
    model = fl.load(folder / "amp24.safetensors")
    expected = answers_of(model, samples(folder / "input.wav"))
    assert np.abs(samples(out) - np.clip(expected, -1, 1)).max() < 1 / 32767


def test_voice(programs, trained):
    folder = trained / "voice"
    text = example(
        programs,
        "voice",
        folder / "voice.safetensors",
        folder / "input.wav",
        "--frames",
    )
    found = np.array(re.findall(r"^frame \d+ (\S+)$", text, re.MULTILINE), float)
    labels = np.loadtxt(folder / "labels.txt")
    assert len(found) == len(labels)
    assert np.mean((found > 0.5) == labels) > 0.9
    spoken = re.findall(r"^speech ([\d.]+) to ([\d.]+) s$", text, re.MULTILINE)
    covered = sum(float(end) - float(begin) for begin, end in spoken)
    assert covered == pytest.approx(labels.sum() * 0.032, rel=0.15)


def test_watch(programs, trained):
    folder = trained / "watch"
    text = example(
        programs, "watch", folder / "watch.safetensors", folder / "field.csv"
    )
    alarms = np.array(re.findall(r"alarm at step (\d+)", text), int)
    # The faults, and the step from which the machine is another.
    expected = np.sort([*np.loadtxt(folder / "faults.txt", int), 3000])
    assert len(alarms) == len(expected)
    assert (np.abs(alarms - expected) < 30).all()
    learning, trained_only = re.search(r"(\S+) learning, (\S+) as", text).groups()
    assert float(learning) < 0.04
    assert float(trained_only) > 5 * float(learning)


def test_bad_files_are_refused(programs, trained, tmp_path):
    emulator, folder = programs
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF1234WAVEfmt ")
    model = trained / "voice" / "voice.safetensors"
    for program, arguments, message in (
        ("voice", [model, broken], "has no samples"),
        ("voice", [model, tmp_path / "none.wav"], "cannot open"),
        ("voice", [broken, broken], "broken.wav"),
        ("watch", [model, broken], "the model must answer"),
    ):
        command = [*emulator, folder / program, *arguments]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("clang++") is None, reason="needs clang++")
def test_amplifier_header_compiles_with_clang(trained, tmp_path):
    run(
        *("clang++", "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
        *("-I", trained / "amplifier", EXAMPLES / "amplifier" / "header_main.cpp"),
        *("-o", tmp_path / "amplifier_header"),
    )

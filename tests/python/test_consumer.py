"""The C++ library in other people's programs: installed, as a folder, by pkg-config.

Each program runs models that Python saved and must answer as Python does, on every
instruction set: here to the bit, for aarch64 under qemu.
"""

from __future__ import annotations

import re
import shlex
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

CONSUMER = ROOT / "tests" / "consumer"
KINDS = {
    "static": ["-DBUILD_SHARED_LIBS=OFF"],
    "shared": ["-DBUILD_SHARED_LIBS=ON"],
    AARCH64: [f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}"],
}
STEPS, BATCH = 7, 3
# These tests are about finding, linking and loading: compiling fast is worth more than
# speed.
QUICK = "-DCMAKE_CXX_FLAGS_RELEASE=-O0"
PLAIN = "lstm"


def regression(recurrent: Any, **options: Any) -> fl.SequenceModel:
    features = recurrent.output_size * (2 if recurrent.bidirectional else 1)
    head = fl.Linear(features, 2, dtype=recurrent.dtype, rng=1)
    return fl.SequenceModel(recurrent, head, task="regression", **options)


MODELS: dict[str, Callable[[], fl.SequenceModel]] = {
    PLAIN: lambda: regression(fl.LSTM(3, 5, rng=0), return_sequences=True),
    "deep": lambda: regression(
        fl.LSTM(3, 5, 3, batch_first=True, dropout=0.5, recurrent_dropout=0.5, rng=0),
        return_sequences=True,
    ),
    "last": lambda: regression(fl.LSTM(3, 5, 2, bidirectional=True, rng=0)),
    "both": lambda: regression(
        fl.LSTM(3, 20, bidirectional=True, rng=0), return_sequences=True
    ),
    "float64": lambda: regression(
        fl.LSTM(3, 5, dtype=np.float64, cell_activation="relu", rng=0),
        return_sequences=True,
    ),
    "no-bias": lambda: regression(
        fl.LSTM(3, 5, bias=False, output_activation="linear", rng=0)
    ),
    "gru": lambda: regression(fl.GRU(3, 18, 2, rng=0), return_sequences=True),
    "rnn": lambda: regression(
        fl.RNN(3, 5, nonlinearity="relu", rng=0), return_sequences=True
    ),
    "embedding": lambda: regression(
        fl.GRU(4, 5, bidirectional=True, rng=0), embedding=fl.Embedding(11, 4, rng=2)
    ),
    "variant": lambda: regression(
        fl.LSTM(
            3,
            9,
            2,
            peepholes=True,
            proj_size=4,
            layer_norm=True,
            zoneout=0.1,
            recurrent_activation="hard_sigmoid",
            cell_clip=2.0,
            rng=0,
            learn_initial_state=True,
        ),
        return_sequences=True,
    ),
    "coupled": lambda: regression(
        fl.LSTM(
            3,
            9,
            bidirectional=True,
            coupled=True,
            clip=3.0,
            bias=False,
            cell_activation=[("elu", 0.7), "softsign"],
            layer_norm=True,
            rng=0,
        )
    ),
    "reset-before": lambda: regression(
        fl.GRU(
            3,
            9,
            2,
            reset_after=False,
            cell_activation=("scaled_tanh", 0.9),
            learn_initial_state=True,
            dtype=np.float64,
            rng=0,
        ),
        return_sequences=True,
    ),
    "softsign": lambda: regression(
        fl.RNN(
            3,
            9,
            nonlinearity="softsign",
            bidirectional=True,
            learn_initial_state=True,
            rng=0,
        ),
    ),
    "learned": lambda: regression(
        fl.LSTM(3, 5, 2, learn_initial_state=True, rng=0), return_sequences=True
    ),
    "loss": lambda: regression(fl.LSTM(3, 5, rng=0), loss=fl.Huber(0.5)),
}


def randomised(model: fl.SequenceModel) -> fl.SequenceModel:
    """Give every parameter a value of its own: biases begin at zero."""
    rng = np.random.default_rng(3)
    for layer in (model.embedding, model.recurrent, model.head):
        for value in {} if layer is None else layer.params.values():
            value[...] = rng.uniform(-0.5, 0.5, value.shape)
    return model


def check_program(program: Path, name: str, folder: Path, kind: str) -> None:
    """Run a program over a model's file; its answers must be Python's."""
    model = randomised(MODELS[name]())
    dtype = model.head.dtype
    rng = np.random.default_rng(4)
    if model.embedding is None:
        x = rng.normal(size=(BATCH, STEPS, model.recurrent.input_size)).astype(dtype)
    else:
        x = rng.integers(11, size=(BATCH, STEPS))
    paths = [folder / f"{name}.{end}" for end in ("safetensors", "x", "y")]
    model.save(paths[0])
    x.swapaxes(0, 1).tofile(paths[1])
    sizes = (str(STEPS), str(BATCH))
    command = (*emulator_of(kind), program, dtype.name, *paths[:2], *sizes, paths[2])
    for isa in isas_of(kind):
        run(*command, env={"FASTLSTM_ISA": isa})
        y = np.fromfile(paths[2], dtype)
        if model.return_sequences:
            y = y.reshape(STEPS, BATCH, 2).swapaxes(0, 1)
        expected = predict(model, x, "auto" if kind == AARCH64 else isa)
        np.testing.assert_allclose(
            y.reshape(BATCH, -1),
            expected.reshape(BATCH, -1),
            rtol=0,
            # Other instructions, other roundings.
            atol=1e-6 if kind == AARCH64 else 0,
        )


def predict(model: fl.SequenceModel, x: np.ndarray, isa: str) -> np.ndarray:
    fl.set_isa(isa)
    try:
        return np.asarray(model.predict(x))
    finally:
        fl.set_isa("auto")


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tools_of_environment(monkeypatch)
    need("g++", "g++")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def prefix(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where fastlstm is installed; moved there, as a package manager would."""
    folder = tmp_path_factory.mktemp(kind)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_tools_of_environment(monkeypatch)
        build(ROOT, folder / "build", QUICK, *KINDS[kind])
        run("cmake", "--install", folder / "build", "--prefix", folder / "first")
    return (folder / "first").rename(folder / "second")


@pytest.fixture(scope="module")
def installed(
    kind: str, prefix: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of the programs that find_package made possible."""
    folder = tmp_path_factory.mktemp("found")
    options = (*KINDS[kind], f"-DCMAKE_PREFIX_PATH={prefix}")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_tools_of_environment(monkeypatch)
        build(CONSUMER / "find_package", folder, *options)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_models_of_python_run_in_cpp(
    name: str, kind: str, installed: Path, tmp_path: Path
) -> None:
    check_program(installed / "consumer_cpp", name, tmp_path, kind)


@pytest.mark.parametrize("name", [PLAIN, "deep", "gru", "rnn", "variant", "learned"])
def test_models_of_python_run_in_c(
    name: str, kind: str, installed: Path, tmp_path: Path
) -> None:
    check_program(installed / "consumer_c", name, tmp_path, kind)


def test_another_minor_version_is_refused(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(consumer CXX)\n"
        "find_package(fastlstm 0.0.1 CONFIG)\n"
        'message(STATUS "found: ${fastlstm_FOUND}")\n'
    )
    options = ("-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    assert "found: 0" in run("cmake", "-S", tmp_path, "-B", tmp_path / "b", *options)


def test_add_subdirectory(kind: str, tmp_path: Path) -> None:
    if kind == AARCH64:
        pytest.skip("aarch64 is tried with find_package")
    source = f"-DFASTLSTM_SOURCE_DIR={ROOT}"
    build(CONSUMER / "add_subdirectory", tmp_path, source, QUICK, *KINDS[kind])
    check_program(tmp_path / "consumer_cpp", PLAIN, tmp_path, kind)
    check_program(tmp_path / "consumer_c", PLAIN, tmp_path, kind)


def test_pkg_config(
    kind: str, prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("pkg-config", "pkgconf")
    library = next(prefix.glob("lib*"))
    static = [] if kind == "shared" else ["--static"]
    machine = "aarch64-linux-gnu-" if kind == AARCH64 else ""
    flags = shlex.split(
        run(
            *("pkg-config", "--cflags", "--libs", *static, "fastlstm"),
            env={"PKG_CONFIG_PATH": str(library / "pkgconfig")},
        )
    )
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    for compiler, source in (
        ([f"{machine}g++", "-std=c++17"], "main.cpp"),
        ([f"{machine}gcc", "-std=c99"], "main.c"),
    ):
        program = tmp_path / f"consumer-{source}"
        run(*compiler, CONSUMER / source, "-o", program, *flags)
        check_program(program, PLAIN, tmp_path, kind)


def test_the_guide(
    kind: str, prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/embedding.md from the model to the sound; the fixture did its step 1."""
    if kind == "shared":
        pytest.skip("the guide installs the static library")
    text = (ROOT / "docs" / "embedding.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    python, cpp, cmake = (
        next(code for name, code in blocks if name == language)
        for language in ("python", "cpp", "cmake")
    )
    (tmp_path / "amp.cpp").write_text(cpp)
    (tmp_path / "CMakeLists.txt").write_text(cmake)
    (tmp_path / ".local").symlink_to(prefix)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    variables: dict[str, Any] = {}
    exec(compile(python, "embedding.md", "exec"), variables)
    _, shell = (code for name, code in blocks if name == "sh")
    if kind == AARCH64:
        monkeypatch.setenv("CMAKE_TOOLCHAIN_FILE", str(TOOLCHAIN))
        shell = shell.replace("build/amp", f"{shlex.join(emulator_of(kind))} build/amp")
    run("bash", "-ec", shell)

    with wave.open("amp.wav") as sound:
        assert (sound.getframerate(), sound.getnframes()) == (48000, 96000)
        heard = np.frombuffer(sound.readframes(96000), np.int16) / np.float32(30000)
    seconds = np.arange(96000) / 48000
    tone = np.exp(-2 * seconds) * np.sin(2 * np.pi * 110 * seconds)
    wanted = variables["model"].predict(tone[None, :, None].astype(np.float32))
    np.testing.assert_allclose(heard, wanted.clip(-1, 1).ravel(), atol=1e-4)
    # The model has learned the amplifier it was shown.
    assert np.sqrt(np.mean((wanted.ravel() - np.tanh(3 * tone)) ** 2)) < 0.05


def test_only_the_interface_is_exported(kind: str, prefix: Path) -> None:
    if kind != "shared":
        pytest.skip("a static library exports nothing")
    library = next(prefix.glob("lib*/libfastlstm.so"))
    lines = run("nm", "--dynamic", "--defined-only", "--demangle", library).splitlines()
    # Weak symbols are the standard library's templates; T is a function of ours.
    functions = [line.split(" T ")[1] for line in lines if " T " in line]
    assert any(function.startswith("fastlstm_model_load") for function in functions)
    for function in functions:
        assert re.match(r"fastlstm::[A-Za-z]+|fastlstm_", function), function
    text = "\n".join(lines)
    for internal in (
        "layer_forward",
        "run_region",
        "kernels",
        "JsonReader",
        "open_file",
    ):
        assert internal not in text

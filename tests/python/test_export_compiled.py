"""Exported headers, compiled without a warning and run on data, answer as the library.

One program holds all models; it is built by every compiler in every language.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastlstm as fl
from cpp_tools import need, run
from export_models import answers, models, random_input
from fastlstm.export.weights import dequantized
from fastlstm.losses import softmax

STEPS = 200
# The order of sums and the fused multiplications are the compiler's.
TOLERANCE = 1e-6
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
MODELS = models()

BUILDS = {
    "c99-gcc": ("c", ["gcc", "-std=c99", "-O2"], "gcc"),
    "c99-clang": ("c", ["clang", "-std=c99", "-O3"], "clang"),
    "c++11-gcc": ("c++", ["g++", "-std=c++11", "-O3", "-march=native"], "g++"),
    "c++17-clang": ("c++", ["clang++", "-std=c++17", "-O2"], "clang"),
    "c99-gcc-avx2": ("c", ["gcc", "-std=c99", "-O3", "-march=x86-64-v3"], "gcc"),
    "c++17-clang-avx512": (
        *("c++", ["clang++", "-std=c++17", "-O3", "-march=x86-64-v4"], "clang"),
    ),
    "c99-aarch64": (
        *("c", ["aarch64-linux-gnu-gcc", "-std=c99", "-O2", "-static"]),
        "gcc-aarch64-linux-gnu",
    ),
    "c++17-aarch64": (
        *("c++", ["aarch64-linux-gnu-g++", "-std=c++17", "-O3", "-static"]),
        "g++-aarch64-linux-gnu",
    ),
}


@pytest.fixture(scope="module", params=["float32", "int8"])
def headers(request, tmp_path_factory):
    """Write every model in both languages; return the folder and whether it is int8."""
    int8 = request.param == "int8"
    folder = tmp_path_factory.mktemp(request.param)
    for name, model in MODELS.items():
        for suffix in ("h", "hpp"):
            fl.export.to_header(model, folder / f"{name}.{suffix}", int8=int8)
    return folder, int8


def program(language: str) -> str:
    """Return a program: NAME IN OUT runs all of IN through a model, prints its test."""
    suffix = "h" if language == "c" else "hpp"
    lines = [f'#include "{name}.{suffix}"' for name in MODELS]
    lines += ["#include <stdio.h>", "#include <string.h>"]
    for name, model in MODELS.items():
        inputs, outputs = model.recurrent.input_size, model.head.out_features
        element = "float" if model.embedding is None else "int32_t"
        inputs = inputs if model.embedding is None else 1
        q = f"{name}_" if language == "c" else f"{name}::"
        x = "x" if model.embedding is None else "x[0]"
        if language == "c":
            make = f"{q}state s; {q}reset(&s);"
            step, block = f"{q}step(&s, ", f"{q}process(&s, "
        else:
            make = f"{q}Model m;"
            step, block = "m.step(", "m.process("
        extra = ""
        if model.task == "classification":
            extra = (
                f"y[{outputs}] = (float){q}label(y); "
                f"{q}probabilities(y, y + {outputs} + 1);"
            )
        lines.append(
            f"static void run_{name}(FILE* in, FILE* out) {{ {make}\n"
            f"  {element} x[{inputs}]; float y[2 * {outputs} + 1];\n"
            f"  for (int o = 0; o < 2 * {outputs} + 1; ++o) y[o] = 0.0f;\n"
            # The first three steps: alone, without an answer, as a block of one.
            f"  for (int t = 0; fread(x, sizeof x, 1, in) == 1; ++t) {{\n"
            f"    if (t == 1) {{ {step}{x}, 0); }}\n"
            f"    else if (t == 2) {{ {block}x, y, 1); }}\n"
            f"    else {{ {step}{x}, y); }}\n"
            f"    {extra} fwrite(y, sizeof y, 1, out); }} }}"
        )
    lines.append("int main(int argc, char** argv) {")
    lines.append('  FILE* in; FILE* out; in = fopen(argv[2], "rb");')
    lines.append(
        '  out = fopen(argv[3], "wb"); if (argc != 4 || !in || !out) return 1;'
    )
    for name in MODELS:
        q = f"{name}_" if language == "c" else f"{name}::"
        lines.append(f'  if (!strcmp(argv[1], "{name}")) {{ run_{name}(in, out);')
        lines.append(f'    printf("%.9g\\n", (double){q}self_test()); }}')
    lines += ["  fclose(in); return fclose(out) != 0;", "}", ""]
    return "\n".join(lines)


def compiled(folder: Path, build: str, flags: list[str] = STRICT) -> list[str]:
    """Build the program in its own folder; return the command that runs it."""
    language, command, package = BUILDS[build]
    need(command[0], package)
    isa = build.rpartition("-")[2]
    if isa in ("avx2", "avx512") and isa not in fl.cpu_info()["isas"]:
        pytest.skip(f"this CPU has no {isa}")
    emulator = []
    if "aarch64" in build:
        need("qemu-aarch64", "qemu-user")
        emulator = ["qemu-aarch64"]
    source = folder / f"main_{build}.{'c' if language == 'c' else 'cpp'}"
    source.write_text(program(language))
    target = folder / build
    run(*command, *flags, source, "-o", target)
    return [*emulator, str(target)]


def through(command: list[str], name: str, folder: Path, x) -> tuple[np.ndarray, float]:
    """Run x through a model of the program: rows of output, and the self-test."""
    paths = [folder / "in.bin", folder / "out.bin"]
    paths[0].write_bytes(x.tobytes())
    report = run(*command, name, *paths)
    outputs = MODELS[name].head.out_features
    rows = np.fromfile(paths[1], np.float32).reshape(len(x), 2 * outputs + 1)
    return rows, float(report)


def check(rows: np.ndarray, model, expected: np.ndarray) -> None:
    outputs = expected.shape[1]
    y, label, probabilities = np.split(rows, [outputs, outputs + 1], axis=1)
    answered = np.arange(len(y)) != 1
    error = np.abs(y - expected) / np.maximum(1, np.abs(expected))
    assert error[answered].max() < TOLERANCE
    if model.task == "classification":
        # The program's own y, so that a near tie is no other label.
        assert (label[answered, 0] == y[answered].argmax(axis=1)).all()
        assert np.abs(probabilities - softmax(y))[answered].max() < TOLERANCE


@pytest.mark.parametrize("build", BUILDS)
def test_headers_answer_as_the_library(headers, build):
    folder, int8 = headers
    command = compiled(folder, build)
    for name, model in MODELS.items():
        x = random_input(model, STEPS)
        rows, worst = through(command, name, folder, x)
        expected = answers(dequantized(model) if int8 else model, x)
        check(rows, model, expected)
        assert 0 <= worst < TOLERANCE


def test_fast_math_is_survived(headers):
    folder, int8 = headers
    if int8:
        pytest.skip("the float headers show it")
    command = compiled(folder, "c99-gcc", [*STRICT, "-O3", "-ffast-math"])
    for name, model in MODELS.items():
        _, worst = through(command, name, folder, random_input(model, 4))
        assert 0 <= worst < 1e-5


def test_self_test_finds_a_wrong_weight(tmp_path):
    need("gcc", "gcc")
    fl.export.to_header(MODELS["amp"], tmp_path / "amp.h")
    text = (tmp_path / "amp.h").read_text()
    begin = text.index("/* l0_h */")
    wrong = text[:begin] + text[begin:].replace("0.1", "0.2", 1)
    assert wrong != text
    (tmp_path / "amp.h").write_text(wrong)
    source = tmp_path / "main.c"
    source.write_text(
        '#include "amp.h"\n#include <stdio.h>\n'
        'int main(void) { printf("%g\\n", (double)amp_self_test()); return 0; }\n'
    )
    run("gcc", "-std=c99", source, "-o", tmp_path / "main")
    assert float(run(tmp_path / "main")) > 10 * TOLERANCE


@pytest.mark.parametrize("suffix", ["h", "hpp"])
def test_two_units_may_include_a_header(headers, suffix):
    """Also a member of a class, and units for different CPUs."""
    folder, _ = headers
    need("g++", "g++")
    here = folder / f"units_{suffix}"
    here.mkdir()
    shutil.copy(folder / f"amp.{suffix}", here)
    use = (
        "amp_state s; amp_reset(&s); amp_step(&s, &x, &y);"
        if suffix == "h"
        else "amp::Model m; m.step(&x, &y);"
    )
    member = "amp_state s;" if suffix == "h" else "amp::Model m;"
    for unit in ("one", "two"):
        (here / f"{unit}.cpp").write_text(
            f'#include "amp.{suffix}"\n#include "amp.{suffix}"\n'
            f"struct Plugin_{unit} {{ {member} }};\n"
            f"float {unit}(float x);\n"
            f"float {unit}(float x) {{ float y; {use} return y; }}\n"
        )
    (here / "main.cpp").write_text(
        "float one(float); float two(float);\n"
        "int main() { float d = one(0.5f) - two(0.5f); return d * d > 1e-12f; }\n"
    )
    for unit, flags in (("one", ["-O0"]), ("two", ["-O3", "-march=native"])):
        source, target = here / f"{unit}.cpp", here / f"{unit}.o"
        run("g++", "-std=c++11", *STRICT, *flags, "-c", source, "-o", target)
    run("g++", here / "main.cpp", here / "one.o", here / "two.o", "-o", here / "main")
    run(here / "main")


def test_nothing_but_memory_functions_is_needed(headers):
    folder, _ = headers
    need("gcc", "gcc")
    for name in MODELS:
        source = folder / f"only_{name}.c"
        source.write_text(
            f'#include "{name}.h"\nfloat test(void);\n'
            f"float test(void) {{ return {name}_self_test(); }}\n"
        )
        target = source.with_suffix(".o")
        run("gcc", "-std=c99", "-O1", "-fno-builtin", "-c", source, "-o", target)
        symbols = run("nm", "--undefined-only", target)
        undefined = {line.split()[-1] for line in symbols.splitlines() if line}
        assert undefined <= {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}


def test_nan_goes_through(headers):
    folder, _ = headers
    command = compiled(folder, "c99-gcc")
    x = random_input(MODELS["amp"], 8)
    x[4] = np.nan
    rows, _ = through(command, "amp", folder, x)
    assert np.isfinite(rows[:4, 0]).all()
    assert np.isnan(rows[4:, 0]).all()


def test_an_index_out_of_range_is_held(headers):
    folder, _ = headers
    command = compiled(folder, "c99-gcc")
    last = MODELS["words"].embedding.num_embeddings - 1
    wild = np.array([2, 1, -5, 2**31 - 1, -(2**31), 3], np.int32)
    tame = np.clip(wild, 0, last)
    results = [through(command, "words", folder, x)[0] for x in (wild, tame)]
    assert np.array_equal(*results)


def test_clang_is_there_where_it_must_be():
    if os.environ.get("FASTLSTM_REQUIRE_CPP_TESTS"):
        assert shutil.which("clang")

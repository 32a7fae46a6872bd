"""Instruction sets, threads, build."""

import os
import subprocess
import sys

import pytest

import fastlstm as fl


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_isa_of_this_cpu_can_be_forced():
    try:
        for name in fl.cpu_info()["isas"]:
            fl.set_isa(name)
            assert fl.cpu_info()["isa"] == name
    finally:
        fl.set_isa("auto")
    assert fl.cpu_info()["isa"] == fl.cpu_info()["isas"][-1]


def test_an_isa_that_the_cpu_lacks_is_an_error():
    missing = {"avx2", "avx512", "neon"} - set(fl.cpu_info()["isas"])
    for name in [*missing, "sse9", ""]:
        with pytest.raises(ValueError, match="isa must be one of auto, scalar"):
            fl.set_isa(name)


def test_isa_and_threads_come_from_the_environment():
    code = "import fastlstm as fl; print(fl.cpu_info()['isa'], fl.get_num_threads())"
    result = run_python(code, FASTLSTM_ISA="scalar", FASTLSTM_NUM_THREADS="3")
    assert result.stdout.split() == ["scalar", "3"]
    result = run_python(code, FASTLSTM_NUM_THREADS="many")
    assert "FASTLSTM_NUM_THREADS must be an integer" in result.stderr


@pytest.mark.parametrize("n", [0, -1, 1025])
def test_thread_counts_out_of_range(n):
    with pytest.raises(ValueError, match="n must be an int from 1 to 1024"):
        fl.set_num_threads(n)


@pytest.mark.parametrize("n", [1.0, "2", True, None])
def test_thread_counts_of_another_type(n):
    with pytest.raises(TypeError, match="n must be an int from 1 to 1024"):
        fl.set_num_threads(n)


def test_import_starts_no_thread_and_loads_no_extra():
    code = (
        "import sys, fastlstm\n"
        "extras = {'matplotlib', 'tqdm', 'sklearn', 'pooch', 'scipy'}\n"
        "threads = len(__import__('os').listdir('/proc/self/task'))\n"
        "print(threads, extras & set(sys.modules))"
    )
    result = run_python(code, OPENBLAS_NUM_THREADS="1")
    assert result.stdout.split() == ["1", "set()"]


def test_a_forked_child_computes_the_same():
    code = (
        "import os, numpy as np, fastlstm as fl\n"
        "fl.set_num_threads(2)\n"
        "lstm = fl.LSTM(8, 128, rng=0)\n"
        "x = np.ones((50, 64, 8), np.float32)\n"
        "expected = lstm(x)[0].copy()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if np.array_equal(lstm(x)[0], expected) else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    result = run_python(code, PYTHONWARNINGS="ignore")
    assert result.stdout.split() == ["0"], result.stderr


def test_build_config_names_the_version():
    config = fl.build_config()
    assert config["version"] == fl.__version__
    assert config["optimized"] is True

"""Instruction sets, threads, build."""

import os
import subprocess
import sys

import pytest

import fastlstm as fl
from fastlstm.cli.work import Shape
from fastlstm.runtime import Limits


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
        "extras = {'matplotlib', 'tqdm', 'sklearn', 'pooch', 'scipy', 'safetensors',\n"
        "          'onnx', 'torch'}\n"
        "threads = len(__import__('os').listdir('/proc/self/task'))\n"
        "print(threads, extras & set(sys.modules))"
    )
    result = run_python(code, OPENBLAS_NUM_THREADS="1")
    assert result.stdout.split() == ["1", "set()"]


def test_memory_is_taken_by_the_first_call_not_before():
    # The layer's scratch for this batch is 18 MB; without it there are its parameters,
    # their gradients and x, 1 MB together.
    code = (
        "import numpy as np\n"
        "def resident():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(s.split()[1]) for s in lines if s.startswith('VmRSS'))\n"
        "np.random.default_rng(0)  # imports its modules\n"
        "sizes = [resident()]\n"
        "import fastlstm as fl\n"
        "sizes.append(resident())\n"
        "lstm = fl.LSTM(16, 128)\n"
        "x = np.ones((100, 64, 16), np.float32)\n"
        "sizes.append(resident())\n"
        "lstm.forward(x)\n"
        "sizes.append(resident())\n"
        "print(*np.diff(sizes))"
    )
    result = run_python(code, OPENBLAS_NUM_THREADS="1")
    imported, made, called = map(int, result.stdout.split())
    assert imported < 20_000  # KiB: code and its modules
    assert made < 2_000
    assert called > 16_000


def test_a_call_starts_no_more_threads_than_there_are_cpus():
    code = (
        "import os, numpy as np, fastlstm as fl\n"
        "fl.set_num_threads(16)\n"
        "fl.LSTM(16, 128)(np.ones((100, 256, 16), np.float32))\n"
        "print(len(os.listdir('/proc/self/task')) <= fl.cpu_info()['cpus'])"
    )
    result = run_python(code, OPENBLAS_NUM_THREADS="1")
    assert result.stdout.split() == ["True"], result.stderr


def test_the_default_number_of_threads_follows_the_affinity_mask():
    code = (
        "import os\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
        "import fastlstm as fl\n"
        "print(fl.get_num_threads(), fl.cpu_info()['cpus'])"
    )
    result = run_python(code, FASTLSTM_NUM_THREADS="")
    assert result.stdout.split() == ["1", "1"], result.stderr


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


def test_machine_limits_are_measured():
    limits = fl.machine_limits(2, seconds=0.01)
    assert limits.threads == 2
    assert limits.flops > 1e6
    assert [name for name, _, _ in limits.reads] == ["L1", "L2", "L3", "memory"]
    assert all(rate > 1e6 for _, _, rate in limits.reads)
    sizes = [size for _, size, _ in limits.reads]
    assert sizes == sorted(sizes)


def test_what_a_near_level_holds_is_read_at_its_rate():
    limits = Limits(1, 1e9, (("L1", 100, 10.0), ("L2", 300, 5.0), ("memory", 900, 1.0)))
    assert limits.read_seconds(0) == 0
    assert limits.read_seconds(100) == 10
    assert limits.read_seconds(300) == 10 + 40
    assert limits.read_seconds(350) == 10 + 40 + 50


@pytest.mark.parametrize("threads", [0, 1025])
def test_limits_of_no_threads(threads):
    with pytest.raises(ValueError, match="threads must be an integer from 1 to 1024"):
        fl.machine_limits(threads)


def test_limits_need_some_time():
    with pytest.raises(ValueError, match="seconds must be finite and above 0"):
        fl.machine_limits(seconds=0.0)


def test_the_least_time_is_products_or_reading_the_weights():
    limits = Limits(1, 1e6, (("L1", 1 << 60, 2e5),))
    # 4 gates, 2 units, 3 + 2 columns: 80 operations a row and step, 3 times to train.
    many = Shape("", 3, 2, 1, seq_len=10, batch_size=100)
    assert many.flops == 3 * 80 * 10 * 100
    assert many.least_seconds(limits) == pytest.approx(many.flops / 1e6)
    # A row alone: W_hh, 64 bytes, once a step in each direction and each of two passes,
    # at 320 us a step to 80 and 160 us for the products.
    one = many._replace(batch_size=1, bidirectional=True)
    assert one.flops == 2 * 3 * 80 * 10
    assert one.least_seconds(limits) == pytest.approx(2 * 2 * 10 * 320e-6)

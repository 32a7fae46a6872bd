"""Times one step of a stream from Python, beside ONNX Runtime where it is installed.

    python benchmarks/step.py
    cmake -B build/bench -DFASTLSTM_BUILD_BENCHMARKS=ON && cmake --build build/bench
    python benchmarks/step.py --cpp build/bench/benchmarks/fastlstm_step

All ways of a model are called in turn, round after round, on one thread, then on two
that share a step; the figure is the median over rounds of the mean within a round, in
microseconds. ONNX Runtime steps one LSTM operator a layer on bound buffers, its state
going in and out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastlstm as fl

MODELS = {
    "1/16": (1, 16, 1),
    "1/40": (1, 40, 1),
    "128/128": (128, 128, 1),
    "2x640": (640, 640, 2),
}
ROUNDS = 15
SECONDS = 0.02  # of one way in one round
Step = Callable[[], object]


def own_steps(layer: fl.LSTM, threads: int) -> dict[str, Step]:
    """Return steps into a given array: float32 weights and bfloat16."""
    x = np.full(layer.input_size, 0.1, np.float32)

    def step_of(stream: fl.Stream) -> Step:
        out = np.empty(layer.hidden_size, np.float32)
        return lambda: stream.step(x, out=out)

    return {
        "fastlstm": step_of(layer.stream(threads=threads)),
        "bfloat16": step_of(layer.stream(precision="bfloat16", threads=threads)),
    }


def onnx_step(layer: fl.LSTM, threads: int) -> Step:
    """Return a step of ONNX Runtime; ImportError where it is not installed."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    hidden, layers = layer.hidden_size, layer.num_layers
    nodes, weights, inputs, outputs = [], [], [], []
    arrays = {"x0": np.full((1, 1, layer.input_size), 0.1, np.float32)}
    for n in range(layers):
        for name in ("weight_ih", "weight_hh", "bias"):
            i, f, g, o = np.split(layer.params[f"{name}_l{n}"], 4)
            array = np.concatenate([i, o, f, g])[None]
            if name == "bias":
                array = np.concatenate([array, np.zeros_like(array)], 1)
            weights.append(numpy_helper.from_array(array, f"{name}{n}"))
        source = f"x{n}" if n == 0 else f"h_out{n - 1}"
        nodes.append(
            helper.make_node(
                "LSTM",
                [
                    *(source, f"weight_ih{n}", f"weight_hh{n}", f"bias{n}", ""),
                    *(f"h_in{n}", f"c_in{n}"),
                ],
                ["", f"h_out{n}", f"c_out{n}"],
                hidden_size=hidden,
            )
        )
        for state in "hc":
            inputs.append(f"{state}_in{n}")
            outputs.append(f"{state}_out{n}")
    zeros = {name: np.zeros((1, 1, hidden), np.float32) for name in inputs + outputs}
    arrays |= zeros

    def info(name: str) -> Any:
        return helper.make_tensor_value_info(
            name, TensorProto.FLOAT, arrays[name].shape
        )

    graph = helper.make_graph(
        nodes,
        "step",
        [info(name) for name in ["x0", *inputs]],
        [info(name) for name in outputs],
        weights,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    bindings = []
    # The state goes back and forth between two sets of buffers.
    for sources, targets in ((inputs, outputs), (outputs, inputs)):
        binding = session.io_binding()
        buffers = {"x0": "x0"} | dict(zip(inputs, sources, strict=True))
        for name, buffer in buffers.items():
            a = arrays[buffer]
            binding.bind_input(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
        for name, buffer in zip(outputs, targets, strict=True):
            a = arrays[buffer]
            binding.bind_output(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
        bindings.append(binding)
    # The bindings know only addresses: whoever holds the step must hold the arrays.
    turn = [0]

    def step(keep: object = arrays) -> None:
        session.run_with_iobinding(bindings[turn[0]])
        turn[0] = 1 - turn[0]

    step()
    wanted = layer.stream().step(arrays["x0"][0, 0])
    got = arrays[f"h_out{layers - 1}"].ravel()
    if not np.allclose(got, wanted, atol=1e-5):
        raise AssertionError("ONNX Runtime computes another result")
    return step


def mean_time(step: Step, calls: int) -> float:
    """Return microseconds of a call."""
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - begin) / calls * 1e6


def time_model(sizes: tuple[int, int, int], threads: int) -> dict[str, float]:
    """Return microseconds a step of every way."""
    layer = fl.LSTM(*sizes, rng=0)
    steps = own_steps(layer, threads)
    try:
        steps["onnxruntime"] = onnx_step(layer, threads)
    except ImportError as error:
        print(f"onnxruntime is left out: {error}")
    calls = {n: max(5, int(SECONDS * 1e6 / mean_time(s, 20))) for n, s in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            times[name].append(mean_time(step, calls[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print a line for each model and way."""
    parser = argparse.ArgumentParser(description="Time a step of a stream.")
    parser.add_argument("--cpp", help="the program that step.cpp builds: run it too")
    args = parser.parse_args()
    for threads in (1, 2):
        for model, sizes in MODELS.items():
            times = time_model(sizes, threads)
            shown = ", ".join(f"{name} {us:.3g} us" for name, us in times.items())
            print(f"{model:<8} Python, {threads} threads: {shown}")
    if args.cpp:
        done = subprocess.run([args.cpp], check=True, capture_output=True, text=True)
        for line in done.stdout.splitlines():
            row = json.loads(line)
            print(f"{row['model']:<8} C++: {row['way']} {row['ns'] / 1000:.3g} us")


if __name__ == "__main__":
    main()

"""How each library does the work.

One function a library sets it up for some threads and returns a function that prepares
a problem.

Training is forward and backward with the gradients of x and of all parameters, for a
given gradient of the output, with the initial state zero. Inference keeps nothing. All
compute the same from the same parameters; a library may offer several ways, of which
the fastest counts. Weights are prepared in the layout that suits the library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


class Problem(NamedTuple):
    """A shape with its data; the same numbers in every process."""

    name: str
    input_size: int
    hidden_size: int
    num_layers: int
    seq_len: int
    batch_size: int
    bidirectional: bool
    train: bool

    @property
    def suffixes(self) -> list[str]:
        """Of the parameters, for every layer and direction: `_l0`, `_l0_reverse`."""
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [f"_l{layer}{end}" for layer in range(self.num_layers) for end in ends]

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 2 if self.bidirectional else 1

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x (T, N, I) and the gradient of the output (T, N, D*H)."""
        rng = np.random.default_rng(0)
        steps = (self.seq_len, self.batch_size)
        units = self.hidden_size * self.directions
        x = rng.standard_normal((*steps, self.input_size), np.float32)
        return x, rng.standard_normal((*steps, units), np.float32)

    def params(self) -> Arrays:
        """Return weight_ih (4H, I), weight_hh (4H, H), bias (4H,), gates i, f, g, o."""
        rng = np.random.default_rng(1)
        h = self.hidden_size
        bound = 1 / np.sqrt(h)
        arrays: Arrays = {}
        for i, suffix in enumerate(self.suffixes):
            inputs = self.input_size if i < self.directions else h * self.directions
            shapes = {"weight_ih": (4 * h, inputs), "weight_hh": (4 * h, h)}
            for name, shape in {**shapes, "bias": (4 * h,)}.items():
                values = rng.uniform(-bound, bound, shape)
                arrays[name + suffix] = values.astype(np.float32)
        return arrays


class Candidate(NamedTuple):
    """A way to do the work."""

    name: str
    run: Callable[[], object]  # this is timed
    # What the latest run gave: output, and if it trained, x and the parameters by name,
    # standing for their gradients.
    results: Callable[[], Arrays]


Prepare = Callable[[Problem], list[Candidate]]


def fastlstm(threads: int, isa: str) -> Prepare:
    """Set up this package."""
    import fastlstm as fl

    fl.set_num_threads(threads)
    fl.set_isa(isa)

    def prepare(problem: Problem) -> list[Candidate]:
        x, d_output = problem.data()
        lstm = fl.LSTM(*problem[1:4], bidirectional=problem.bidirectional)
        for name, value in problem.params().items():
            lstm.params[name][...] = value
        if not problem.train:
            lstm.freeze()  # constant, as ONNX Runtime's initializers are
        latest: Arrays = {}

        def infer() -> None:
            latest["output"], _ = lstm(x)

        def train() -> None:
            latest.clear()  # as local variables of a training step end with it
            latest["output"], _, tape = lstm.forward(x)
            latest["x"], _ = lstm.backward(
                d_output, tape, need_d_state=False, accumulate=False
            )
            latest.update(lstm.grads)

        return [Candidate("", train if problem.train else infer, lambda: latest)]

    return prepare


def torch(threads: int, isa: str) -> Prepare:
    """Set up PyTorch, whose LSTM on a CPU is oneDNN's."""
    import torch

    torch.set_num_threads(threads)

    def prepare(problem: Problem) -> list[Candidate]:
        x, d_output = (torch.from_numpy(array) for array in problem.data())
        lstm = torch.nn.LSTM(*problem[1:4], bidirectional=problem.bidirectional)
        state = {}
        for name, value in problem.params().items():
            state[name.replace("bias", "bias_ih")] = torch.from_numpy(value)
            if name.startswith("bias"):
                state[name.replace("bias", "bias_hh")] = torch.zeros(len(value))
        lstm.load_state_dict(state)
        latest = {}

        def infer() -> None:
            with torch.inference_mode():
                latest["output"] = lstm(x)[0]

        def train() -> None:
            latest.clear()
            lstm.zero_grad(set_to_none=False)
            x.grad = None
            latest["output"] = lstm(x)[0]
            latest["output"].backward(d_output)

        def results() -> Arrays:
            arrays = {"output": latest["output"].detach().numpy()}
            if problem.train:
                arrays["x"] = x.grad.numpy()
                for name, parameter in lstm.named_parameters():
                    if not name.startswith("bias_hh"):
                        arrays[name.replace("bias_ih", "bias")] = parameter.grad.numpy()
            return arrays

        if problem.train:
            x.requires_grad_()
        return [Candidate("nn.LSTM", train if problem.train else infer, results)]

    return prepare


def onnxruntime(threads: int, isa: str) -> Prepare:
    """Set up ONNX Runtime, which only infers; bound buffers save it its allocations."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    if isa != "auto":
        raise ImportError("its kernels cannot be held to an instruction set")
    onnxruntime.set_default_logger_severity(3)

    def stacked(problem: Problem, layer: int) -> list[onnx.TensorProto]:
        """Weights of a layer, (directions, 4H, ...), gates i, o, f, c."""
        first = layer * problem.directions
        suffixes = problem.suffixes[first : first + problem.directions]
        params = problem.params()

        def stack(name: str) -> np.ndarray:
            i, f, g, o = np.split(np.stack([params[name + s] for s in suffixes]), 4, 1)
            return np.concatenate([i, o, f, g], 1)

        bias = stack("bias")
        arrays = {
            "W": stack("weight_ih"),
            "R": stack("weight_hh"),
            "B": np.concatenate([bias, np.zeros_like(bias)], 1),
        }
        return [numpy_helper.from_array(a, f"{n}{layer}") for n, a in arrays.items()]

    def model(problem: Problem) -> bytes:
        units = problem.directions * problem.hidden_size
        shape = [problem.seq_len, problem.batch_size, units]
        weights = [numpy_helper.from_array(np.array(shape), "shape")]
        nodes = []
        for layer in range(problem.num_layers):
            source = f"x{layer}"
            tensors = stacked(problem, layer)
            weights += tensors
            lstm = helper.make_node(
                "LSTM",
                [source, *(tensor.name for tensor in tensors)],
                [f"y{layer}"],
                hidden_size=problem.hidden_size,
                direction="bidirectional" if problem.bidirectional else "forward",
            )
            # (T, D, N, H) -> (T, N, D*H)
            swap = helper.make_node(
                "Transpose", [f"y{layer}"], [f"z{layer}"], perm=[0, 2, 1, 3]
            )
            join = helper.make_node(
                "Reshape", [f"z{layer}", "shape"], [f"x{layer + 1}"]
            )
            nodes += [lstm, swap, join]
        x = [problem.seq_len, problem.batch_size, problem.input_size]
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            "lstm",
            [helper.make_tensor_value_info("x0", kind, x)],
            [helper.make_tensor_value_info(f"x{problem.num_layers}", kind, shape)],
            weights,
        )
        opset = helper.make_opsetid("", 14)
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=8
        ).SerializeToString()

    def prepare(problem: Problem) -> list[Candidate]:
        if problem.train:
            raise NotImplementedError("it only infers")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            model(problem), options, providers=["CPUExecutionProvider"]
        )
        x, output = problem.data()
        binding = session.io_binding()
        for bind, name, array in (
            (binding.bind_input, "x0", x),
            (binding.bind_output, f"x{problem.num_layers}", output),
        ):
            bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        keep = (x, output)  # the binding knows only addresses
        return [
            Candidate(
                "LSTM operator",
                lambda: session.run_with_iobinding(binding),
                lambda: {"output": keep[1]},
            )
        ]

    return prepare


def numpy(threads: int, isa: str) -> Prepare:
    """Set up the tutorial's way, tests/reference: NumPy, step by step."""
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "reference"))
    import recurrent as reference

    def prepare(problem: Problem) -> list[Candidate]:
        x, d_output = problem.data()
        params = problem.params()
        net = reference.Network("lstm", problem.num_layers, problem.bidirectional)
        rows = problem.num_layers * problem.directions
        zeros = np.zeros((rows, problem.batch_size, problem.hidden_size), np.float32)
        state = (zeros, zeros)
        latest: Arrays = {}

        def infer() -> None:
            latest["output"], _, _ = reference.forward(net, params, x, state)

        def train() -> None:
            latest["output"], _, tape = reference.forward(net, params, x, state)
            latest["x"], _, grads = reference.backward(
                net, params, tape, d_output, state
            )
            latest.update(grads)

        run = train if problem.train else infer
        return [Candidate("step by step", run, lambda: latest)]

    return prepare


def tensorflow(threads: int, isa: str) -> Prepare:
    """Set up TensorFlow; see peers_xla.py."""
    import peers_xla

    return peers_xla.tensorflow(threads)


def jax(threads: int, isa: str) -> Prepare:
    """Set up JAX; see peers_xla.py."""
    import peers_xla

    return peers_xla.jax(threads)


PEERS: dict[str, Callable[[int, str], Prepare]] = {
    "fastlstm": fastlstm,
    "torch": torch,
    "tensorflow": tensorflow,
    "jax": jax,
    "onnxruntime": onnxruntime,
    "numpy": numpy,
}

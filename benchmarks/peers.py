"""One function a library: prepares a shape, returns the work to be timed.

Training is forward and backward with the gradients of x and of all parameters, for a
given gradient of the output, with the initial state zero. Inference keeps nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from shapes import Shape

Work = Callable[[], object]


def data(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Return x and the gradient of the output."""
    rng = np.random.default_rng(0)
    steps = (shape.seq_len, shape.batch_size)
    units = shape.hidden_size * (2 if shape.bidirectional else 1)
    x = rng.standard_normal((*steps, shape.input_size), np.float32)
    return x, rng.standard_normal((*steps, units), np.float32)


def fastlstm(shape: Shape, threads: int, isa: str) -> Work:
    """Prepare this package."""
    import fastlstm as fl

    fl.set_num_threads(threads)
    fl.set_isa(isa)
    x, d_output = data(shape)
    lstm = fl.LSTM(
        shape.input_size,
        shape.hidden_size,
        shape.num_layers,
        bidirectional=shape.bidirectional,
        rng=0,
    )

    def train() -> None:
        lstm.zero_grad()
        _, _, tape = lstm.forward(x)
        lstm.backward(d_output, tape)

    return train if shape.train else lambda: lstm(x)


def torch(shape: Shape, threads: int, isa: str) -> Work:
    """Prepare PyTorch; oneDNN is held by ONEDNN_MAX_CPU_ISA, which compare.py sets."""
    import torch

    torch.set_num_threads(threads)
    x, d_output = (torch.from_numpy(array) for array in data(shape))
    lstm = torch.nn.LSTM(
        shape.input_size,
        shape.hidden_size,
        shape.num_layers,
        bidirectional=shape.bidirectional,
    )

    def infer() -> None:
        with torch.inference_mode():
            lstm(x)

    def train() -> None:
        lstm.zero_grad(set_to_none=False)
        x.grad = None
        lstm(x)[0].backward(d_output)

    if shape.train:
        x.requires_grad_()
    return train if shape.train else infer


def numpy(shape: Shape, threads: int, isa: str) -> Work:
    """Prepare the tutorial's way, tests/reference: NumPy, step by step."""
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "reference"))
    import recurrent as reference

    import fastlstm as fl

    x, d_output = data(shape)
    params = fl.LSTM(
        shape.input_size,
        shape.hidden_size,
        shape.num_layers,
        bidirectional=shape.bidirectional,
        rng=0,
    ).params
    net = reference.Network("lstm", shape.num_layers, shape.bidirectional)
    rows = shape.num_layers * (2 if shape.bidirectional else 1)
    zeros = np.zeros((rows, shape.batch_size, shape.hidden_size), np.float32)
    state = (zeros, zeros)

    def train() -> None:
        _, _, tape = reference.forward(net, params, x, state)
        reference.backward(net, params, tape, d_output, state)

    return train if shape.train else lambda: reference.forward(net, params, x, state)


PEERS = {"fastlstm": fastlstm, "torch": torch, "numpy": numpy}

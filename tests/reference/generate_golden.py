"""Write the golden values of tests/python/test_golden.py, computed by PyTorch.

Every case is one file of tests/python/golden: inputs, parameters and what torch gets
from them in the case's own dtype, forward and backward. Parameters (``state``, torch's
names) and their gradients (``grads``, the library's names) are one flat array each;
``about`` is JSON with the constructor's arguments and the names and shapes in the two.
What goes in is a multiple of 1/32: exact in both dtypes, and files stay small.
Needs torch 2.13. Run: python tests/reference/generate_golden.py
"""

from __future__ import annotations

import itertools
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "python" / "golden"
SMALL = {"T": 4, "N": 3, "I": 3, "H": 5}
LARGE = {"T": 4, "N": 7, "I": 3, "H": 19}  # straddles the vectors of every ISA

BOOLS = (False, True)
DTYPES = ("float32", "float64")


def cases() -> list[tuple[str, dict[str, int], dict[str, Any]]]:
    """Class, sizes and options of every case."""
    found: list[tuple[str, dict[str, int], dict[str, Any]]] = []
    for dtype in DTYPES:
        for layers, two, bias, batch_first in itertools.product(
            (1, 2, 3), BOOLS, BOOLS, BOOLS
        ):
            options = {
                "num_layers": layers,
                "bidirectional": two,
                "bias": bias,
                "batch_first": batch_first,
                "dtype": dtype,
            }
            found.append(("LSTM", SMALL, options))
        for layers, two in itertools.product((1, 2), BOOLS):
            options = {"num_layers": layers, "bidirectional": two, "dtype": dtype}
            found.append(("GRU", SMALL, options))
            for nonlinearity in ("tanh", "relu"):
                found.append(("RNN", SMALL, {**options, "nonlinearity": nonlinearity}))
        for name in ("GRU", "RNN"):
            found.append((name, SMALL, {"bias": False, "dtype": dtype}))
        for name in ("LSTM", "GRU", "RNN"):
            found.append((name, LARGE, {"bidirectional": True, "dtype": dtype}))
        found.append(("LSTM", LARGE, {"num_layers": 2, "dtype": dtype}))
        for size, options in (
            (SMALL, {"proj_size": 3, "num_layers": 2, "bidirectional": True}),
            (LARGE, {"proj_size": 9, "bias": False, "batch_first": True}),
        ):
            found.append(("LSTM", size, {**options, "dtype": dtype}))
    return found


def case_name(name: str, sizes: dict[str, int], options: dict[str, Any]) -> str:
    """Name of the file, such as lstm_l2_bi_batchfirst_float32."""
    parts = [
        name.lower(),
        options.get("nonlinearity", ""),
        f"l{options.get('num_layers', 1)}",
        "bi" if options.get("bidirectional") else "",
        "" if options.get("bias", True) else "nobias",
        "batchfirst" if options.get("batch_first") else "",
        "proj" if options.get("proj_size") else "",
        "large" if sizes is LARGE else "",
        options["dtype"],
    ]
    return "_".join(part for part in parts if part)


def our_gradients(name: str, hidden: int, layer: torch.nn.RNNBase) -> dict[str, Any]:
    """Gradients by the library's parameters, in which torch's two biases are summed.

    A sum's gradient is that of either term. Only b_hn of a GRU stands apart.
    """
    grads: dict[str, Any] = {}
    for key, parameter in layer.named_parameters():
        grad = parameter.grad.numpy()
        if key.startswith("bias_ih"):
            grads[key.replace("bias_ih", "bias")] = grad
        elif key.startswith("weight"):
            grads[key] = grad
        elif name == "GRU":
            grads[key.replace("bias_hh", "bias_hn")] = grad[2 * hidden :]
    return grads


def compute(
    name: str, sizes: dict[str, int], options: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Everything the file holds."""
    T, N, I, H = (sizes[key] for key in "TNIH")  # noqa: E741
    dtype = getattr(torch, options["dtype"])
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        values = scale * torch.randn(shape, generator=generator)
        return (torch.round(32 * values) / 32).to(dtype)

    layer = getattr(torch.nn, name)(I, H, **{**options, "dtype": dtype})
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(draw(*parameter.shape, scale=0.4))

    shape = (N, T, I) if layer.batch_first else (T, N, I)
    directions = 2 if layer.bidirectional else 1
    rows = layer.num_layers * directions
    letters = "hc" if name == "LSTM" else "h"
    units = {"h": options.get("proj_size", H), "c": H}
    given = {"x": draw(*shape)} | {f"{v}0": draw(rows, N, units[v]) for v in letters}
    for value in given.values():
        value.requires_grad_()

    first = tuple(given[f"{v}0"] for v in letters)
    output, last = layer(given["x"], first if name == "LSTM" else first[0])
    results = {"output": output}
    for v, value in zip(letters, last if name == "LSTM" else (last,), strict=True):
        results[f"{v}_n"] = value
    d_results = {f"d_{key}": draw(*value.shape) for key, value in results.items()}
    torch.autograd.backward(list(results.values()), list(d_results.values()))

    state = layer.state_dict()
    grads = our_gradients(name, H, layer)
    about = {
        "layer": name,
        "sizes": [I, H],
        "options": options,
        "state": {key: value.shape for key, value in state.items()},
        "grads": {key: value.shape for key, value in grads.items()},
    }
    record: dict[str, Any] = {"about": json.dumps(about)}
    for key, value in (given | results | d_results).items():
        record[key] = value.detach().numpy()
    for key, value in given.items():
        record[f"d_{key}"] = value.grad.numpy()
    record["state"] = np.concatenate([v.numpy().ravel() for v in state.values()])
    record["grads"] = np.concatenate([v.ravel() for v in grads.values()])
    return record


def main() -> None:
    """Write all files anew."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.npz"):
        old.unlink()
    for name, sizes, options in cases():
        file = case_name(name, sizes, options)
        seed = zlib.crc32(file.encode())
        np.savez_compressed(
            FOLDER / f"{file}.npz", **compute(name, sizes, options, seed)
        )


if __name__ == "__main__":
    main()

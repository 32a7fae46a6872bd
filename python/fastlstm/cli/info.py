"""``fastlstm info``: this installation and this machine, or a model file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastlstm as fl
from fastlstm.cli.common import add_common, set_threads


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "info",
        help="describe this installation, or a model file",
        description="Describe this installation and this machine, or a model file.",
    )
    parser.add_argument("model", type=Path, nargs="?", help="a .safetensors file")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one `name: value` a line."""
    set_threads(args)
    lines = machine_lines() if args.model is None else model_lines(args.model)
    for name, value in lines:
        print(f"{name + ':':<14} {value}")
    return 0


def machine_lines() -> list[tuple[str, str]]:
    """Describe the installation and the machine."""
    cpu, build = fl.cpu_info(), fl.build_config()
    return [
        ("fastlstm", fl.__version__),
        ("compiler", build["compiler"]),
        ("cpu", f"{cpu['name']} ({cpu['machine']}), {cpu['cpus']} usable"),
        ("isa", f"{cpu['isa']}, of {', '.join(cpu['isas'])}"),
        ("threads", str(cpu["threads"])),
    ]


def model_lines(path: Path) -> list[tuple[str, str]]:
    """Describe a model file: task, layers, parameters and training."""
    model = fl.load(path)
    layers = {
        "embedding": model.embedding,
        "recurrent": model.recurrent,
        "head": model.head,
    }
    parameters = sum(
        array.size
        for layer in layers.values()
        if layer is not None
        for array in layer.params.values()
    )
    answers = "at every step" if model.return_sequences else "after the last step"
    lines = [
        ("file", f"{path} ({path.stat().st_size:,} bytes)"),
        ("task", f"{model.task}, answers {answers}, loss {model.loss!r}"),
    ]
    lines += [(n, repr(layer)) for n, layer in layers.items() if layer is not None]
    lines.append(("parameters", f"{parameters:,}"))
    if model.training_summary:
        summary = [
            f"{name} {value:.4g}" for name, value in model.training_summary.items()
        ]
        lines.append(("training", ", ".join(summary)))
    if model.recurrent.dtype == np.float32:
        error, steps = bfloat16_error(path)
        text = f"largest error {error:.2g} of the head's output in {steps} random steps"
        lines.append(("bfloat16", text))
    return lines


def bfloat16_error(path: Path, steps: int = 100, rows: int = 8) -> tuple[float, int]:
    """Return max |difference| that ``fl.load(..., precision="bfloat16")`` makes.

    Over all outputs of the head at all steps, on the same seeded random input: standard
    normal values, or indices of the embedding.
    """
    exact, rounded = fl.load(path), fl.load(path, precision="bfloat16")
    rng = np.random.default_rng(0)
    x: npt.NDArray[Any]
    if exact.embedding is not None:
        x = rng.integers(exact.embedding.num_embeddings, size=(rows, steps))
    else:
        size = (rows, steps, exact.recurrent.input_size)
        x = rng.standard_normal(size, np.float32)

    def outputs(model: fl.SequenceModel) -> Any:
        inputs = x if model.embedding is None else model.embedding(x)
        if not model.recurrent.batch_first:
            inputs = inputs.swapaxes(0, 1)
        return model.head(model.recurrent(inputs)[0])

    return float(np.abs(outputs(exact) - outputs(rounded)).max()), steps

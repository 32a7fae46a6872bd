"""``fastlstm mnist``: digits read piece by piece, one answer after the last piece."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastlstm as fl
from fastlstm.cli.common import (
    add_common,
    positive_float,
    positive_int,
    prepare,
    table,
)
from fastlstm.nn.variants import ACTIVATIONS
from fastlstm.schedules import Schedule

Array = npt.NDArray[Any]

_CLASSES = 10


@dataclass(frozen=True)
class Preset:
    """What a preset sets; each can be overridden on the command line."""

    hidden: int
    layers: int
    epochs: int
    batch_size: int
    lr: float
    dropout: float = 0.0
    restarts: bool = False  # one cycle an epoch instead of one over all
    classic: bool = False  # the tutorial's start values and plain SGD
    piece: int = 28  # pixels fed at a time
    memory: int = 0  # gates start with memories of 1 to so many steps


PRESETS = {
    "default": Preset(128, 1, 3, 64, 1e-2, restarts=True),
    "fast": Preset(128, 1, 1, 128, 1e-2),
    "best": Preset(128, 2, 8, 64, 6e-3, dropout=0.3),
    "classic": Preset(785, 1, 1, 1, 0.01, classic=True),
    "pixels": Preset(128, 1, 6, 64, 1e-2, piece=1, memory=160),
}


@dataclass(frozen=True)
class Images:
    """A data set of images as sequences, (N, T, I), with labels (N,)."""

    name: str
    side: int
    x: Array
    y: Array
    x_test: Array
    y_test: Array


@dataclass(frozen=True)
class MnistResult:
    """A trained model and how it came about."""

    model: fl.SequenceModel
    history: fl.History
    samples: int  # seen in training
    seconds: float  # of training, validation left out

    @property
    def accuracy(self) -> float:
        """Share of test images read right after the last epoch."""
        return float(self.history.history["val_accuracy"][-1])


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "mnist",
        help="read digits piece by piece",
        description="Train a classifier of handwritten digits that are fed piece by "
        "piece; print the accuracy per epoch, save the model, plot the learning curve "
        "and misread digits.",
    )
    parser.add_argument("--preset", choices=PRESETS, default="default")
    parser.add_argument(
        "--piece",
        type=positive_int,
        metavar="N",
        help="pixels fed at a time, a divisor of 784 (default: 28, a row; 1 for the "
        "preset pixels)",
    )
    parser.add_argument("--hidden", type=positive_int, metavar="N")
    parser.add_argument("--layers", type=positive_int, metavar="N")
    parser.add_argument("--epochs", type=positive_int, metavar="N")
    parser.add_argument("--batch-size", type=positive_int, metavar="N")
    parser.add_argument("--lr", type=positive_float, metavar="X", help="learning rate")
    for name in ("cell", "output"):
        parser.add_argument(f"--{name}-activation", choices=ACTIVATIONS, default="tanh")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with the four MNIST files; default: $FASTLSTM_DATA_DIR/mnist, "
        "the cache, a download",
    )
    parser.add_argument(
        "--limit", type=positive_int, metavar="N", help="use only N training images"
    )
    parser.add_argument(
        "--profile", action="store_true", help="print where the time of training went"
    )
    add_common(parser, out="fastlstm-mnist")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, report, save and plot."""
    folder = prepare(args)
    preset = _with_overrides(PRESETS[args.preset], args)
    images = mnist_images(preset.piece, args.data, args.limit)
    print(f"{images.name}: {len(images.x)} training, {len(images.x_test)} test images")
    result = train(images, preset, args)
    model_path = folder / "mnist.safetensors"
    result.model.save(model_path)
    rate = result.samples / result.seconds
    print(
        f"test accuracy {result.accuracy:.2%}; trained {result.seconds:.1f} s, "
        f"{rate:,.0f} samples/s"
    )
    if args.profile:
        print(profile_table(result.history.profile, result.seconds))
    for path in [model_path, *write_plots(result, images, folder)]:
        print(f"wrote {path}")
    return 0


def profile_table(profile: dict[str, float], seconds: float) -> str:
    """Lay out the seconds of training by what they were spent on.

    Examples
    --------
    >>> print(profile_table({"forward": 1.0, "backward": 2.0}, 4.0))
    time of training     s  share
    ----------------  ----  -----
    forward           1.00  25.0%
    backward          2.00  50.0%
    outside the core  1.00  25.0%
    """
    rest = {"outside the core": seconds - sum(profile.values())}
    rows = [
        [name, f"{part:.2f}", f"{part / seconds:.1%}"]
        for name, part in (profile | rest).items()
    ]
    return table(["time of training", "s", "share"], rows)


def mnist_images(piece: int, data: Path | None, limit: int | None) -> Images:
    """Load MNIST; the first `limit` training images if given."""
    x, y = fl.datasets.mnist("train", piece=piece, path=data)
    x_test, y_test = fl.datasets.mnist("test", piece=piece, path=data)
    return Images("MNIST", 28, x[:limit], y[:limit], x_test, y_test)


def digits_images() -> Images:
    """Load scikit-learn's 8x8 digits, fed row by row."""
    x, y = fl.datasets.digits("train")
    x_test, y_test = fl.datasets.digits("test")
    return Images("scikit-learn's digits", 8, x, y, x_test, y_test)


def build_model(
    images: Images, preset: Preset, args: argparse.Namespace
) -> fl.SequenceModel:
    """Return an untrained model for the images."""
    rng = np.random.default_rng(args.seed)
    lstm = fl.LSTM(
        images.x.shape[2],
        preset.hidden,
        preset.layers,
        batch_first=True,
        dropout=preset.dropout,
        cell_activation=args.cell_activation,
        output_activation=args.output_activation,
        init=0.1 if preset.classic else "uniform",
        # Remember by default: Jozefowicz, Zaremba and Sutskever (2015).
        forget_bias=None if preset.classic else 1.0,
        rng=rng,
    )
    if preset.memory > 0:
        _start_with_memories(lstm, min(preset.memory, images.x.shape[1]), rng)
    head = fl.Linear(preset.hidden, _CLASSES, rng=rng)
    if preset.classic:
        bound = math.sqrt(2 / (preset.hidden * _CLASSES))
        weight = head.params["weight"]
        weight[...] = rng.uniform(-bound, bound, weight.shape)
        head.params["bias"].fill(0)
    return fl.SequenceModel(lstm, head)


def _start_with_memories(lstm: fl.LSTM, steps: int, rng: np.random.Generator) -> None:
    """Start with memories of 1 to `steps` steps, and hear a single pixel.

    Biases of forget and input gates: chrono initialisation, C. Tallec and Y. Ollivier
    (2018). The input's weights follow the number of inputs, not of hidden units: a
    gate that is almost shut must still move when one of few inputs does.
    """
    hidden = lstm.hidden_size
    inputs = lstm.params["weight_ih_l0"]
    bound = 1 / math.sqrt(lstm.input_size)
    inputs[...] = rng.uniform(-bound, bound, inputs.shape)
    for layer in range(lstm.num_layers):
        bias = lstm.params[f"bias_l{layer}"]
        memory = np.log(rng.uniform(1, max(steps - 1, 1), hidden))
        bias[:] = 0
        bias[:hidden] = -memory
        bias[hidden : 2 * hidden] = memory


def train(images: Images, preset: Preset, args: argparse.Namespace) -> MnistResult:
    """Train with Adam on a one-cycle schedule; classic: plain SGD, no clipping."""
    model = build_model(images, preset, args)
    classic = preset.classic
    history = model.fit(
        images.x,
        images.y,
        epochs=preset.epochs,
        batch_size=preset.batch_size,
        optimizer=fl.SGD(preset.lr) if classic else fl.Adam(preset.lr),
        schedule=None if classic else one_cycle(preset, len(images.x)),
        clip_norm=None if classic else 1.0,
        validation_data=(images.x_test, images.y_test),
        rng=args.seed,
        progress=not args.quiet,
        callbacks=[print_epoch],
    )
    seconds = sum(history.history["seconds"])
    samples = len(images.x) * len(history.history["seconds"])
    return MnistResult(model, history, samples, seconds)


def one_cycle(preset: Preset, samples: int) -> Schedule:
    """One cycle over all epochs; or one an epoch, each half as high as the last.

    With a cycle an epoch, every epoch ends on a low rate, so that its accuracy is worth
    reporting.
    """
    cycle = fl.OneCycle(preset.lr)
    if not preset.restarts:
        return cycle
    steps = -(-samples // preset.batch_size)

    def schedule(step: int, total_steps: int | None = None) -> float:
        epoch, within = divmod(step, steps)
        return cycle(within, steps) * 0.5**epoch

    return schedule


def print_epoch(epoch: int, logs: dict[str, float]) -> None:
    """Print one line an epoch."""
    print(
        f"epoch {epoch + 1}: loss {logs['loss']:.4f}, training accuracy "
        f"{logs['accuracy']:.2%}, test accuracy {logs['val_accuracy']:.2%}, "
        f"{logs['seconds']:.1f} s",
        flush=True,
    )


def write_plots(result: MnistResult, images: Images, folder: Path) -> list[Path]:
    """Plot the learning curve and the misread digits; return the files."""
    from fastlstm import plot

    probabilities = result.model.predict_proba(images.x_test)
    read = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(read != images.y_test)
    pictures = images.x_test[wrong].reshape(-1, images.side, images.side)
    figures = {
        "learning-curve.png": plot.learning_curve(result.history.history),
        "misread.png": plot.misread(
            pictures, images.y_test[wrong], read[wrong], probabilities[wrong]
        ),
    }
    return [plot.save(figure, folder / name) for name, figure in figures.items()]


def _with_overrides(preset: Preset, args: argparse.Namespace) -> Preset:
    names = ("hidden", "layers", "epochs", "batch_size", "lr", "piece")
    given = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
    return Preset(**(vars(preset) | given))

"""Models as safetensors files: weights as tensors, the architecture in the metadata.

Nothing in a file is executed and no size in it is believed: every layer is made only
after the tensors that must fill it were found in the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastlstm.losses import MAE, MSE, CrossEntropy, Huber
from fastlstm.nn import GRU, LSTM, RNN
from fastlstm.nn.embedding import Embedding
from fastlstm.nn.linear import Linear
from fastlstm.nn.module import Module
from fastlstm.nn.stream import check_precision
from fastlstm.serialization import ModelFileError, read_safetensors, write_safetensors

if TYPE_CHECKING:
    from fastlstm.training.model import SequenceModel

Array = npt.NDArray[Any]

_FORMAT = "fastlstm"
_VERSION = "1"
_RECURRENT = {cls.__name__: cls for cls in (LSTM, GRU, RNN)}
_HEADS = {"Linear": Linear}
_EMBEDDINGS = {"Embedding": Embedding}
_LOSSES = {cls.__name__: cls for cls in (CrossEntropy, MSE, MAE, Huber)}


def save(model: SequenceModel, path: str | os.PathLike[str]) -> None:
    """Write a model; see `SequenceModel.save`."""
    loss = type(model.loss).__name__
    if _LOSSES.get(loss) is not type(model.loss):
        raise ValueError(f"only losses of fastlstm can be saved, got {loss}")
    layers = _layers(model)
    config: dict[str, Any] = {
        name: None if layer is None else _described(layer)
        for name, layer in layers.items()
    }
    config["task"] = model.task
    config["return_sequences"] = model.return_sequences
    config["loss"] = _described(model.loss)
    tensors = {
        f"{prefix}.{name}": value
        for prefix, layer in layers.items()
        if layer is not None
        for name, value in layer.state_dict().items()
    }
    metadata = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "config": json.dumps(config),
        "training": json.dumps(model.training_summary),
    }
    write_safetensors(path, tensors, metadata)


def load(
    path: str | os.PathLike[str], *, precision: str | None = None
) -> SequenceModel:
    """Read a model that `SequenceModel.save` wrote.

    Parameters
    ----------
    path : path-like
    precision : None or "bfloat16"
        "bfloat16" rounds the matrices of the recurrent layer, to nearest even, and lets
        streams store them in half the memory; ``fastlstm info`` shows the error.

    Returns
    -------
    SequenceModel

    Raises
    ------
    ModelFileError
        If the file is no whole, consistent model of a known version.
    OSError
        If the file cannot be read.
    ValueError
        If `precision` is unknown, or bfloat16 is asked of a float64 model.

    Examples
    --------
    >>> import tempfile
    >>> import fastlstm as fl
    >>> model = fl.SequenceModel(fl.LSTM(1, 8), fl.Linear(8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.safetensors")
    ...     loaded = fl.load(f"{folder}/model.safetensors")
    >>> loaded.recurrent.hidden_size
    8
    """
    check_precision(precision)
    tensors, metadata = read_safetensors(path)
    try:
        model = _rebuilt(tensors, metadata)
    except KeyError as error:
        raise ModelFileError(f"{os.fspath(path)}: config lacks {error}") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"{os.fspath(path)}: {error}") from error
    if precision is not None:
        model.recurrent.round_weights(precision)
    return model


def _layers(model: SequenceModel) -> dict[str, Module | None]:
    return {
        "embedding": model.embedding,
        "recurrent": model.recurrent,
        "head": model.head,
    }


def _described(part: Any) -> dict[str, Any]:
    return {"class": type(part).__name__, "config": part.config()}


def _rebuilt(
    tensors: Mapping[str, Array], metadata: Mapping[str, str]
) -> SequenceModel:
    from fastlstm.training.model import SequenceModel

    config = _read_config(metadata)
    recurrent = _made("recurrent", config, _RECURRENT, tensors)
    head = _made("head", config, _HEADS, tensors)
    embedding = None
    if config.get("embedding") is not None:
        embedding = _made("embedding", config, _EMBEDDINGS, tensors)
    model = SequenceModel(
        recurrent,
        head,
        task=config["task"],
        return_sequences=config["return_sequences"],
        loss=_instance("loss", config, _LOSSES),
        embedding=embedding,
    )
    _fill(model, tensors)
    model.training_summary = _read_summary(metadata)
    return model


def _read_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != _FORMAT:
        raise ValueError("not a fastlstm model: the metadata do not say so")
    version = metadata.get("format_version")
    if version != _VERSION:
        raise ValueError(
            f"format version {version} is not known here; this is fastlstm's reader "
            f"of version {_VERSION}"
        )
    config = _parsed("config", metadata, "null")
    wanted = {"recurrent", "head", "task", "return_sequences", "loss"}
    if not isinstance(config, dict) or not wanted <= config.keys():
        raise ValueError(f"config must be an object with {', '.join(sorted(wanted))}")
    _refuse_others("config", config, {*wanted, "embedding"})
    if not isinstance(config["return_sequences"], bool):
        raise ValueError("return_sequences must be true or false")
    return config


def _read_summary(metadata: Mapping[str, str]) -> dict[str, float]:
    summary = _parsed("training", metadata, "{}")
    if not isinstance(summary, dict) or not all(
        isinstance(value, int | float) for value in summary.values()
    ):
        raise ValueError("training must be an object of numbers")
    return {name: float(value) for name, value in summary.items()}


def _parsed(name: str, metadata: Mapping[str, str], default: str) -> Any:
    try:
        return json.loads(metadata.get(name, default))
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error


def _refuse_others(name: str, found: Mapping[str, Any], known: set[str]) -> None:
    """Refuse what a later version may have added: it must not be ignored."""
    others = sorted(found.keys() - known)
    if others:
        raise ValueError(
            f"{name} has {', '.join(map(repr, others))}, which this version does not "
            "know"
        )


def _described_class(
    name: str, config: Mapping[str, Any], known: Mapping[str, type]
) -> tuple[type, dict[str, Any]]:
    part = config[name]
    if not isinstance(part, dict) or not isinstance(part.get("config"), dict):
        raise ValueError(f"{name} must be an object with class and config")
    _refuse_others(name, part, {"class", "config"})
    cls = known.get(str(part.get("class")))
    if cls is None:
        raise ValueError(
            f"{name} must be one of {', '.join(known)}, got {part.get('class')!r}"
        )
    return cls, part["config"]


def _instance(name: str, config: Mapping[str, Any], known: Mapping[str, type]) -> Any:
    cls, arguments = _described_class(name, config, known)
    return cls(**arguments)


def _made(
    name: str,
    config: Mapping[str, Any],
    known: Mapping[str, type],
    tensors: Mapping[str, Array],
) -> Any:
    """Make a layer whose memory is no larger than what the file holds for it."""
    cls, arguments = _described_class(name, config, known)
    for tensor, shape in _backing_shapes(name, arguments):
        if tensor not in tensors:
            raise ValueError(f"tensor {tensor} is missing")
        found = tensors[tensor].shape
        if len(found) != 2 or found[0] < shape[0] or found[1] != shape[1]:
            raise ValueError(f"{tensor} does not fit the config: shape {found}")
    return cls(**arguments)


def _backing_shapes(
    name: str, arguments: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Weights that a config must be backed by; gates multiply the rows."""
    if name != "recurrent":
        rows, columns = (
            ("out_features", "in_features")
            if name == "head"
            else ("num_embeddings", "embedding_dim")
        )
        yield f"{name}.weight", (_size(arguments[rows]), _size(arguments[columns]))
        return
    hidden = _size(arguments["hidden_size"])
    inputs = _size(arguments["input_size"])
    outputs = _size(arguments.get("proj_size", hidden))
    ends = ("", "_reverse") if arguments["bidirectional"] else ("",)
    for layer in range(_size(arguments["num_layers"])):
        for end in ends:
            yield f"recurrent.weight_ih_l{layer}{end}", (hidden, inputs)
            yield f"recurrent.weight_hh_l{layer}{end}", (hidden, outputs)
        inputs = outputs * len(ends)


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ValueError(f"sizes must be integers >= 1, got {value!r}")
    return value


def _fill(model: SequenceModel, tensors: Mapping[str, Array]) -> None:
    left = dict(tensors)
    for prefix, layer in _layers(model).items():
        if layer is None:
            continue
        head = f"{prefix}."
        own = {n[len(head) :]: left.pop(n) for n in tensors if n.startswith(head)}
        layer.load_state_dict(own)
    if left:
        raise ValueError(f"unexpected tensor {', '.join(sorted(left))}")

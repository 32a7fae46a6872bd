"""Write a model as one C or C++ header: checks, the self-test's data, the file.

The text is made by assemble.py; `fastlstm export` calls this.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastlstm._checks import check_rng
from fastlstm._files import StrPath, replace_file
from fastlstm.export.assemble import Sample, Sizes, header_text, sizes_of
from fastlstm.export.weights import check_exportable, dequantized, weights_of
from fastlstm.training import SequenceModel
from fastlstm.training.network import Network

Array = npt.NDArray[Any]

_LANGUAGES = {"c": (".h",), "c++": (".hpp", ".hh", ".hxx")}
_MAX_NAME = 63  # characters that C99 promises to tell apart
# Words of C and C++, predefined macros, and what the header itself uses.
_WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t
char32_t char8_t class co_await co_return co_yield compl concept const const_cast
consteval constexpr constinit continue decltype default delete do double dynamic_cast
else enum explicit export extern false float for friend goto if inline int linux long
main mutable namespace new noexcept not not_eq nullptr operator or or_eq private
protected public register reinterpret_cast requires restrict return short signed sizeof
static static_assert static_cast std struct switch template this thread_local throw true
try typedef typeid typename typeof union unix unsigned using virtual void volatile
wchar_t while xor xor_eq int8_t int32_t uint32_t memcpy memset
"""
_RESERVED = frozenset(_WORDS.split())
# Numbers that the self-test stores, at most; always two steps at least.
_SELF_TEST_NUMBERS = 256
_SELF_TEST_STEPS = 16
# Sequences and steps of random input on which int8 is compared with float32.
_MEASURED = (8, 64)


class HeaderReport(NamedTuple):
    """What was written.

    Attributes
    ----------
    name : str
        Namespace (C++) or prefix (C) of everything in the header.
    sizes : Sizes
        Bytes of weights, state and stack; multiply-adds of a step.
    int8_error : float or None
        Root mean square change of the outputs through int8, relative to their own
        root mean square, on random input; None for float weights.
    """

    name: str
    sizes: Sizes
    int8_error: float | None


def to_header(
    model: SequenceModel,
    path: StrPath,
    *,
    language: str | None = None,
    name: str | None = None,
    int8: bool = False,
    rng: int | np.random.Generator | None = 0,
) -> HeaderReport:
    """Write a model as one header of C99 or C++11 that needs nothing else.

    The header holds the weights, ``step`` for one time step, ``process`` for several,
    a state for each stream, and a self-test. Its outputs are those of the head, at
    every step: values, or a class's logit before softmax (``label`` and
    ``probabilities`` take them further). They agree with the library to 1e-6.

    Parameters
    ----------
    model : SequenceModel
        Of float32 and one direction; any cell, number of layers and task.
    path : path-like
        File to write; it appears whole or not at all.
    language : {"c", "c++"}, optional
        By the suffix unless given: .h is C; .hpp, .hh and .hxx are C++.
    name : str, optional
        Identifier that begins every name; the file's stem unless given.
    int8 : bool
        Store matrices as one byte a weight with a factor for each row: a quarter of the
        memory, and outputs of a model with rounded weights.
    rng : int, Generator or None
        Source of the random input of the self-test and of `int8_error`.

    Returns
    -------
    HeaderReport

    Raises
    ------
    ValueError
        If the model has what a header cannot hold, or `name` is no identifier.
    TypeError
        If `model` is no SequenceModel.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import fastlstm as fl
    >>> model = fl.SequenceModel(
    ...     fl.LSTM(1, 16, rng=0), fl.Linear(16, 1, rng=0), task="regression"
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = fl.export.to_header(model, f"{folder}/amp.hpp")
    >>> report.name, report.sizes.weights, report.sizes.state
    ('amp', 4676, 128)
    """
    check_exportable(model)
    target = Path(os.fspath(path))
    language = _check_language(language, target)
    name = _check_name(target.stem if name is None else name)
    generator = check_rng(rng)
    stored = dequantized(model) if int8 else model
    weights = weights_of(model, int8)
    sample = _sample(stored, generator)
    text = header_text(model, weights, sample, name, language == "c++")
    error = _changed(model, stored, generator) if int8 else None
    with replace_file(target) as file:
        file.write(text.encode("ascii"))
    return HeaderReport(name, sizes_of(model, weights), error)


def _check_language(language: str | None, path: Path) -> str:
    if language is None:
        for candidate, suffixes in _LANGUAGES.items():
            if path.suffix in suffixes:
                return candidate
        raise ValueError(
            f"path must end in .h (C) or .hpp (C++) where language is not given, "
            f"got {path.name!r}"
        )
    if language not in _LANGUAGES:
        raise ValueError(f"language must be 'c' or 'c++', got {language!r}")
    return language


def _check_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    # No leading or double underscore: such names belong to the compiler.
    plain = re.fullmatch(r"[A-Za-z](_?[A-Za-z0-9])*_?", name, re.ASCII)
    if not plain or len(name) > _MAX_NAME or name in _RESERVED:
        raise ValueError(
            f"name must be an identifier of C and C++ of at most {_MAX_NAME} letters, "
            f"digits and single underscores, got {name!r}"
        )
    return name


def _random_input(
    model: SequenceModel, shape: tuple[int, ...], rng: np.random.Generator
) -> Array:
    if model.embedding is not None:
        return rng.integers(model.embedding.num_embeddings, size=shape, dtype=np.int32)
    size = (*shape, model.recurrent.input_size)
    return rng.standard_normal(size).astype(np.float32)


def _answers(model: SequenceModel, x: Array) -> Array:
    """Return the head's output at every step, whatever the model was trained for."""
    network = Network(model.recurrent, model.head, model.embedding, True)
    return network.infer(x)


def _sample(model: SequenceModel, rng: np.random.Generator) -> Sample:
    a_step = model.head.out_features
    a_step += 1 if model.embedding is not None else model.recurrent.input_size
    steps = max(2, min(_SELF_TEST_STEPS, _SELF_TEST_NUMBERS // a_step))
    x = _random_input(model, (1, steps), rng)
    return Sample(x[0], _answers(model, x)[0])


def _changed(
    model: SequenceModel, rounded: SequenceModel, rng: np.random.Generator
) -> float:
    x = _random_input(model, _MEASURED, rng)
    expected = _answers(model, x).astype(np.float64)
    power = float(np.mean(expected**2))
    change = float(np.mean((_answers(rounded, x) - expected) ** 2))
    return float(np.sqrt(change / power)) if power > 0 else 0.0

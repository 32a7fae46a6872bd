"""Reads the golden values that PyTorch computed, for the tests that use them.

They lie in golden/, written by tests/reference/generate_golden.py, which says what a
file holds.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastlstm as fl

Array = npt.NDArray[Any]
Case = dict[str, Any]

FILES = sorted((Path(__file__).parent / "golden").glob("*.npz"))


def load_case(path: Path) -> Case:
    with np.load(path) as file:
        case = dict(file)
    case["about"] = json.loads(str(case["about"]))
    for name in ("state", "grads"):
        case[name] = split(case[name], case["about"][name])
    return case


def split(flat: Array, shapes: dict[str, list[int]]) -> dict[str, Array]:
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(flat, ends[:-1])
    return {
        name: part.reshape(shape)
        for part, (name, shape) in zip(parts, shapes.items(), strict=True)
    }


def make_layer(case: Case) -> Any:
    about = case["about"]
    layer = getattr(fl, about["layer"])(*about["sizes"], **about["options"])
    layer.load_state_dict(case["state"])
    return layer


def state_parts(case: Case, pattern: str) -> tuple[Array, ...]:
    """(h, c) of an LSTM, (h,) of others; pattern is such as "d_{}_n"."""
    letters = "hc" if pattern.format("c") in case else "h"
    return tuple(case[pattern.format(letter)] for letter in letters)


def name_state(parts: tuple[Array, ...], pattern: str) -> dict[str, Array]:
    return {pattern.format(v): part for v, part in zip("hc", parts, strict=False)}

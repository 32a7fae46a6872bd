"""Writes small files in MNIST's format and keeps tests away from the real ones."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def encode(array: npt.NDArray[np.uint8]) -> bytes:
    """Return the IDX file of a uint8 array."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_mnist(
    folder: Path, count: int, *, split: str = "train", compressed: bool = True
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Write random images and labels of one split and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    images = rng.integers(256, size=(count, 28, 28), dtype=np.uint8)
    labels = rng.integers(10, size=count, dtype=np.uint8)
    for name, array in zip(NAMES[split], (images, labels), strict=True):
        content = encode(array)
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / name).write_bytes(content)
    return images, labels


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the caches lie in `folder`, name no data folder and no reachable mirror."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.delenv("FASTLSTM_DATA_DIR", raising=False)
    monkeypatch.setenv("FASTLSTM_MNIST_URL", "http://127.0.0.1:9/mnist")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

"""MNIST as sequences: find the files, read them, cut images into pieces.

Downloading is in download.py, the file format in idx.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm._checks import check_size
from fastlstm._files import StrPath
from fastlstm.datasets.download import download_files
from fastlstm.datasets.idx import read_idx

_PIXELS = 28 * 28
_CLASSES = 10
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def mnist(
    split: str = "train", piece: int = 28, path: StrPath | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return MNIST, an image as a sequence of pieces of its rows.

    The files are those of http://yann.lecun.com/exdb/mnist, with or without ``.gz``
    (``train-images-idx3-ubyte.gz`` and so on). They are looked for in
    ``$FASTLSTM_DATA_DIR/mnist``, then in the user's cache folder
    (``~/.cache/fastlstm/mnist``, or below ``$XDG_CACHE_HOME``), then downloaded into
    the latter and checked by SHA-256; ``$FASTLSTM_MNIST_URL`` names another mirror.

    Parameters
    ----------
    split : {"train", "test"}
        The 60,000 images to learn from or the 10,000 to test with.
    piece : int
        Pixels in one step of the sequence, a divisor of 784: 28 feeds row by row, 1
        pixel by pixel.
    path : str or os.PathLike, optional
        Folder that has the files; no other place is then looked at.

    Returns
    -------
    x : ndarray
        Shape (N, 784 // piece, piece), float32, brightness from 0 to 1.
    y : ndarray
        Shape (N,), int64, the digit from 0 to 9.

    Raises
    ------
    ValueError
        If `split` or `piece` is another, or a file is damaged or no MNIST.
    FileNotFoundError
        If `path` is given and has not both files.
    ConnectionError
        If the files are nowhere and could not be downloaded.
    ImportError
        If a download needs pooch and it is not installed.

    Examples
    --------
    >>> import fastlstm as fl
    >>> if fl.datasets.mnist_available():
    ...     x, y = fl.datasets.mnist("test")
    ...     assert x.shape == (10000, 28, 28) and y.shape == (10000,)
    """
    if split not in _FILES:
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    piece = check_size("piece", piece)
    if _PIXELS % piece:
        raise ValueError(f"piece must divide {_PIXELS}, got {piece}")
    images_path, labels_path = _locate(_FILES[split], path)
    images = _read(images_path, (28, 28))
    labels = _read(labels_path, ())
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path}: there must be a label for each of the {len(images)} "
            f"images, got {len(labels)}"
        )
    if np.any(labels >= _CLASSES):
        raise ValueError(f"{labels_path}: labels must be 0 to 9, got {labels.max()}")
    x = np.divide(images, np.float32(255), dtype=np.float32)
    return x.reshape(-1, _PIXELS // piece, piece), labels.astype(np.int64)


def mnist_available(path: StrPath | None = None) -> Path | None:
    """Return the folder from which `mnist` would read all its files, else None.

    Downloads nothing: None means that `mnist` would have to, or that `path` is given
    and has not all four files.

    Parameters
    ----------
    path : str or os.PathLike, optional
        As for `mnist`.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.datasets.mnist_available("no such folder") is None
    True
    """
    names = [name for pair in _FILES.values() for name in pair]
    for folder in _folders() if path is None else [Path(path).expanduser()]:
        try:
            _find_all(folder, names)
        except FileNotFoundError:
            continue
        return folder
    return None


def _folders() -> list[Path]:
    """Return where files may lie already, in the order of the search."""
    data = os.environ.get("FASTLSTM_DATA_DIR")
    return [*([Path(data).expanduser() / "mnist"] if data else []), _cache_folder()]


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "fastlstm" / "mnist"


def _locate(names: Sequence[str], path: StrPath | None) -> list[Path]:
    """Return the paths of the files in one folder; download them if none has them."""
    if path is not None:
        try:
            return _find_all(Path(path).expanduser(), names)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"path must be a folder with MNIST, but {error}"
            ) from None
    reasons = []
    for folder in _folders():
        try:
            return _find_all(folder, names)
        except FileNotFoundError as error:
            reasons.append(str(error))
    try:
        download_files(names, _cache_folder())
    except ConnectionError as error:
        raise ConnectionError(
            f"no MNIST: {', '.join(reasons)}, and the download failed: {error}"
        ) from None
    return _find_all(_cache_folder(), names)


def _find_all(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the path of each file; FileNotFoundError that names the first missing."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    found = []
    for name in names:
        # The uncompressed file reads faster.
        candidates = folder / name, folder / f"{name}.gz"
        file = next((file for file in candidates if file.is_file()), None)
        if file is None:
            raise FileNotFoundError(f"{folder} has neither {name} nor {name}.gz")
        found.append(file)
    return found


def _read(path: Path, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Read bytes of shape (N, *shape), N >= 1."""
    array = read_idx(path)
    if array.dtype != np.uint8 or array.shape[1:] != shape or len(array) == 0:
        expected = ", ".join(["N >= 1", *map(str, shape)])
        raise ValueError(
            f"{path}: MNIST has uint8 of shape ({expected}), "
            f"got {array.dtype} of shape {array.shape}"
        )
    return array

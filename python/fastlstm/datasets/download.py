"""Download the files of MNIST, checked by their published SHA-256.

mnist.py calls this when no folder has them. $FASTLSTM_MNIST_URL names another mirror;
what it serves must have the same checksums.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastlstm._extras import require

_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}

# Seconds to connect, and between two pieces of a file. Short, because whoever waits
# has a data set to fall back on.
_TIMEOUT = (5, 20)
_CHUNK = 1 << 16  # pooch's own 1 KiB costs more than the network


def download_files(names: Iterable[str], folder: Path) -> None:
    """Download files of MNIST into a folder, each one whole or not at all.

    Parameters
    ----------
    names : iterable of str
        File names without ``.gz``.
    folder : Path
        Made where it is missing.

    Raises
    ------
    ConnectionError
        If no mirror serves a file that has its checksum; one line that names each.
    ImportError
        If pooch is not installed; it names the extra to install.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     download_files([], pathlib.Path(folder))
    """
    pooch = require("pooch", extra="demo", what="downloading MNIST")
    url = os.environ.get("FASTLSTM_MNIST_URL")
    mirrors = (url.rstrip("/"),) if url else _MIRRORS
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # pooch announces every file on stderr
    try:
        for name in names:
            _download(pooch, f"{name}.gz", folder, mirrors)
    finally:
        logger.setLevel(level)


def _download(pooch: Any, name: str, folder: Path, mirrors: Iterable[str]) -> None:
    """Download one file from the first mirror that has it."""
    faults = []
    for mirror in mirrors:
        try:
            pooch.retrieve(
                f"{mirror}/{name}",
                known_hash=f"sha256:{_SHA256[name]}",
                fname=name,
                path=folder,
                downloader=pooch.HTTPDownloader(chunk_size=_CHUNK, timeout=_TIMEOUT),
            )
        except (OSError, ValueError) as error:  # the network's faults, the checksum's
            reason = " ".join(str(error).split())
            faults.append(f"{mirror}/{name}: {type(error).__name__}: {reason:.160}")
        else:
            return
    raise ConnectionError("; ".join(faults))

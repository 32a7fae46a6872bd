"""Read IDX files, the format of MNIST: strict, plain or compressed with gzip.

The format (http://yann.lecun.com/exdb/mnist): two zero bytes, a type code, the rank,
one big-endian 32-bit size per dimension, the elements in row-major order, big-endian.
mnist.py calls this; nothing here knows what the numbers mean.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastlstm._files import StrPath, open_regular

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_Stream = io.FileIO | gzip.GzipFile

_GZIP_MAGIC = b"\x1f\x8b"

# Deflate spends at least one bit pair on 258 bytes: no stream grows more than 1032-fold
# (https://zlib.net/zlib_tech.html), so a larger claim is a lie that needs no reading.
_MAX_DEFLATE_RATIO = 1032

# A compressed file that claims more is first decompressed to nowhere and counted, so
# that a lying header costs no memory. MNIST's largest file has 45 MiB: read once.
_UNCOUNTED_BYTES = 48 << 20

_CHUNK = 1 << 20  # fits the second-level cache; larger chunks read no faster


def read_idx(path: StrPath) -> npt.NDArray[Any]:
    """Read an IDX file; gzip is told by the content, not by the name.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file. Every length is checked against its true size, compressed or
        not, before the array is allocated.

    Returns
    -------
    ndarray
        New array of the file's shape, in native byte order: uint8, int8, int16, int32,
        float32 or float64.

    Raises
    ------
    ValueError
        On one line that names the file: it is no IDX file, is cut short, has bytes
        after the data or a damaged compression.
    OSError
        If the file cannot be opened or is not regular.

    Examples
    --------
    >>> import tempfile
    >>> import fastlstm as fl
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    ...     file.flush()
    ...     fl.datasets.read_idx(file.name)
    array([7, 8, 9], dtype=uint8)
    """
    name = os.fspath(path)
    with open_regular(path) as file:
        file_size = os.fstat(file.fileno()).st_size
        compressed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if not compressed:
            return _read_plain(name, file, file_size)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _read_gzip(name, stream, file_size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{name}: damaged gzip file: {error}") from None


def _read_plain(name: str, file: io.FileIO, file_size: int) -> npt.NDArray[Any]:
    dtype, shape = _read_header(name, file)
    start = file.tell()
    claimed = math.prod(shape) * dtype.itemsize
    if file_size - start != claimed:
        _fail_size(name, shape, dtype, f"{file_size - start}")
    return _read_data(name, file, dtype, shape)


def _read_gzip(name: str, stream: gzip.GzipFile, file_size: int) -> npt.NDArray[Any]:
    dtype, shape = _read_header(name, stream)
    start = stream.tell()
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > _MAX_DEFLATE_RATIO * file_size:
        _fail_size(name, shape, dtype, f"at most {_MAX_DEFLATE_RATIO * file_size}")
    if claimed > _UNCOUNTED_BYTES:
        counted = 0
        while counted <= claimed and (chunk := stream.read(_CHUNK)):
            counted += len(chunk)
        if counted != claimed:
            _fail_size(name, shape, dtype, _counted(counted, claimed))
        stream.seek(start)
    return _read_data(name, stream, dtype, shape)


def _read_header(name: str, file: _Stream) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            f"{name}: an IDX file starts with two zero bytes, a type and a rank, "
            f"got {magic!r}"
        )
    dtype = _DTYPES.get(magic[2])
    if dtype is None:
        raise ValueError(
            f"{name}: the type must be 0x08, 0x09 or 0x0b to 0x0e, got 0x{magic[2]:02x}"
        )
    rank = magic[3]
    if rank == 0:
        raise ValueError(f"{name}: the rank must be at least 1, got 0")
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise ValueError(
            f"{name}: rank {rank} needs {4 * rank} bytes of sizes, got {len(sizes)}"
        )
    return dtype, tuple(np.frombuffer(sizes, ">u4").tolist())


def _read_data(
    name: str, file: _Stream, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Allocate the array, fill it and see that the file ends there."""
    try:
        array = np.empty(shape, dtype)
    except ValueError as error:  # too many sizes, or too large ones beside a zero
        raise ValueError(f"{name}: sizes that NumPy cannot hold: {error}") from None
    raw = array.reshape(-1).view(np.uint8)
    filled = 0
    while filled < raw.size and (chunk := file.read(min(_CHUNK, raw.size - filled))):
        raw[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    # Reading on past the last element also makes gzip verify its checksum.
    filled += len(file.read(1))
    if filled != raw.size:
        _fail_size(name, shape, dtype, _counted(filled, raw.size))
    if dtype.isnative:
        return array
    return array.byteswap(inplace=True).view(dtype.newbyteorder("="))


def _counted(count: int, claimed: int) -> str:
    """Say how many bytes there are; counting stops at more than claimed."""
    return f"more than {claimed}" if count > claimed else f"{count}"


def _fail_size(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], got: str
) -> NoReturn:
    claimed = math.prod(shape) * dtype.itemsize
    sizes = "x".join(map(str, shape[:8])) + ("x..." if len(shape) > 8 else "")
    wanted = f"{claimed}" if claimed < 1 << 63 else "over 2**63"
    raise ValueError(f"{name}: {sizes} {dtype.name} take {wanted} bytes, got {got}")

"""Read and write safetensors files, strictly: what a model file is made of.

A small reader and writer of its own, so that a saved model needs no other package. It
knows arrays and strings, not models; SequenceModel.save and load call it. The format:
8 bytes little-endian header length, a JSON header, the tensors without gaps
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm._files import StrPath, open_regular, replace_file
from fastlstm._safetensors import (
    MAX_HEADER_BYTES,
    METADATA,
    TensorEntry,
    build_header,
    has_name,
    is_unicode,
    parse_header,
    shown,
)


class ModelFileError(ValueError):
    """A file is not what it should be; the message is one line that names the file.

    Examples
    --------
    >>> raise ModelFileError("model.safetensors: header must start with '{'")
    Traceback (most recent call last):
    fastlstm.serialization.ModelFileError: model.safetensors: header must start with '{'
    """


def write_safetensors(
    path: StrPath,
    tensors: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays and strings to a safetensors file, replaced in one step.

    Parameters
    ----------
    path : str or os.PathLike
        File to write; on any error an existing one is left as it was.
    tensors : mapping of str to ndarray
        Arrays of any shape and layout; bool, float16 to float64, int8 to int64, uint8
        to uint64. Stored in row-major order, little-endian.
    metadata : mapping of str to str, optional
        Strings for the header.

    Raises
    ------
    TypeError
        If a name or string is no str, a tensor no array or of another dtype.
    ValueError
        If a name is reserved or not Unicode, or the header would exceed 1 MiB.
    OSError
        Naming `path`, if it cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from fastlstm.serialization import read_safetensors, write_safetensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     write_safetensors(path, {"bias": np.zeros(3)}, {"cell": "lstm"})
    ...     read_safetensors(path)
    ({'bias': array([0., 0., 0.])}, {'cell': 'lstm'})
    """
    metadata = {} if metadata is None else metadata
    for key, value in metadata.items():
        _check_text("metadata key", key)
        _check_text(f"metadata[{shown(key)}]", value)
    stored = [(name, _as_stored(name, array)) for name, array in tensors.items()]
    # Widest elements first: every tensor then starts at a multiple of its item size.
    stored.sort(key=lambda item: (-item[1].dtype.itemsize, item[0]))
    entries: list[TensorEntry] = []
    begin = 0
    for name, array in stored:
        end = begin + array.nbytes
        entries.append(TensorEntry(begin, end, name, array.dtype, array.shape))
        begin = end
    header = build_header(entries, metadata)
    with replace_file(path) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _, array in stored:
            file.write(_bytes_of(array))


def read_safetensors(
    path: StrPath,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Read a safetensors file after checking that every byte of it is accounted for.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file with a header of at most 1 MiB; the arrays take no more memory
        than the file has bytes.

    Returns
    -------
    tensors : dict of str to ndarray
        New writable arrays in native byte order, in the order of the header.
    metadata : dict of str to str
        Strings of the header; empty if it has none.

    Raises
    ------
    ModelFileError
        If the file is no valid safetensors file, or holds a dtype that NumPy lacks.
    OSError
        Naming `path`, if the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from fastlstm.serialization import read_safetensors
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write((8).to_bytes(8, "little") + b'{"a": 1}')
    ...     file.flush()
    ...     try:
    ...         read_safetensors(file.name)
    ...     except ValueError as error:
    ...         print(str(error).removeprefix(file.name))
    : tensor 'a' must be an object with dtype, shape and data_offsets
    """
    try:
        with open_regular(path) as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except ValueError as error:
        raise ModelFileError(f"{os.fspath(path)}: {error}") from None


def _read(
    file: io.FileIO, size: int
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    if size < 8:
        raise ValueError(f"a safetensors file has at least 8 bytes, got {size}")
    prefix = bytearray(8)
    _read_into(file, memoryview(prefix))
    length = int.from_bytes(prefix, "little")
    data_size = size - 8 - length
    if data_size < 0:
        raise ValueError(f"header length must be at most {size - 8}, got {length}")
    if length > MAX_HEADER_BYTES:
        raise ValueError(
            f"header length must be at most {MAX_HEADER_BYTES}, got {length}"
        )
    text = bytearray(length)
    _read_into(file, memoryview(text))
    entries, metadata = parse_header(bytes(text), data_size)
    tensors = {}
    for entry in entries:
        file.seek(8 + length + entry.begin)
        tensors[entry.name] = _read_tensor(file, entry)
    return tensors, metadata


def _read_tensor(file: io.FileIO, entry: TensorEntry) -> npt.NDArray[Any]:
    try:
        array = np.empty(entry.shape, entry.dtype)
    except ValueError as error:  # too many sizes, or too large ones beside a zero
        raise ValueError(f"tensor {shown(entry.name)}: {error}") from None
    _read_into(file, _bytes_of(array))
    if entry.dtype == np.bool_ and np.any(array.view(np.uint8) > 1):
        raise ValueError(f"tensor {shown(entry.name)} has a BOOL other than 0 and 1")
    return array.astype(entry.dtype.newbyteorder("="), copy=False)


def _read_into(file: io.FileIO, view: memoryview) -> None:
    """Fill the view; one read of Linux returns at most 2 GiB."""
    while len(view):
        count = file.readinto(view)
        if not count:
            raise ValueError("the file became shorter while it was read")
        view = view[count:]


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of a row-major array, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, got a {type(value).__name__}")
    if not is_unicode(value):
        raise ValueError(f"{what} must be valid Unicode, got {shown(value)}")


def _as_stored(name: object, array: object) -> npt.NDArray[Any]:
    """Return the array row-major and little-endian, copied only where it is not."""
    _check_text("tensor name", name)
    if name == METADATA:
        raise ValueError(f"tensor name must not be the reserved {METADATA}")
    what = f"tensor {shown(name)}"
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} must be a NumPy array, got a {type(array).__name__}")
    dtype = array.dtype.newbyteorder("<")
    if not has_name(dtype):
        raise TypeError(
            f"{what} must have a dtype among bool, float16 to float64, int8 to int64 "
            f"and uint8 to uint64, got {array.dtype}"
        )
    return np.asarray(array, dtype=dtype, order="C")

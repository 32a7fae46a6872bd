"""The header of a safetensors file: built, parsed and checked; no file is touched.

serialization.py calls it. Faults of a header are ValueErrors that do not know the
file's name; a header is hostile until the last check has passed.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""The format's names of the element types that NumPy has."""

# The format allows 100 MB. Parsed JSON takes up to 30 times the size of its text, so
# this bound keeps a hostile header below 64 MiB; 10,000 tensors fit.
MAX_HEADER_BYTES = 1 << 20

METADATA = "__metadata__"

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_RANK = 64  # NumPy 2's limit


class TensorEntry(NamedTuple):
    """One tensor: its bytes are begin to end, counted from the end of the header."""

    begin: int
    end: int
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def has_name(dtype: np.dtype[Any]) -> bool:
    """Whether the format can hold a little-endian dtype.

    Examples
    --------
    >>> has_name(np.dtype("<f4")), has_name(np.dtype(object))
    (True, False)
    """
    return dtype in _NAMES


def is_unicode(text: str) -> bool:
    r"""Whether UTF-8 can hold a str: False where it has lone surrogates.

    Examples
    --------
    >>> is_unicode("bias"), is_unicode("\ud800")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def build_header(entries: Sequence[TensorEntry], metadata: Mapping[str, str]) -> bytes:
    """Return the JSON of a header, padded with spaces to a multiple of 8 bytes.

    Raises
    ------
    ValueError
        If it is larger than `MAX_HEADER_BYTES`.

    Examples
    --------
    >>> build_header([], {"a": "b"})
    b'{"__metadata__":{"a":"b"}}      '
    """
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    for entry in entries:
        header[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": entry.shape,
            "data_offsets": (entry.begin, entry.end),
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_BYTES - 7:
        raise ValueError(
            f"names, shapes and metadata must fit a header of {MAX_HEADER_BYTES} "
            f"bytes, got {len(text)}"
        )
    return text + b" " * (-len(text) % 8)


def parse_header(
    text: bytes, data_size: int
) -> tuple[list[TensorEntry], dict[str, str]]:
    """Parse a header and check that its tensors account for every byte of the data.

    Parameters
    ----------
    text : bytes
        The header.
    data_size : int
        Bytes that follow it.

    Returns
    -------
    entries : list of TensorEntry
        In the order of the header.
    metadata : dict of str to str
        Empty if the header has none.

    Raises
    ------
    ValueError
        Naming the first fault.

    Examples
    --------
    >>> info = b'{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'
    >>> entries, metadata = parse_header(b'{"bias": ' + info + b"}", 8)
    >>> entries[0].name, entries[0].shape, metadata
    ('bias', (2,), {})
    """
    header = _load_json(text)
    metadata = _parse_metadata(header.pop(METADATA, {}))
    entries = [_parse_tensor(name, info) for name, info in header.items()]
    _check_layout(entries, data_size)
    return entries, metadata


def shown(value: object) -> str:
    r"""Return a short ASCII form, on one line, of what a file may hold.

    Examples
    --------
    >>> print(shown("two\nlines"))
    'two\nlines'
    """
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _load_json(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise ValueError("header must start with '{'")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"header is not UTF-8 at byte {error.start}") from None
    try:
        header: dict[str, Any] = json.loads(
            decoded, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"header is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("header is nested too deeply") from None
    return header


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object of the header; json alone would keep the last of equal keys."""
    result = dict(pairs)
    if len(result) != len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"header has the key {shown(twice)} twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"header is not JSON: it holds {name}")


def _parse_metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{METADATA} must be an object, got {_kind(value)}")
    for key, text in value.items():
        if not isinstance(text, str):
            raise ValueError(
                f"{METADATA} must map str to str, got {_kind(text)} at {shown(key)}"
            )
        if not (is_unicode(key) and is_unicode(text)):
            raise ValueError(f"{METADATA} is not Unicode at {shown(key)}")
    return value


def _parse_tensor(name: str, info: object) -> TensorEntry:
    """Check one entry by itself; a product of Python ints cannot overflow."""
    what = f"tensor {shown(name)}"
    if not is_unicode(name):
        raise ValueError(f"{what} has a name that is not Unicode")
    if not isinstance(info, dict) or info.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{what} must be an object with dtype, shape and data_offsets")
    kind, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
    dtype = DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise ValueError(
            f"{what} must have one of the dtypes {', '.join(DTYPES)}, "
            f"got {shown(kind) if isinstance(kind, str) else _kind(kind)}"
        )
    if not _are_sizes(shape) or len(shape) > _MAX_RANK:
        raise ValueError(
            f"{what} must have a shape of at most {_MAX_RANK} sizes below 2**63"
        )
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{what} must have two data_offsets from 0 to 2**63 - 1")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{what} of shape {shown(tuple(shape))} and dtype {kind} does not take "
            f"the {end - begin} bytes between its data_offsets"
        )
    return TensorEntry(begin, end, name, dtype, tuple(shape))


def _check_layout(entries: list[TensorEntry], data_size: int) -> None:
    """Check that the tensors tile the data: no overlap, no hole, nothing left over."""
    position = 0
    for entry in sorted(entries):
        if entry.begin != position:
            fault = "overlaps another" if entry.begin < position else "leaves a hole"
            raise ValueError(
                f"tensor {shown(entry.name)} {fault}: it must begin at byte {position} "
                f"of the data, got {entry.begin}"
            )
        position = entry.end
    if position != data_size:
        raise ValueError(
            f"the tensors take {position} bytes, the file has {data_size} for them"
        )


def _are_sizes(value: object) -> bool:
    """Whether value is a list of ints from 0 to 2**63 - 1; bool is none."""
    return isinstance(value, list) and all(
        type(size) is int and 0 <= size < 1 << 63 for size in value
    )


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"

"""The safetensors reader and writer, against the official package and hostile files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open

from fastlstm._safetensors import DTYPES, MAX_HEADER_BYTES
from fastlstm.serialization import ModelFileError, read_safetensors, write_safetensors
from hostile import check_rejected, hostile_files

# What UTF-8 can hold: no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: hnp.arrays(
        DTYPES[name], hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    )
)
TENSORS = st.dictionaries(TEXT.filter(lambda name: name != "__metadata__"), ARRAYS)


def assert_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].shape == array.shape
        assert got[name].dtype == array.dtype
        assert got[name].tobytes() == array.tobytes()


def write_raw(path: Path, header: bytes | dict[str, Any], data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def info(shape: Any, offsets: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(("path", "expect"), hostile_files("safetensors"))
def test_hostile_file(path: Path, expect: str) -> None:
    if expect == "accept":
        read_safetensors(path)
    elif expect == "reject":
        check_rejected(read_safetensors, path)
    else:
        with pytest.raises(ModelFileError, match="must start with"):
            read_safetensors(path)


@settings(deadline=None)  # a disk may be slow
@given(tensors=TENSORS, metadata=st.dictionaries(TEXT, TEXT))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: dict[str, Any],
    metadata: dict[str, str],
) -> None:
    path = tmp_path_factory.mktemp("round") / "file"
    write_safetensors(path, tensors, metadata)
    got, got_metadata = read_safetensors(path)
    assert_same(got, tensors)
    assert got_metadata == metadata


@settings(deadline=None)  # a disk may be slow
@given(tensors=TENSORS, metadata=st.dictionaries(TEXT, TEXT))
def test_official_package_reads_ours(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: dict[str, Any],
    metadata: dict[str, str],
) -> None:
    path = tmp_path_factory.mktemp("ours") / "file"
    write_safetensors(path, tensors, metadata)
    assert_same(safetensors.numpy.load_file(path), tensors)
    with safe_open(path, framework="numpy") as file:
        assert (file.metadata() or {}) == metadata


@settings(deadline=None)  # a disk may be slow
@given(tensors=TENSORS, metadata=st.none() | st.dictionaries(TEXT, TEXT))
def test_we_read_the_official_package(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: dict[str, Any],
    metadata: dict[str, str] | None,
) -> None:
    path = tmp_path_factory.mktemp("theirs") / "file"
    if not tensors:
        metadata = None  # version 0.8.0 writes broken JSON for metadata alone
    safetensors.numpy.save_file(tensors, path, metadata)
    got, got_metadata = read_safetensors(path)
    assert_same(got, tensors)
    assert got_metadata == (metadata or {})


@settings(deadline=None)  # a disk may be slow
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255))))
def test_damaged_bytes_never_crash(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "file"
    write_safetensors(path, {"a": np.ones((2, 3)), "b": np.ones(4, bool)}, {"k": "v"})
    content = bytearray(path.read_bytes())
    for place, change in flips:
        content[place % len(content)] ^= change
    path.write_bytes(content)
    try:
        tensors, _ = read_safetensors(path)
    except ModelFileError:
        return
    assert sum(array.nbytes for array in tensors.values()) < len(content)


def test_every_cut(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_safetensors(path, {"a": np.arange(3.0)}, {"k": "v"})
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        check_rejected(read_safetensors, path)


def test_layout_of_the_file(tmp_path: Path) -> None:
    tensors = {"u8": np.ones(3, np.uint8), "b": np.ones(2), "a": np.ones(1)}
    write_safetensors(tmp_path / "file", tensors)
    content = (tmp_path / "file").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    assert list(header) == ["a", "b", "u8"]
    assert len(content) == 8 + length + 27


def test_any_memory_layout(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    tensors = {
        "transposed": base.T,
        "strided": base[::2, ::-3],
        "big_endian": base.astype(">f4"),
        "scalar": np.array(3, np.int64),
        "longlong": np.arange(3, dtype=np.longlong),
    }
    write_safetensors(tmp_path / "file", tensors)
    got, _ = read_safetensors(tmp_path / "file")
    for name, array in tensors.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype.isnative
        assert got[name].flags.writeable


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "words"),
    [
        ({"a": [1.0]}, {}, TypeError, "'a' must be a NumPy array, got a list"),
        ({"a": np.zeros(1, complex)}, {}, TypeError, "got complex128"),
        ({"a": np.array([None])}, {}, TypeError, "got object"),
        ({"a": np.zeros(1, np.longdouble)}, {}, TypeError, "got float128|got long"),
        ({1: np.zeros(1)}, {}, TypeError, "tensor name must be a str, got a int"),
        ({"\ud800": np.zeros(1)}, {}, ValueError, "must be valid Unicode"),
        ({"__metadata__": np.zeros(1)}, {}, ValueError, "reserved"),
        ({}, {"epoch": 3}, TypeError, r"metadata\['epoch'\] must be a str"),
        ({}, {3: "a"}, TypeError, "metadata key must be a str"),
        ({}, {"a": "\udfff"}, ValueError, "must be valid Unicode"),
        ({}, {"a": "x" * MAX_HEADER_BYTES}, ValueError, "must fit a header"),
    ],
)
def test_refused_arguments_leave_the_file(
    tmp_path: Path, tensors: Any, metadata: Any, error: type[Exception], words: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error, match=words):
        write_safetensors(path, tensors, metadata)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"", b"", "must start with '{'"),
        (b"[]", b"", "must start with '{'"),
        (b' {"a":1}', b"", "must start with '{'"),
        (b"{", b"", "not JSON"),
        (b"{} {}", b"", "not JSON"),
        (b'{"a":NaN}', b"", "not JSON: it holds NaN"),
        (b'{"a":' + b"9" * 5000 + b"}", b"", "."),
        (b'{"a":' + b"[" * 500_000, b"", "nested too deeply"),
        (b'{"a\xff":1}', b"", "not UTF-8 at byte 3"),
        (b'{"a":1,"a":2}', b"", "key 'a' twice"),
        (b'{"__metadata__":{"k":"1","k":"2"}}', b"", "key 'k' twice"),
        ({"__metadata__": {"k": 1}}, b"", "str to str, got a int at 'k'"),
        ({"__metadata__": None}, b"", "__metadata__ must be an object, got null"),
        ({"__metadata__": {"k": "\ud800"}}, b"", "not Unicode at 'k'"),
        ({"\ud800": info([0], [0, 0])}, b"", "name that is not Unicode"),
        ({"two\nlines": 1}, b"", r"'two\\nlines' must be an object"),
        ({"a": {"dtype": "F32", "shape": []}}, b"", "must be an object with"),
        ({"a": info([1], [0, 4]) | {"b": 1}}, bytes(4), "must be an object with"),
        ({"a": info([1], [0, 2], "BF16")}, bytes(2), "one of the dtypes.*'BF16'"),
        ({"a": info([1], [0, 4], ["F32"])}, bytes(4), "got a list"),
        ({"a": info([-1], [0, 4])}, bytes(4), "sizes below"),
        ({"a": info([1.0], [0, 4])}, bytes(4), "sizes below"),
        ({"a": info([True], [0, 4])}, bytes(4), "sizes below"),
        ({"a": info([2**64], [0, 4])}, bytes(4), "sizes below"),
        ({"a": info({"0": 1}, [0, 4])}, bytes(4), "sizes below"),
        ({"a": info([1] * 65, [0, 4])}, bytes(4), "at most 64 sizes"),
        ({"a": info([1], [0])}, bytes(4), "two data_offsets"),
        ({"a": info([1], [0, 4, 8])}, bytes(8), "two data_offsets"),
        ({"a": info([1], [4, 0])}, bytes(4), "does not take"),
        ({"a": info([2**62, 4], [0, 0])}, b"", "does not take"),
        ({"a": info([0, 2**62, 2**62], [0, 0])}, b"", "tensor 'a': "),
        ({"a": info([1], [4, 8])}, bytes(8), "leaves a hole"),
        ({"a": info([1], [0, 4]), "b": info([1], [0, 4])}, bytes(4), "overlaps"),
        ({"a": info([2], [0, 8]), "b": info([1], [4, 8])}, bytes(8), "overlaps"),
        ({"a": info([1], [0, 4])}, bytes(8), "take 4 bytes, the file has 8"),
        ({"a": info([2], [0, 8])}, bytes(4), "take 8 bytes, the file has 4"),
        ({"a": info([0], [5, 5])}, b"", "leaves a hole"),
        ({"a": info([1], [0, 1], "BOOL")}, b"\2", "BOOL other than 0 and 1"),
    ],
)
def test_refused_content(
    tmp_path: Path, header: bytes | dict[str, Any], data: bytes, words: str
) -> None:
    path = write_raw(tmp_path / "file", header, data)
    message = check_rejected(read_safetensors, path)
    with pytest.raises(ValueError, match=words):
        raise ValueError(message)


@pytest.mark.parametrize("unit", [b"[],", b"{},", b'"ab",', b"1.5,", b'{"a":[]},'])
def test_largest_header_stays_cheap(tmp_path: Path, unit: bytes) -> None:
    body = unit * ((MAX_HEADER_BYTES - 10) // len(unit))
    text = b'{"a":[' + body[:-1] + b"]}"
    check_rejected(read_safetensors, write_raw(tmp_path / "file", text))
    path = write_raw(tmp_path / "file", text.ljust(MAX_HEADER_BYTES + 1))
    assert "header length must be at most" in check_rejected(read_safetensors, path)


def test_many_tensors(tmp_path: Path) -> None:
    tensors = {f"layer.{i}": np.full(2, i, np.float32) for i in range(5000)}
    write_safetensors(tmp_path / "file", tensors)
    assert_same(read_safetensors(tmp_path / "file")[0], tensors)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_safetensors(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        read_safetensors(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing/file"):
        write_safetensors(tmp_path / "missing" / "file", {})

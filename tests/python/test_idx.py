"""read_idx: every type and rank it accepts, and every lie it must not believe."""

from __future__ import annotations

import gzip
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastlstm.datasets import idx, read_idx
from hostile import check_rejected, hostile_files

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_header(code: int, *shape: int) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def write(folder: Path, content: bytes, *, compressed: bool = False) -> Path:
    path = folder / ("file.idx.gz" if compressed else "file.idx")
    path.write_bytes(gzip.compress(content) if compressed else content)
    return path


@pytest.mark.parametrize(("path", "expect"), hostile_files("idx"))
def test_hostile_file(path: Path, expect: str) -> None:
    if expect == "accept":
        assert read_idx(path).shape == (3, 2, 2)
    else:
        check_rejected(read_idx, path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("code", TYPES)
def test_every_type(tmp_path: Path, code: int, compressed: bool) -> None:
    expected = np.array([[1, -2, 3], [100, 0, 7]]).astype(TYPES[code])
    content = idx_header(code, 2, 3) + expected.tobytes()
    got = read_idx(write(tmp_path, content, compressed=compressed))
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == expected.dtype.newbyteorder("=")
    assert got.dtype.isnative
    assert got.flags.writeable
    assert got.flags.c_contiguous


@settings(deadline=None)  # a disk may be slow
@given(data=st.data(), code=st.sampled_from(sorted(TYPES)), compressed=st.booleans())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    code: int,
    compressed: bool,
) -> None:
    shapes = hnp.array_shapes(max_dims=5, min_side=0, max_side=4)
    expected = data.draw(hnp.arrays(np.dtype(TYPES[code]), shapes))
    content = idx_header(code, *expected.shape) + expected.tobytes()
    path = write(tmp_path_factory.mktemp("idx"), content, compressed=compressed)
    got = read_idx(path)
    assert got.shape == expected.shape
    assert got.astype(expected.dtype).tobytes() == expected.tobytes()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "two zero bytes"),
        (b"\0\0\x08", "two zero bytes"),
        (b"\0\1\x08\1\0\0\0\0", "two zero bytes"),
        (b"\0\0\x0a\1\0\0\0\0", "got 0x0a"),
        (b"\0\0\x08\0\7", "rank must be at least 1"),
        (b"\0\0\x08\2\0\0\0\1", "needs 8 bytes of sizes, got 4"),
        (idx_header(0x08, 3) + b"12", "3 uint8 take 3 bytes, got 2"),
        (idx_header(0x08, 3) + b"1234", "3 uint8 take 3 bytes, got"),
        (idx_header(0x0D, 2, 2) + bytes(15), "2x2 float32 take 16 bytes, got 15"),
        (idx_header(0x08, 2**32 - 1), "take 4294967295 bytes, got"),
        (idx_header(0x0E, *[2**32 - 1] * 3), "take over 2\\*\\*63 bytes"),
        (idx_header(0x08, *[2**32 - 1] * 255), "take over 2\\*\\*63 bytes"),
        (idx_header(0x08, 0, *[2**32 - 1] * 9), "NumPy cannot hold"),
        (idx_header(0x08, *[1] * 200) + b"1", "NumPy cannot hold"),
    ],
)
def test_lying_header(
    tmp_path: Path, content: bytes, words: str, compressed: bool
) -> None:
    path = write(tmp_path, content, compressed=compressed)
    message = check_rejected(read_idx, path)
    with pytest.raises(ValueError, match=words):
        raise ValueError(message)


@pytest.mark.parametrize("size", [(1 << 28) - 1, (1 << 28) + 1, 1 << 26, 48 << 20])
def test_gzip_bomb_takes_no_memory(tmp_path: Path, size: int) -> None:
    content = gzip.compress(idx_header(0x08, size) + bytes(1 << 25), 9)
    path = tmp_path / "bomb.gz"
    path.write_bytes(content)
    assert "take" in check_rejected(read_idx, path)


def test_gzip_with_more_than_claimed(tmp_path: Path) -> None:
    path = write(tmp_path, idx_header(0x08, 3) + bytes(1 << 26), compressed=True)
    assert "more than 3" in check_rejected(read_idx, path)


def test_large_gzip_is_counted_then_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "_UNCOUNTED_BYTES", 10)
    expected = np.zeros(3_000_000, ">i4")
    expected[::1000] = np.arange(3000)
    content = idx_header(0x0C, expected.size) + expected.tobytes()
    path = write(tmp_path, content, compressed=True)
    np.testing.assert_array_equal(read_idx(path), expected)
    short = write(tmp_path, content[:-1], compressed=True)
    assert "got 11999999" in check_rejected(read_idx, short)


def test_every_cut_and_flip_of_a_gzip_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(256, size=60, dtype=np.uint8)
    whole = gzip.compress(idx_header(0x08, 60) + values.tobytes(), mtime=0)
    path = tmp_path / "file.gz"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        check_rejected(read_idx, path)
    # A flip is found, or it hits a byte without meaning: a time stamp, padding bits.
    found = 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0x10
        path.write_bytes(flipped)
        try:
            np.testing.assert_array_equal(read_idx(path), values)
        except ValueError:
            found += 1
    assert found > len(whole) - 10
    path.write_bytes(whole + b"more")
    check_rejected(read_idx, path)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        read_idx(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=r"Not a regular file.*pipe"):
        read_idx(pipe)


def test_size_that_overflows_64_bits(tmp_path: Path) -> None:
    # 2**31 * 2**31 * 4 elements of 8 bytes are 0 modulo 2**64.
    shape = (2**31, 2**31, 4)
    assert math.prod(shape) * 8 % 2**64 == 0
    assert "over 2**63" in check_rejected(
        read_idx, write(tmp_path, idx_header(0x0E, *shape))
    )

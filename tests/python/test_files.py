"""replace_file: all or nothing, whatever goes wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fastlstm._files import replace_file


def test_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replace_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def write_half(path: Path, error: type[BaseException] | BaseException) -> None:
    with replace_file(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError(28, "full")])
def test_failure_keeps_the_old_file(
    tmp_path: Path, error: type[BaseException] | BaseException
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    expected = error if isinstance(error, type) else type(error)
    with pytest.raises(expected):
        write_half(path, error)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(OSError, match=r"No space.*file'"), replace_file(path):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_failed_replace_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", fail)
    path = tmp_path / "file"
    with pytest.raises(PermissionError, match="file"), replace_file(path) as file:
        file.write(b"whole")
    assert os.listdir(tmp_path) == []


def test_mode_of_a_new_file_obeys_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0o027)
    try:
        with replace_file(path):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_mode_of_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o604)
    with replace_file(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "file"
    link = tmp_path / "link"
    link.symlink_to(target)
    with replace_file(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_longest_possible_name(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with replace_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("missing/file", FileNotFoundError),
        ("a_file/file", NotADirectoryError),
        ("folder", IsADirectoryError),
        ("pipe", OSError),
    ],
)
def test_impossible_place_is_named(
    tmp_path: Path, place: str, error: type[OSError]
) -> None:
    (tmp_path / "a_file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(error) as caught, replace_file(tmp_path / place):
        pass
    assert caught.value.filename == str(tmp_path / place)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="file"), replace_file(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == []

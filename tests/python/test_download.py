"""Downloading MNIST from a local server that serves small files."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastlstm.datasets import download, mnist, mnist_available
from mnist_files import isolate, write_mnist


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder behind $FASTLSTM_MNIST_URL, with files whose checksums are known."""
    isolate(monkeypatch, tmp_path)
    folder = tmp_path / "served"
    write_mnist(folder, 6)
    write_mnist(folder, 3, split="test")
    for file in folder.iterdir():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        monkeypatch.setitem(download._SHA256, file.name, digest)
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setenv("FASTLSTM_MNIST_URL", url)
        yield folder
        server.shutdown()
        thread.join()


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "fastlstm" / "mnist"
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_downloads_once_into_the_cache(
    served: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    x, y = mnist("train")
    assert x.shape == (6, 28, 28)
    assert cached(tmp_path) == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]
    assert mnist_available() is None
    assert mnist("test")[0].shape == (3, 28, 28)
    assert mnist_available() == tmp_path / "cache" / "fastlstm" / "mnist"
    for file in served.iterdir():
        file.unlink()
    np.testing.assert_array_equal(mnist("train")[1], y)
    assert capfd.readouterr() == ("", "")


def test_wrong_checksum_keeps_nothing(served: Path, tmp_path: Path) -> None:
    (served / "t10k-images-idx3-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(ConnectionError, match=r"t10k-images.*hash") as caught:
        mnist("test")
    assert "\n" not in str(caught.value)
    assert cached(tmp_path) == []


def test_missing_file_is_named(served: Path, tmp_path: Path) -> None:
    (served / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ConnectionError, match=r"no MNIST: .*t10k-labels.*404"):
        mnist("test")
    assert cached(tmp_path) == ["t10k-images-idx3-ubyte.gz"]


def test_second_mirror(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors = ("http://127.0.0.1:9", os.environ["FASTLSTM_MNIST_URL"].rstrip("/"))
    monkeypatch.delenv("FASTLSTM_MNIST_URL")
    monkeypatch.setattr(download, "_MIRRORS", mirrors)
    assert len(mnist("test")[0]) == 3


def test_no_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path)
    with pytest.raises(ConnectionError, match="download failed: http://127") as caught:
        mnist()
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "cache") in str(caught.value)
    assert cached(tmp_path) == []


def test_without_pooch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, tmp_path)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"downloading MNIST needs pooch: pip inst"):
        mnist()


def test_published_checksums_are_whole() -> None:
    assert len(download._SHA256) == 4
    assert {len(digest) for digest in download._SHA256.values()} == {64}

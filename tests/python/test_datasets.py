"""mnist, digits and noisy_sine: shapes, values, places of the files, refusals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlstm.datasets import digits, mnist, mnist_available, noisy_sine
from mnist_files import NAMES, encode, isolate, write_mnist


@pytest.fixture(autouse=True)
def _no_real_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("split", NAMES)
def test_mnist_of_a_folder(tmp_path: Path, split: str, compressed: bool) -> None:
    images, labels = write_mnist(tmp_path, 7, split=split, compressed=compressed)
    x, y = mnist(split, path=tmp_path)
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(x, images.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(y, labels)


@pytest.mark.parametrize("piece", [d for d in range(1, 785) if 784 % d == 0])
def test_mnist_piece(tmp_path: Path, piece: int) -> None:
    images, _ = write_mnist(tmp_path, 2)
    x, _ = mnist(piece=piece, path=tmp_path)
    assert x.shape == (2, 784 // piece, piece)
    np.testing.assert_array_equal(x.ravel() * 255, images.ravel())


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"split": "valid"}, ValueError, 'split must be "train" or "test", got'),
        ({"split": None}, ValueError, "split must be"),
        ({"piece": 5}, ValueError, "piece must divide 784, got 5"),
        ({"piece": 1568}, ValueError, "piece must divide 784"),
        ({"piece": 0}, ValueError, "piece must be at least 1"),
        ({"piece": -28}, ValueError, "piece must be at least 1"),
        ({"piece": 28.0}, TypeError, "piece must be an int"),
    ],
)
def test_mnist_refuses(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    write_mnist(tmp_path, 2)
    with pytest.raises(error, match=words):
        mnist(**arguments, path=tmp_path)


def test_mnist_path_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTLSTM_DATA_DIR", str(tmp_path))
    write_mnist(tmp_path / "mnist", 2)
    with pytest.raises(FileNotFoundError, match=r"path must be .*absent is no folder"):
        mnist(path=tmp_path / "absent")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="empty has neither train-images"):
        mnist(path=empty)
    (empty / NAMES["train"][0]).touch()
    with pytest.raises(FileNotFoundError, match="empty has neither train-labels"):
        mnist(path=empty)


def test_mnist_order_of_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "cache" / "fastlstm" / "mnist", 3)
    assert len(mnist()[0]) == 3
    monkeypatch.setenv("FASTLSTM_DATA_DIR", str(tmp_path / "data"))
    assert len(mnist()[0]) == 3
    write_mnist(tmp_path / "data" / "mnist", 4)
    assert len(mnist()[0]) == 4
    write_mnist(tmp_path / "own", 5)
    assert len(mnist(path=tmp_path / "own")[0]) == 5


def test_mnist_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mnist_available() is None
    folder = tmp_path / "data" / "mnist"
    monkeypatch.setenv("FASTLSTM_DATA_DIR", str(tmp_path / "data"))
    write_mnist(folder, 2)
    assert mnist_available() is None
    write_mnist(folder, 2, split="test", compressed=False)
    assert mnist_available() == folder
    assert mnist_available(folder) == folder
    assert mnist_available(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ((2, 28, 28), (3,), "a label for each of the 2 images, got 3"),
        (
            (2, 28, 27),
            (2,),
            r"shape \(N >= 1, 28, 28\), got uint8 of shape \(2, 28, 27",
        ),
        ((2, 784), (2,), "shape"),
        ((2, 28, 28), (2, 1), r"shape \(N >= 1\), got uint8 of shape \(2, 1\)"),
        ((0, 28, 28), (0,), r"got uint8 of shape \(0, 28, 28\)"),
    ],
)
def test_files_that_are_no_mnist(
    tmp_path: Path, images: tuple[int, ...], labels: tuple[int, ...], words: str
) -> None:
    for name, shape in zip(NAMES["train"], (images, labels), strict=True):
        (tmp_path / name).write_bytes(encode(np.zeros(shape, np.uint8)))
    with pytest.raises(ValueError, match=words) as caught:
        mnist(path=tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_labels_out_of_range(tmp_path: Path) -> None:
    write_mnist(tmp_path, 2, compressed=False)
    (tmp_path / NAMES["train"][1]).write_bytes(encode(np.array([3, 10], np.uint8)))
    with pytest.raises(ValueError, match="labels must be 0 to 9, got 10"):
        mnist(path=tmp_path)


def test_damaged_file_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path, 2)
    path = tmp_path / f"{NAMES['train'][0]}.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"train-images.*damaged gzip"):
        mnist(path=tmp_path)


def test_digits_whole() -> None:
    x, y = digits()
    assert (x.shape, x.dtype) == ((1797, 8, 8), np.float32)
    assert (y.shape, y.dtype) == ((1797,), np.int64)
    assert (x.min(), x.max()) == (0, 1)
    assert set(y) == set(range(10))


def test_digits_split() -> None:
    (x, y), (x_train, y_train), (x_test, y_test) = map(digits, (None, "train", "test"))
    assert len(x_train) + len(x_test) == len(x)
    rows = [image.tobytes() for image in x]
    parts = [image.tobytes() for image in (*x_train, *x_test)]
    assert sorted(rows) == sorted(parts)
    assert len(set(rows)) == len(rows)
    shares = np.bincount(y_test) / np.bincount(y)
    np.testing.assert_allclose(shares, 0.2, atol=0.006)
    np.testing.assert_array_equal(
        np.bincount(y_train) + np.bincount(y_test), np.bincount(y)
    )
    np.testing.assert_array_equal(digits("test")[0], x_test)
    assert (np.diff(y_test[:20]) != 0).any()
    with pytest.raises(ValueError, match='split must be None, "train" or "test"'):
        digits("valid")


def test_sine_is_what_it_says() -> None:
    x, y = noisy_sine(n=50, length=20, span=4.0, noise=0.1, rng=3)
    assert x.shape == y.shape == (50, 20, 1)
    assert x.dtype == y.dtype == np.float32
    steps = np.arange(1, 21) * 4.0 / 20
    every_phase = np.sin(np.arange(100)[:, None] + steps)
    distance = np.abs(every_phase[:, None] - y[None, :, :, 0]).max(axis=2)
    assert distance.min(axis=0).max() < 1e-6
    phases = distance.argmin(axis=0)
    assert len(set(phases)) > 20
    clean = np.sin(phases[:, None] + steps - 0.2)
    noise = x[..., 0] - clean
    assert np.abs(noise).max() <= 0.1 + 1e-6
    assert 0.9 < noise.std() / (0.1 / np.sqrt(3)) < 1.1


def test_sine_without_noise_is_the_target_one_step_back() -> None:
    x, y = noisy_sine(noise=0.0)
    assert x.shape == (500, 30, 1)
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])


def test_sine_seeds() -> None:
    same = (
        noisy_sine(5),
        noisy_sine(5, rng=0),
        noisy_sine(5, rng=np.random.default_rng(0)),
    )
    for x, y in same[1:]:
        np.testing.assert_array_equal(x, same[0][0])
        np.testing.assert_array_equal(y, same[0][1])
    assert (noisy_sine(5, rng=1)[0] != same[0][0]).any()
    assert (noisy_sine(5, rng=None)[0] != noisy_sine(5, rng=None)[0]).any()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n": 0}, ValueError, "n must be at least 1, got 0"),
        ({"n": 2.0}, TypeError, "n must be an int"),
        ({"length": -1}, ValueError, "length must be at least 1"),
        ({"span": 0.0}, ValueError, "span must be finite and > 0"),
        ({"span": np.inf}, ValueError, "span must be finite"),
        ({"span": "5"}, TypeError, "span must be a number"),
        ({"noise": -0.1}, ValueError, "noise must be finite and >= 0"),
        ({"noise": np.nan}, ValueError, "noise must be finite"),
        ({"rng": -1}, ValueError, "rng must be at least 0"),
        ({"rng": 1.5}, TypeError, "rng must be an int"),
    ],
)
def test_sine_refuses(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        noisy_sine(**arguments)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mnist(path=tmp_path / "absent")
    assert os.listdir(tmp_path) == []

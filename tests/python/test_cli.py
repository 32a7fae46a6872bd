"""The command line: results, exit codes, one clear line for every wrong input."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.cli.main import main
from fastlstm.cli.sine_data import fitted_phase, measure, sequences


@pytest.fixture(autouse=True)
def _restore_threads():
    before = fl.get_num_threads()
    yield
    fl.set_num_threads(before)


def fails(capsys, *argv):
    """Run a command that must fail; return its one line on standard error."""
    assert main([str(argument) for argument in argv]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("fastlstm: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def usage_error(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in argv])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def mnist_folder(tmp_path):
    """Make MNIST's four files, of random images."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 96), ("t10k", 32)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count, np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim])
            header += b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return folder


def small_mnist(folder, out):
    return ["mnist", "--data", folder, "--out", out, "--hidden", 8, "--quiet"]


@pytest.mark.parametrize("preset", ["default", "fast", "best", "classic", "pixels"])
def test_mnist_trains_saves_and_plots(capsys, tmp_path, mnist_folder, preset):
    out = tmp_path / "out"
    argv = [*small_mnist(mnist_folder, out), "--preset", preset, "--epochs", 2]
    assert main([str(a) for a in argv]) == 0
    text = capsys.readouterr().out
    assert "epoch 2: loss" in text
    assert "test accuracy" in text
    names = {path.name for path in out.iterdir()}
    assert names == {"mnist.safetensors", "learning-curve.png", "misread.png"}
    assert main(["info", str(out / "mnist.safetensors")]) == 0
    described = capsys.readouterr().out
    assert "classification" in described
    assert "epochs 2" in described


def test_mnist_profile_names_what_the_time_went_to(capsys, tmp_path, mnist_folder):
    argv = [*small_mnist(mnist_folder, tmp_path / "out"), "--profile"]
    assert main([str(a) for a in argv]) == 0
    text = capsys.readouterr().out
    table = text[text.index("time of training") :]
    for name in ("forward", "backward", "optimizer", "outside the core"):
        assert f"\n{name}" in table


def test_mnist_pixels_start_with_memories_of_all_lengths(tmp_path, mnist_folder):
    argv = [*small_mnist(mnist_folder, tmp_path / "out"), "--preset", "pixels"]
    argv += ["--epochs", 1, "--lr", 1e-9]
    assert main([str(a) for a in argv]) == 0
    lstm = fl.load(tmp_path / "out" / "mnist.safetensors").recurrent
    assert lstm.input_size == 1
    i, f, g, o = lstm.params["bias_l0"].reshape(4, 8)
    np.testing.assert_allclose(i, -f, atol=1e-6)
    assert ((f >= 0) & (f < np.log(159))).all()
    assert np.unique(f).size == 8
    np.testing.assert_allclose([g, o], 0, atol=1e-6)
    inputs = np.abs(lstm.params["weight_ih_l0"])
    assert 0.5 < inputs.max() <= 1


def test_mnist_takes_any_piece_and_activation(tmp_path, mnist_folder):
    argv = [*small_mnist(mnist_folder, tmp_path / "out"), "--epochs", 1, "--piece", 196]
    argv += ["--cell-activation", "relu", "--output-activation", "linear"]
    assert main([str(a) for a in argv]) == 0
    lstm = fl.load(tmp_path / "out" / "mnist.safetensors").recurrent
    assert lstm.input_size == 196
    assert lstm.config()["cell_activation"] == "relu"


def test_mnist_is_repeatable(tmp_path, mnist_folder):
    for name in ("a", "b"):
        argv = [*small_mnist(mnist_folder, tmp_path / name), "--epochs", 1, "--seed", 5]
        assert main([str(a) for a in argv]) == 0
    one, two = (tmp_path / name / "misread.png" for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()


def test_sine_reaches_its_error_with_little_training(capsys, tmp_path):
    out = tmp_path / "out"
    assert main(["sine", "--epochs", "4", "--quiet", "--out", str(out)]) == 0
    assert "limit" in capsys.readouterr().out
    errors = measure(fl.load(out / "sine.safetensors"))
    assert errors.one < 0.02
    assert errors.thirty < 0.03
    names = {path.name for path in out.glob("*.png")}
    assert names == {"one-ahead.png", "thirty-ahead.png", "from-one-value.png"}


def test_sine_classic_learns(capsys, tmp_path):
    argv = ["sine", "--preset", "classic", "--hidden", "24", "--out", str(tmp_path)]
    assert main(argv) == 0
    text = capsys.readouterr().out
    first, second = (
        float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("epoch")
    )
    assert second < first < 0.5


def test_sine_compares_the_cells(capsys, tmp_path):
    argv = [
        "sine",
        "--compare",
        "--epochs",
        "1",
        "--hidden",
        "4",
        "--out",
        str(tmp_path),
    ]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert text.count("better in") == 2
    assert (tmp_path / "cells.png").stat().st_size > 10_000


def test_fitted_phase_is_exact_without_noise():
    times = np.arange(60) * 5 / 30
    curves = np.sin(np.array([[0.3], [2.0]]) + times)
    np.testing.assert_allclose(
        fitted_phase(curves[:, :30], 30), curves[:, 30:], atol=1e-12
    )


def test_fitted_phase_reaches_the_stated_limit():
    x, y = sequences(2000, 60, 3)
    error = fitted_phase(x[:, :30, 0], 30) - y[:, 29:59, 0]
    assert 0.005 < np.sqrt(np.mean(error**2)) < 0.006


def test_demo_uses_mnist_at_hand(capsys, tmp_path, mnist_folder, monkeypatch):
    (tmp_path / "root").mkdir()
    mnist_folder.rename(tmp_path / "root" / "mnist")
    monkeypatch.setenv("FASTLSTM_DATA_DIR", str(tmp_path / "root"))
    out = tmp_path / "out"
    assert main(["demo", "--quick", "--quiet", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "MNIST, 96 training images" in text
    assert len(list(out.glob("*.png"))) == 5


def test_demo_falls_back_to_digits_and_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("FASTLSTM_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTLSTM_MNIST_URL", "http://127.0.0.1:9")
    out = tmp_path / "out"
    assert main(["demo", "--quick", "--quiet", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "using scikit-learn's digits" in captured.err
    assert "scikit-learn's digits, 1442 training images" in captured.out


def test_info_describes_the_machine(capsys):
    assert main(["info"]) == 0
    assert fl.__version__ in capsys.readouterr().out


def test_bench_prints_every_shape(capsys):
    assert main(["bench", "--quick", "--threads", "1"]) == 0
    text = capsys.readouterr().out
    assert "amplifier" in text
    assert "memory GB/s" in text
    assert text.count("%") == 12  # shares of the limit


@pytest.mark.parametrize(
    "argv",
    [
        ["mnist", "--piece", "0"],
        ["mnist", "--epochs", "1.5"],
        ["mnist", "--lr", "nan"],
        ["mnist", "--lr", "-1"],
        ["sine", "--cell", "transformer"],
        ["sine", "--threads", "0"],
        ["sine", "--seed", "-1"],
        ["train"],
        [],
    ],
)
def test_wrong_usage_exits_with_2(capsys, argv):
    assert "fastlstm" in usage_error(capsys, *argv)


def test_piece_must_divide_the_image(capsys, tmp_path, mnist_folder):
    argv = [*small_mnist(mnist_folder, tmp_path / "out"), "--piece", 27]
    assert "piece must" in fails(capsys, *argv)


def test_missing_data_folder_is_named(capsys, tmp_path):
    argv = small_mnist(tmp_path / "nowhere", tmp_path / "out")
    assert "nowhere" in fails(capsys, *argv)


def test_truncated_data_are_named(capsys, tmp_path, mnist_folder):
    broken = mnist_folder / "train-images-idx3-ubyte"
    broken.write_bytes(broken.read_bytes()[:-1])
    argv = small_mnist(mnist_folder, tmp_path / "out")
    assert broken.name in fails(capsys, *argv)
    assert list((tmp_path / "out").iterdir()) == []


def test_output_folder_that_is_a_file_is_refused_before_work(capsys, tmp_path):
    target = tmp_path / "file"
    target.write_text("kept")
    assert "--out" in fails(capsys, "sine", "--out", target)
    assert target.read_text() == "kept"


@pytest.mark.parametrize("embedded", [False, True])
def test_info_prints_the_error_of_bfloat16(capsys, tmp_path, embedded):
    layer, head = fl.GRU(3, 16, bidirectional=True, rng=0), fl.Linear(32, 2, rng=0)
    table = fl.Embedding(9, 3, rng=0) if embedded else None
    model = fl.SequenceModel(layer, head, embedding=table)
    path = tmp_path / "model.safetensors"
    model.save(path)
    assert main(["info", str(path)]) == 0
    line = next(t for t in capsys.readouterr().out.splitlines() if "bfloat16" in t)
    assert 1e-5 < float(line.split("largest error ")[1].split()[0]) < 0.05
    # Weights that bfloat16 holds cost nothing.
    layer.round_weights("bfloat16")
    model.save(path)
    assert main(["info", str(path)]) == 0
    assert "largest error 0 " in capsys.readouterr().out


def test_info_on_what_is_no_model(capsys, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a model")
    assert str(path) in fails(capsys, "info", path)
    assert "missing" in fails(capsys, "info", tmp_path / "missing.safetensors")


def test_classic_sine_is_an_lstm(capsys, tmp_path):
    argv = ["sine", "--preset", "classic", "--cell", "gru", "--out", tmp_path]
    assert "--cell gru" in fails(capsys, *argv)


def test_interrupt_exits_with_130(monkeypatch, capsys, tmp_path):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastlstm.cli.sine.train", interrupt)
    assert main(["sine", "--out", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_module_runs_and_an_unknown_isa_is_one_line():
    result = subprocess.run(
        [sys.executable, "-m", "fastlstm", "info"],
        env={**os.environ, "FASTLSTM_ISA": "mmx"},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        timeout=60,
    )
    assert result.returncode == 1
    assert "FASTLSTM_ISA must be one of" in result.stderr
    assert result.stderr.count("\n") == 1

"""Every example runs as a program and prints what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name, *arguments):
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def number_after(text, label):
    return float(text.split(label)[1].split()[0].rstrip("%"))


def test_permutations_are_all_classified():
    assert number_after(run_example("permutations.py"), "accuracy") == 100


def test_noisy_sine_is_predicted_below_the_noise():
    text = run_example("noisy_sine.py", "--epochs", "8")
    assert number_after(text, "one ahead") < 0.02
    assert number_after(text, "over 30 ahead") < 0.029


def test_online_learning_follows_a_change_of_regime(tmp_path):
    text = run_example("online_regime.py", "--out", str(tmp_path / "plot.png"))
    before, after, end = (
        line.split("fixed ")[1].split(", learning ")
        for line in text.splitlines()
        if line.startswith("rms error")
    )
    assert float(before[1]) < 0.05
    assert float(after[1]) < float(after[0])
    assert float(end[1]) < 0.05 < 0.1 < float(end[0])
    assert (tmp_path / "plot.png").stat().st_size > 0


def test_mnist_rows_learns():
    folder = os.environ.get("FASTLSTM_DATA_DIR")
    if not folder or not Path(folder, "mnist").is_dir():
        pytest.skip("needs MNIST in $FASTLSTM_DATA_DIR/mnist")
    text = run_example("mnist_rows.py", "--limit", "6000")
    assert number_after(text, "test accuracy") > 60  # chance is 10

"""The sine's defaults reach what is promised; a comparison takes no idle option."""

import pytest

import fastlstm as fl
from fastlstm.cli.compare import SETTINGS, train_one
from fastlstm.cli.main import main
from fastlstm.cli.sine import build_model, train


@pytest.fixture
def one_thread():
    before = fl.get_num_threads()
    fl.set_num_threads(1)
    yield
    fl.set_num_threads(before)


def test_defaults_reach_the_promised_errors(one_thread):
    errors = train(0, progress=False).errors
    assert errors.limit_one < errors.one < 0.012
    assert errors.limit_thirty < errors.thirty < 0.02


@pytest.mark.parametrize(
    "option",
    [
        ["--preset", "classic"],
        ["--cell-activation", "relu"],
        ["--output-activation", "linear"],
    ],
)
def test_compare_refuses_what_it_would_ignore(capsys, tmp_path, option):
    out = tmp_path / "out"
    assert main(["sine", "--compare", *option, "--out", str(out)]) == 1
    assert "--compare has no" in capsys.readouterr().err
    assert not out.exists()


def test_compare_uses_the_learning_rate():
    slow, fast = (train_one(SETTINGS[0], "lstm", 0, 1, 4, lr) for lr in (1e-3, 1e-2))
    assert slow[0] != fast[0]


def test_forget_bias_can_be_left_out(monkeypatch):
    given = []
    real = fl.LSTM

    def spy(*args, **options):
        given.append(options["forget_bias"])
        return real(*args, **options)

    monkeypatch.setitem(build_model.__globals__["CELLS"], "lstm", spy)
    train_one(SETTINGS[0], "lstm", 0, 1, 4, 1e-3)
    build_model("lstm", 4, 0)
    assert given == [None, 1.0]

"""Figures have what they should show, labelled, and are written whole."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra demo")

import fastlstm as fl
from fastlstm import plot

PNG = b"\x89PNG\r\n\x1a\n"


def labelled(axes):
    return axes.get_xlabel() != "" and axes.get_ylabel() != ""


def test_learning_curve_shows_both_scores():
    figure = plot.learning_curve(
        {
            "loss": [1.0, 0.5],
            "accuracy": [0.5, 0.9],
            "val_loss": [0.9, 0.6],
            "val_accuracy": [0.6, 0.8],
        }
    )
    loss, accuracy = figure.axes
    assert labelled(loss)
    assert labelled(accuracy)
    assert [line.get_label() for line in loss.lines] == ["training", "test"]
    test = accuracy.lines[1]
    np.testing.assert_array_equal(test.get_ydata(), [0.6, 0.8])
    assert test.get_label() == "test, in the end 80.00%"


def test_learning_curve_of_regression_shows_the_error():
    figure = plot.learning_curve({"loss": [1.0], "rmse": [0.7]})
    assert figure.axes[1].get_ylabel() == "root mean square error"


def test_misread_shows_the_surest_mistake_first():
    images = np.zeros((3, 8, 8), np.float32)
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.55, 0.45]])
    figure = plot.misread(
        images, np.array([1, 0, 1]), np.array([0, 1, 0]), probabilities
    )
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["0 -> 1  90%", "1 -> 0  60%", "1 -> 0  55%"]


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (8, 1), (9, 2), (50, 5)])
def test_misread_has_no_empty_rows(count, rows):
    labels = np.zeros(count, np.int64)
    figure = plot.misread(np.zeros((count, 8, 8)), labels, labels, np.ones((count, 1)))
    assert figure.axes[0].get_gridspec().nrows == rows


def test_misread_without_mistakes_is_an_empty_sheet():
    empty = np.zeros(0, np.int64)
    figure = plot.misread(np.zeros((0, 8, 8)), empty, empty, np.zeros((0, 10)))
    assert not any(axes.images for axes in figure.axes)


def test_sine_figures_are_labelled():
    times = np.linspace(0, 10, 60)
    clean = np.sin(times)
    figures = [
        plot.one_ahead(times, clean, clean, clean[30:], 0.01),
        plot.thirty_ahead(times, clean[None, :30], clean[None], clean[None, 30:], 0.01),
        plot.from_one_value(times, clean, clean, clean),
    ]
    for figure in figures:
        assert figure.axes[-1].get_xlabel() == "time (rad)"
        assert figure.axes[0].get_legend() is not None


def test_cell_comparison_draws_medians_and_bands():
    values = np.array([[3.0, 1.0], [2.0, 1.5], [4.0, 0.5]])
    figure = plot.cell_comparison({"setting": {"lstm": (values, values)}})
    error, norm = figure.axes
    np.testing.assert_array_equal(error.lines[0].get_ydata(), [3.0, 1.0])
    assert len(norm.collections) == 1
    assert labelled(error)
    assert labelled(norm)


def test_save_writes_a_png_and_replaces_it(tmp_path):
    path = tmp_path / "curve.png"
    path.write_text("old")
    figure = plot.learning_curve({"loss": [1.0], "accuracy": [0.5]})
    assert plot.save(figure, path) == path
    assert path.read_bytes().startswith(PNG)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("batch_first", [False, True])
def test_gates_show_one_sequence(batch_first):
    lstm = fl.LSTM(2, 5, 2, batch_first=batch_first, rng=0)
    x = np.random.default_rng(0).standard_normal((3, 4, 2)).astype(np.float32)
    _, _, tape = lstm.forward(x)
    figure = plot.gates(tape, sequence=1)
    images = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left")[-1] for axes in images] == list("ifgoc")
    assert images[-1].get_xlabel() == "step"
    assert all(axes.get_ylabel() == "unit" for axes in images)
    one = tape.gates[1, 1] if batch_first else tape.gates[1, :, 1]
    np.testing.assert_array_equal(images[1].images[0].get_array(), one.T)


@pytest.mark.parametrize(("cls", "count"), [(fl.GRU, 3), (fl.RNN, 1)])
def test_gates_of_other_cells(cls, count):
    _, _, tape = cls(2, 5, bidirectional=True).forward(np.zeros((4, 2), np.float32))
    images = [axes for axes in plot.gates(tape, layer=0).axes if axes.images]
    assert len(images) == count
    assert images[0].images[0].get_array().shape == (10, 4)

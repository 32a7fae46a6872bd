"""What to_header writes, refuses and reports; test_export_compiled.py runs the code."""

import re
from pathlib import Path

import numpy as np
import pytest

import fastlstm as fl
from export_models import answers, models, random_input
from fastlstm.cli.main import main
from fastlstm.export.weights import dequantized, quantize_rows

ROOT = Path(__file__).parents[2]
HOSTILE = """2amp my-amp _amp a__b \u00e4mp ../amp a.b $p amp; amp*/ int namespace
restrict std memcpy"""


@pytest.fixture
def model():
    return models()["amp"]


def numbers_of(text, field):
    """Return the floats of one member of the struct of weights."""
    body = text.split(f"/* {field} */")[1].split("/*")[0].split("};")[0]
    return np.array(re.findall(r"(-?[0-9.e+-]+)f", body), np.float32)


def test_floats_are_exact(tmp_path, model):
    tricky = np.array([1e-45, 3.4028235e38, 0.1, 1 / 3, -0.0, 16777217, 1e-8, 2], "f4")
    model.head.params["weight"][0, :8] = tricky
    fl.export.to_header(model, tmp_path / "amp.h")
    text = (tmp_path / "amp.h").read_text()
    head = numbers_of(text, "head")
    assert head.tobytes() == model.head.params["weight"].tobytes()
    columns = numbers_of(text, "l0_h").reshape(16, 64)
    assert columns.T.tobytes() == model.recurrent.params["weight_hh_l0"].tobytes()


def test_the_polynomial_is_the_kernels():
    source = ROOT / "cpp" / "src" / "kernels" / "math.hpp"
    if not source.is_file():
        pytest.skip("the C++ sources are not beside the tests")
    single = (
        source.read_text().split("ExpConstants<float>")[1].split("};\n\ntemplate")[0]
    )
    wanted = [float(x) for x in re.findall(r"(-?\d[\d.e+-]*)f\b", single)]
    from fastlstm.export.code import MATH

    found = [float(x) for x in re.findall(r"(\d[\d.e+-]*)f\b", MATH)]
    # Where tanh saturates is left to the bound of exp: the result is the same. Tanh by
    # ln 2 in one part needs fma.
    missing = {abs(x) for x in wanted} - set(found)
    assert len(wanted) == 12
    assert missing == {9.1, 0.693147180559945309}


def test_report_counts_bytes(tmp_path, model):
    report = fl.export.to_header(model, tmp_path / "x.hpp", name="amp")
    floats = 64 + 64 + 16 * 64 + 1 + 16
    assert report.name == "amp"
    assert report.sizes.weights == 4 * floats
    assert report.sizes.state == 4 * 2 * 16
    assert report.sizes.multiply_adds == 64 + 16 * 64 + 16
    assert report.int8_error is None
    small = fl.export.to_header(model, tmp_path / "x.hpp", name="amp", int8=True)
    scales_and_biases = 64 + 64 + 64 + 1 + 1
    assert small.sizes.weights == 4 * scales_and_biases + 64 + 16 * 64 + 16
    assert 0 < small.int8_error < 0.05


def test_same_model_gives_same_text(tmp_path, model):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fl.export.to_header(model, tmp_path / name / "amp.h")
    first, second = ((tmp_path / n / "amp.h").read_bytes() for n in ("a", "b"))
    assert first == second


def test_rows_are_quantized_symmetrically():
    weight = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    weight[3] = 0
    weight[4] = 1e-45
    values, scales = quantize_rows(weight)
    assert values.min() >= -127
    assert (np.abs(values).max(axis=1)[5:] == 127).all()
    error = np.abs(weight - values * scales[:, None])
    assert (error <= scales[:, None] * 0.5001 + 1e-44).all()
    assert not values[3].any()


def test_int8_error_is_that_of_the_rounded_model(tmp_path, model):
    report = fl.export.to_header(model, tmp_path / "amp.h", int8=True)
    x = random_input(model, 2000, scale=1.0)
    expected, rounded = answers(model, x), answers(dequantized(model), x)
    error = np.sqrt(np.mean((expected - rounded) ** 2) / np.mean(expected**2))
    assert report.int8_error == pytest.approx(error, rel=0.3)


@pytest.mark.parametrize("name", [*HOSTILE.split(), "", "my amp", "amp\n", "a" * 64])
def test_hostile_names_are_refused(tmp_path, model, name):
    with pytest.raises(ValueError, match="name must be an identifier"):
        fl.export.to_header(model, tmp_path / "amp.h", name=name)
    assert not list(tmp_path.iterdir())


def test_hostile_stems_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match="name must be an identifier"):
        fl.export.to_header(model, tmp_path / "my-amp.h")
    fl.export.to_header(model, tmp_path / "my-amp.h", name="my_amp")
    assert "my_amp_step" in (tmp_path / "my-amp.h").read_text()


def test_a_file_is_replaced_whole(tmp_path, model):
    target = tmp_path / "amp.h"
    target.write_text("old")
    model.head.params["weight"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"head\.weight must be finite"):
        fl.export.to_header(model, target)
    assert target.read_text() == "old"
    model.head.params["weight"][0, 0] = 0
    fl.export.to_header(model, target)
    assert [path.name for path in tmp_path.iterdir()] == ["amp.h"]
    assert "amp_step" in target.read_text()


def refused(tmp_path, recurrent):
    features = recurrent.hidden_size * (2 if recurrent.bidirectional else 1)
    head = fl.Linear(features, 1, dtype=recurrent.dtype)
    model = fl.SequenceModel(recurrent, head, task="regression")
    with pytest.raises(ValueError, match="export ") as caught:
        fl.export.to_header(model, tmp_path / "amp.h")
    return str(caught.value)


def test_what_a_header_cannot_hold_is_refused(tmp_path):
    text = refused(tmp_path, fl.LSTM(1, 4, bidirectional=True))
    assert "bidirectional=True must see the end" in text
    assert "float64" in refused(tmp_path, fl.LSTM(1, 4, dtype=np.float64))


def test_variants_are_refused_by_name(tmp_path, monkeypatch, model):
    plain = model.recurrent.config()
    for option in ({"peepholes": True}, {"cell_activation": ["tanh", "relu"]}):
        config = plain | option
        monkeypatch.setattr(model.recurrent, "config", lambda config=config: config)
        name = next(iter(option))
        with pytest.raises(ValueError, match=rf"does not know LSTM\({name}="):
            fl.export.to_header(model, tmp_path / "amp.h")


def test_arguments_are_checked(tmp_path, model):
    with pytest.raises(TypeError, match="model must be a SequenceModel, got LSTM"):
        fl.export.to_header(model.recurrent, tmp_path / "amp.h")
    with pytest.raises(ValueError, match=r"path must end in \.h"):
        fl.export.to_header(model, tmp_path / "amp.txt")
    with pytest.raises(ValueError, match="language must be"):
        fl.export.to_header(model, tmp_path / "amp.h", language="rust")
    with pytest.raises(TypeError, match="name must be a str"):
        fl.export.to_header(model, tmp_path / "amp.h", name=3)
    with pytest.raises(OSError, match="missing"):
        fl.export.to_header(model, tmp_path / "missing" / "amp.h")


def test_command_writes_and_reports(tmp_path, capsys, model):
    model.save(tmp_path / "amp.safetensors")
    paths = [tmp_path / "amp.hpp", tmp_path / "amp.h"]
    options = ["--cpp", str(paths[0]), "--c", str(paths[1]), "--int8"]
    assert main(["export", str(tmp_path / "amp.safetensors"), *options]) == 0
    text = capsys.readouterr().out
    assert text.count("int8 error:") == 2
    assert re.search(r"weights: +1,880 bytes", text)
    assert "namespace amp" in paths[0].read_text()
    assert "amp_step" in paths[1].read_text()


def test_command_needs_a_header(tmp_path, capsys, model):
    model.save(tmp_path / "amp.safetensors")
    with pytest.raises(SystemExit) as stop:
        main(["export", str(tmp_path / "amp.safetensors")])
    assert stop.value.code == 2
    assert "give --cpp FILE" in capsys.readouterr().err
    options = ["--c", str(tmp_path / "a.h"), "--name", "int"]
    assert main(["export", str(tmp_path / "amp.safetensors"), *options]) == 1
    assert "name must be an identifier" in capsys.readouterr().err

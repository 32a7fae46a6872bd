"""Variants of the cells: against the slow reference, against differences, every ISA.

Each variant alone, pairs of them, and all at once; what they leave alone; their errors.
"""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastlstm as fl
from oracle import variants
from test_gradients import Problem

Array = npt.NDArray[Any]

LSTM_VARIANTS: dict[str, dict[str, Any]] = {
    "peepholes": {"peepholes": True},
    "coupled": {"coupled": True},
    "clip": {"clip": 0.4},
    "cell_clip": {"cell_clip": 0.3},
    "projection": {"proj_size": 3},
    "layer_norm": {"layer_norm": True},
    "zoneout": {"zoneout": (0.3, 0.2)},
    "gates": {"recurrent_activation": "hard_sigmoid", "cell_activation": "softsign"},
}

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "GRU before": ("gru", {"reset_after": False}),
    "GRU before, clip": ("gru", {"reset_after": False, "clip": 0.3}),
    "GRU after, clip": ("gru", {"clip": 0.3}),
    "GRU activations": (
        "gru",
        {"recurrent_activation": "hard_sigmoid", "cell_activation": ("elu", 0.7)},
    ),
    "GRU before, activations": (
        "gru",
        {"reset_after": False, "cell_activation": ("scaled_tanh", 0.8, 1.2)},
    ),
    "RNN clip": ("rnn", {"clip": 0.3}),
    "RNN softsign": ("rnn", {"nonlinearity": "softsign"}),
}

ACTIVATIONS: list[Any] = [
    "tanh",
    "relu",
    "sigmoid",
    "linear",
    ("affine", 0.7, 0.2),
    ("leaky_relu", 0.2),
    ("thresholded_relu", 0.3),
    ("scaled_tanh", 0.8, 1.3),
    ("hard_sigmoid", 0.3, 0.4),
    ("elu", 0.6),
    "softsign",
    "softplus",
]


def pairs() -> dict[str, dict[str, Any]]:
    """Each variant alone and all pairs."""
    found = dict(LSTM_VARIANTS)
    for (a, first), (b, second) in itertools.combinations(LSTM_VARIANTS.items(), 2):
        found[f"{a} and {b}"] = first | second
    return found


PAIRS = pairs()

EVERYTHING = {
    **{
        name: value
        for options in LSTM_VARIANTS.values()
        for name, value in options.items()
    },
    "cell_activation": [("elu", 0.7), "tanh"],
    "output_activation": ["tanh", ("scaled_tanh", 0.9, 1.1)],
    "bidirectional": True,
    "num_layers": 2,
}


def make(cell: str, inputs: int, hidden: int, **options: Any) -> Any:
    """A layer whose every parameter is drawn, gains and biases too."""
    layer = getattr(fl, cell.upper())(inputs, hidden, rng=3, **options)
    rng = np.random.default_rng(4)
    for name, value in layer.params.items():
        value[...] = rng.normal(1 if name.startswith("gain") else 0, 0.4, value.shape)
    return layer


def draw(layer: Any, T: int, N: int) -> tuple[Array, Any]:
    rng = np.random.default_rng(5)
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    x = rng.standard_normal((T, N, layer.input_size)).astype(layer.dtype)
    h0 = rng.standard_normal((rows, N, layer.output_size)).astype(layer.dtype)
    if not isinstance(layer, fl.LSTM):
        return x, h0
    return x, (
        h0,
        rng.standard_normal((rows, N, layer.hidden_size)).astype(layer.dtype),
    )


def parts(state: Any) -> tuple[Array, ...]:
    return state if isinstance(state, tuple) else (state,)


def check_forward(
    cell: str, options: dict[str, Any], layer: Any, T: int, N: int
) -> None:
    x, state = draw(layer, T, N)
    wanted, wanted_state = variants.forward(
        cell,
        options,
        {name: value.astype(np.float64) for name, value in layer.params.items()},
        x.astype(np.float64),
        tuple(part.astype(np.float64) for part in parts(state)),
    )
    limit = 2e-5 if layer.dtype == np.float32 else 1e-12
    output, last = layer(x, state)
    for got, expected in zip(
        (output, *parts(last)), (wanted, *wanted_state), strict=True
    ):
        assert got.shape == expected.shape
        assert np.linalg.norm(got - expected) <= limit * np.linalg.norm(expected)
    if "zoneout" in options:
        return
    trained, trained_last, _ = layer.forward(x, state)
    for got, expected in zip(
        (trained, *parts(trained_last)), (output, *parts(last)), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", PAIRS.values(), ids=PAIRS)
def test_lstm_variants_agree_with_the_reference(
    isa: str, options: dict[str, Any], dtype: str
) -> None:
    check_forward("lstm", options, make("lstm", 3, 19, dtype=dtype, **options), 5, 7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cell", "options"), OTHERS.values(), ids=OTHERS)
def test_other_cells_agree_with_the_reference(
    isa: str, cell: str, options: dict[str, Any], dtype: str
) -> None:
    check_forward(cell, options, make(cell, 3, 19, dtype=dtype, **options), 5, 7)


def test_everything_at_once_agrees_with_the_reference(isa: str) -> None:
    check_forward(
        "lstm", EVERYTHING, make("lstm", 3, 9, dtype="float64", **EVERYTHING), 6, 5
    )


@pytest.mark.parametrize("hidden", range(4, 36))
def test_all_tails_agree_with_the_reference(isa: str, hidden: int) -> None:
    options: dict[str, Any] = {"peepholes": True, "layer_norm": True, "proj_size": 3}
    check_forward("lstm", options, make("lstm", 2, hidden, **options), 3, 4)
    options = {"reset_after": False}
    check_forward("gru", options, make("gru", 2, hidden, **options), 3, 4)
    options = {"nonlinearity": "softsign"}
    check_forward("rnn", options, make("rnn", 2, hidden, **options), 3, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations_are_exact_to_rounding(
    isa: str, activation: Any, dtype: type
) -> None:
    x = np.linspace(-30, 30, 4001).astype(dtype)
    x = np.concatenate([x, np.geomspace(1e-30, 1, 500), -np.geomspace(1e-30, 1, 500)])
    x = x.astype(dtype).reshape(1, -1, 1)
    layer = fl.RNN(1, 1, nonlinearity=activation, dtype=dtype, bias=False, clip=1e9)
    layer.params["weight_ih_l0"][...] = 1
    output, _ = layer(x)
    wanted = variants.activate(activation, x.astype(np.longdouble))
    error = np.abs(output - wanted)
    scale = np.maximum(np.abs(wanted), 0.1 if isinstance(activation, tuple) else 1e-30)
    assert (error / scale).max() <= 4 * np.finfo(dtype).eps


@pytest.mark.parametrize("options", PAIRS.values(), ids=PAIRS)
def test_lstm_gradients(options: dict[str, Any]) -> None:
    Problem(make("lstm", 3, 5, dtype="float64", **options)).check_where_smooth()


@pytest.mark.parametrize(("cell", "options"), OTHERS.values(), ids=OTHERS)
def test_gradients_of_other_cells(cell: str, options: dict[str, Any]) -> None:
    Problem(make(cell, 3, 5, dtype="float64", **options)).check_where_smooth()


@pytest.mark.parametrize("options", PAIRS.values(), ids=PAIRS)
def test_lstm_gradients_with_recurrent_dropout(options: dict[str, Any]) -> None:
    options = options | {"recurrent_dropout": 0.4, "dtype": "float64"}
    Problem(make("lstm", 3, 5, **options)).check_where_smooth()


@pytest.mark.parametrize(("cell", "options"), OTHERS.values(), ids=OTHERS)
def test_gradients_of_other_cells_with_recurrent_dropout(
    cell: str, options: dict[str, Any]
) -> None:
    options = options | {"recurrent_dropout": 0.4, "dtype": "float64"}
    Problem(make(cell, 3, 5, **options)).check_where_smooth()


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("lstm", {"peepholes": True}),
        ("lstm", {"cell_clip": 1e6}),
        ("gru", {"clip": 1e6}),
        ("rnn", {"clip": 1e6}),
    ],
)
def test_recurrent_dropout_draws_the_mask_of_the_plain_cell(
    isa: str, cell: str, options: dict[str, Any]
) -> None:
    shape: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "rng": 3}
    cls = getattr(fl, cell.upper())
    plain = cls(9, 21, recurrent_dropout=0.4, **shape)
    layer = cls(9, 21, recurrent_dropout=0.4, **shape, **options)
    for name, value in layer.params.items():
        value[...] = plain.params.get(name, 0)
    x, state = draw(plain, 8, 13)
    results = []
    for each in (plain, layer):
        each.reseed(7)
        lengths = [8, 3, 0, 5, 8, 8, 1, 2, 6, 7, 8, 4, 8]
        output, _, tape = each.forward(x, state, lengths=lengths)
        d_x, _ = each.backward(np.cos(output), tape)
        results.append((output, {"d_x": d_x, **each.grads}))
    np.testing.assert_array_equal(results[1][0], results[0][0])
    for name, grad in results[0][1].items():
        error = np.linalg.norm(results[1][1][name] - grad)
        assert error <= 1e-5 * np.linalg.norm(grad), name


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_dropout_is_one_mask_a_sequence(cell: str) -> None:
    """h through W_hh (and W_hn behind the reset) is scaled alike at every step."""
    options: dict[str, Any] = {"reset_after": False}
    if cell == "lstm":
        options = {"proj_size": 20, "peepholes": True, "zoneout": (0.0, 0.0)}
    layer = make(cell, 3, 21, recurrent_dropout=0.5, dtype="float64", **options)
    plain = make(cell, 3, 21, dtype="float64", **options)
    x, state = draw(layer, 6, 1)
    np.testing.assert_array_equal(layer(x, state)[0], plain(x, state)[0])
    output, _, tape = layer.forward(x, state)
    layer.backward(np.ones_like(output), tape)
    kept = layer.grads["weight_hh_l0"].any(axis=0)
    assert 0 < kept.sum() < len(kept)
    plain.params["weight_hh_l0"][...] *= 2 * kept
    np.testing.assert_allclose(plain(x, state)[0], output, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_gradients_of_activations(activation: Any) -> None:
    Problem(
        make(
            "lstm",
            2,
            4,
            dtype="float64",
            recurrent_activation=activation,
            cell_activation=activation,
            output_activation=activation,
        )
    ).check_where_smooth()


def test_gradients_of_everything_at_once(isa: str) -> None:
    options = EVERYTHING | {"dropout": 0.3, "clip": 2.0, "cell_clip": 0.8}
    options["recurrent_dropout"] = 0.3
    Problem(make("lstm", 3, 5, dtype="float64", **options)).check_where_smooth()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradients_over_many_chunks(cell: str) -> None:
    options: dict[str, Any] = {"reset_after": False}
    if cell == "lstm":
        options = {"peepholes": True, "layer_norm": True, "proj_size": 3}
    layer = make(cell, 3, 4, dtype="float64", **options)
    for name, value in layer.params.items():
        if name.startswith("gain"):
            value *= 0.3  # or the differences blow up over so many steps
    Problem(layer, T=90, N=3).check(step=1e-5)


@pytest.mark.parametrize("options", LSTM_VARIANTS.values(), ids=LSTM_VARIANTS)
def test_float32_gradients_are_those_of_float64_rounded(
    isa: str, options: dict[str, Any]
) -> None:
    layers = [make("lstm", 5, 37, dtype=d, **options) for d in ("float32", "float64")]
    layers[0].load_state_dict(
        {k: v.astype(np.float32) for k, v in layers[1].state_dict().items()}
    )
    found = []
    for layer in layers:
        x, state = draw(layers[1], 9, 11)
        layer.reseed(1)
        x, state = x.astype(layer.dtype), tuple(s.astype(layer.dtype) for s in state)
        output, _, tape = layer.forward(x, state)
        d_x, d_state = layer.backward(np.ones_like(output), tape)
        found.append([d_x, *d_state, *layer.grads.values()])
    for single, double in zip(*found, strict=True):
        assert np.linalg.norm(single - double) <= 2e-4 * np.linalg.norm(double)


@pytest.mark.parametrize(
    "options", [{"peepholes": True}, {"clip": 1e6}, {"cell_clip": 1e6}], ids=str
)
def test_variants_that_change_nothing_are_the_plain_lstm_to_the_bit(
    isa: str, options: dict[str, Any]
) -> None:
    plain = make("lstm", 9, 21, num_layers=2, bidirectional=True)
    layer = fl.LSTM(9, 21, 2, bidirectional=True, **options)
    for name, value in layer.params.items():
        value[...] = plain.params.get(name, 0)
    x, state = draw(plain, 8, 13)
    results = []
    for each in (plain, layer):
        output, last, tape = each.forward(x, state)
        d_x, _ = each.backward(np.cos(output), tape, last)
        results.append(((output, *last), {"d_x": d_x, **each.grads}))
    for got, wanted in zip(results[1][0], results[0][0], strict=True):
        np.testing.assert_array_equal(got, wanted)
    for name, grad in results[0][1].items():
        error = np.linalg.norm(results[1][1][name] - grad)
        assert error <= 1e-5 * np.linalg.norm(grad), name


ALL_CELLS = [("lstm", EVERYTHING), *OTHERS.values()]


@pytest.mark.parametrize(("cell", "options"), ALL_CELLS)
def test_bits_do_not_depend_on_threads(
    isa: str, cell: str, options: dict[str, Any], threads: Callable[[int], None]
) -> None:
    layer = make(cell, 24, 65, recurrent_dropout=0.3, **options)
    x, state = draw(layer, 20, 50)
    results = []
    for count in (1, 2, 3, 8):
        threads(count)
        layer.reseed(1)
        layer.zero_grad()
        inferred, last = layer(x, state)
        output, _, tape = layer.forward(x, state)
        d_x, d_state = layer.backward(np.cos(output), tape)
        grads = [grad.copy() for grad in layer.grads.values()]
        results.append([inferred, *parts(last), output, d_x, *parts(d_state), *grads])
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("cell", "options"), ALL_CELLS)
def test_bits_do_not_depend_on_batch_or_chunks(
    isa: str, cell: str, options: dict[str, Any]
) -> None:
    if options.get("bidirectional"):
        options = options | {
            "bidirectional": False,
            "cell_activation": ("elu", 0.7),
            "output_activation": "tanh",
        }
    layer = make(cell, 3, 17, **options)
    x, state = draw(layer, 9, 8)
    output, last = layer(x, state)

    def rows(state: Any, n: int) -> Any:
        alone = tuple(np.ascontiguousarray(s[:, n : n + 1]) for s in parts(state))
        return alone if isinstance(state, tuple) else alone[0]

    for n in range(8):
        alone, _ = layer(x[:, n : n + 1], rows(state, n))
        np.testing.assert_array_equal(alone, output[:, n : n + 1])
    pieces, now = [], state
    for first, stop in ((0, 2), (2, 3), (3, 9)):
        piece, now = layer(x[first:stop], now)
        pieces.append(piece)
    np.testing.assert_array_equal(np.concatenate(pieces), output)
    for got, wanted in zip(parts(now), parts(last), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_zoneout_keeps_the_share_of_units_that_is_asked_for() -> None:
    layer = make("lstm", 3, 200, zoneout=(0.25, 0.6), dtype="float64")
    x, state = draw(layer, 1, 50)
    output, (h_n, c_n), _ = layer.forward(x, state)
    np.testing.assert_array_equal(output[0], h_n[0])
    plain = fl.LSTM(3, 200, dtype="float64")
    plain.load_state_dict(layer.state_dict())
    _, (new_h, new_c) = plain(x, state)
    for got, old, new, share in (
        (h_n, state[0], new_h, 0.25),
        (c_n, state[1], new_c, 0.6),
    ):
        kept = got == old
        np.testing.assert_array_equal(got[~kept], new[~kept])
        assert abs(kept.mean() - share) < 0.02  # 4 sigma of 10,000 draws
        assert abs(kept.mean(axis=1) - share).max() < 0.2
    again, _, _ = layer.forward(x, state)
    assert not np.array_equal(again, output)


def test_zoneout_draws_for_each_step_row_and_direction() -> None:
    layer = make("lstm", 1, 64, zoneout=(0.5, 0.0), bidirectional=True, dtype="float64")
    x = np.ones((6, 5, 1))
    output, _, _ = layer.forward(x)
    ahead, back = output[..., :64], output[::-1, :, 64:]
    masks = [(y[1:] == y[:-1]).reshape(-1, 64) for y in (ahead, back)]
    rows = np.concatenate(masks)
    assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_state_files_and_copies_carry_the_options(cell: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"nonlinearity": ("leaky_relu", 0.2), "clip": 2.0}
    if cell == "lstm":
        options = EVERYTHING
    elif cell == "gru":
        options = {"reset_after": False, "recurrent_activation": "hard_sigmoid"}
    layer = make(cell, 3, 7, **options)
    x, state = draw(layer, 5, 2)
    wanted, _ = layer(x, state)
    fresh = type(layer)(**layer.config())
    fresh.load_state_dict(layer.state_dict())
    features = layer.output_size * (2 if layer.bidirectional else 1)
    model = fl.SequenceModel(layer, fl.Linear(features, 2))
    model.save(tmp_path / "model.safetensors")
    loaded = fl.load(tmp_path / "model.safetensors").recurrent
    for other in (
        fresh,
        loaded,
        pickle.loads(pickle.dumps(layer)),
        copy.deepcopy(layer),
    ):
        assert other.config() == layer.config()
        np.testing.assert_array_equal(other(x, state)[0], wanted)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_models_of_variants_learn(cell: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6, 1)).astype(np.float32)
    y = (x.sum(axis=(1, 2)) > 0).astype(np.int64)
    options: dict[str, Any] = {"reset_after": False}
    if cell == "lstm":
        options = {"peepholes": True, "proj_size": 5, "zoneout": 0.05}
    layer = getattr(fl, cell.upper())(1, 12, rng=0, **options)
    model = fl.SequenceModel(layer, fl.Linear(layer.output_size, 2, rng=0))
    model.fit(x, y, epochs=6, batch_size=20, optimizer=fl.Adam(0.02), rng=0)
    assert model.evaluate(x, y)["accuracy"] > 0.9


def test_plain_layers_are_described_as_before() -> None:
    assert set(fl.LSTM(2, 3).config()) == {
        *("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
        *("bidirectional", "dtype", "cell_activation", "output_activation"),
    }
    assert "reset_after" not in fl.GRU(2, 3).config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fl.LSTM(2, 4, proj_size=4), "proj_size must be from 0 to hidden_size"),
        (lambda: fl.LSTM(2, 4, proj_size=-1), "proj_size must be at least 0"),
        (lambda: fl.LSTM(2, 4, clip=0), "clip must be finite and > 0"),
        (lambda: fl.LSTM(2, 4, cell_clip=-1.0), "cell_clip must be finite and > 0"),
        (lambda: fl.LSTM(2, 4, zoneout=1.5), "zoneout must be"),
        (lambda: fl.LSTM(2, 4, zoneout=(0.1, 0.2, 0.3)), "a pair"),
        (
            lambda: fl.LSTM(2, 4, recurrent_activation="gelu"),
            "recurrent_activation must",
        ),
        (
            lambda: fl.LSTM(2, 4, cell_activation=("tanh", 1.0)),
            "takes 0 numbers, got 1",
        ),
        (lambda: fl.LSTM(2, 4, cell_activation=["tanh", "relu"]), "bidirectional=True"),
        (lambda: fl.GRU(2, 4, cell_activation="gelu"), "cell_activation must be one"),
        (lambda: fl.RNN(2, 4, nonlinearity="gelu"), "nonlinearity must be one of"),
    ],
)
def test_errors_name_the_option(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("wrong", [5, None, (), ([], 1.0)], ids=str)
def test_what_is_no_activation_is_named(wrong: Any) -> None:
    with pytest.raises(TypeError, match="cell_activation must be the name of an act"):
        fl.LSTM(2, 4, cell_activation=wrong)


def test_shapes_follow_the_projection() -> None:
    layer = fl.LSTM(3, 8, 2, proj_size=2, bidirectional=True, batch_first=True)
    output, (h_n, c_n) = layer(np.ones((4, 5, 3), np.float32))
    assert output.shape == (4, 5, 4)
    assert h_n.shape == (4, 4, 2)
    assert c_n.shape == (4, 4, 8)
    with pytest.raises(ValueError, match=r"h0 must have shape \(L\*D, N, proj_size\)"):
        layer(np.ones((4, 5, 3), np.float32), (c_n, c_n))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_empty_sequences_and_batches(cell: str) -> None:
    options = EVERYTHING if cell == "lstm" else {"reset_after": False}
    layer = make(cell, 3, 7, **options)
    for T, N in ((0, 2), (3, 0), (0, 0)):
        x, state = draw(layer, T, N)
        output, last, tape = layer.forward(x, state)
        for got, wanted in zip(parts(last), parts(state), strict=True):
            if T == 0:
                np.testing.assert_array_equal(got, wanted)
        d_x, _ = layer.backward(output, tape)
        assert d_x.shape == x.shape


@pytest.mark.parametrize(("cell", "options"), ALL_CELLS)
def test_nan_stays_in_its_row(isa: str, cell: str, options: dict[str, Any]) -> None:
    layer = make(cell, 3, 7, **options)
    x, state = draw(layer, 5, 6)
    clean, _ = layer(x, state)
    x[2, 3] = np.nan
    dirty, _ = layer(x, state)
    assert np.isnan(dirty[:, 3]).any()
    others = [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(dirty[:, others], clean[:, others])

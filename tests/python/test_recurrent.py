"""LSTM, GRU and RNN from Python: arguments, layouts, memory, bits."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.nn.module import Module

LAYERS = [fl.LSTM, fl.GRU, fl.RNN]


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def states(returned):
    return returned if isinstance(returned, tuple) else (returned,)


# Layouts


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (0, 3), (4, 3)])
def test_empty_and_unbatched_sequences(cls, shape):
    layer = cls(3, 5, 2, bidirectional=True, rng=0)
    output, state, tape = layer.forward(np.zeros(shape, np.float32))
    assert output.shape == (*shape[:-1], 10)
    expected = (4, shape[1], 5) if len(shape) == 3 else (4, 5)
    assert all(s.shape == expected for s in states(state))
    d_x, d_state = layer.backward(np.ones_like(output), tape)
    assert d_x.shape == shape
    assert all(s.shape == expected for s in states(d_state))
    if 0 in shape:
        assert all(not grad.any() for grad in layer.grads.values())


@pytest.mark.parametrize("cls", LAYERS)
def test_no_steps_pass_the_state_through(cls):
    layer = cls(3, 5, rng=0)
    h0 = normal(1, 2, 5)
    state = (h0, 2 * h0) if cls is fl.LSTM else h0
    _, after, tape = layer.forward(np.zeros((0, 2, 3), np.float32), state)
    _, d_state = layer.backward(None, tape, state)
    for given, out, d in zip(
        states(state), states(after), states(d_state), strict=True
    ):
        np.testing.assert_array_equal(given, out)
        np.testing.assert_array_equal(given, d)


def test_batch_first_and_strided_inputs_give_the_same_bits():
    x = normal(2, 7, 3)
    first = fl.LSTM(3, 5, batch_first=True, rng=0)
    second = fl.LSTM(3, 5, rng=0)
    expected = first(x)[0]
    for view in (x.transpose(1, 0, 2), np.asfortranarray(x.transpose(1, 0, 2))):
        np.testing.assert_array_equal(second(view)[0].transpose(1, 0, 2), expected)
    wide = np.zeros((2, 7, 6), np.float32)
    wide[:, :, ::2] = x
    np.testing.assert_array_equal(first(wide[:, :, ::2])[0], expected)
    np.testing.assert_array_equal(first(x[::-1])[0], expected[::-1])


@pytest.mark.parametrize("cls", LAYERS)
def test_backward_of_strided_arrays(cls):
    layer = cls(3, 5, rng=0, dtype=np.float64)
    x, d_output = normal(7, 2, 3, dtype=np.float64), normal(7, 2, 5, dtype=np.float64)
    _, _, tape = layer.forward(x)
    d_x, _ = layer.backward(d_output, tape)
    expected = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.zero_grad()
    _, _, tape = layer.forward(np.asfortranarray(x))
    strided, _ = layer.backward(np.asfortranarray(d_output), tape)
    np.testing.assert_array_equal(strided, d_x)
    for name, grad in layer.grads.items():
        np.testing.assert_array_equal(grad, expected[name])


def test_out_is_filled_and_returned():
    lstm = fl.LSTM(3, 5, rng=0)
    x, out = normal(4, 2, 3), np.empty((4, 2, 5), np.float32)
    output, _ = lstm(x, out=out)
    assert output is out
    np.testing.assert_array_equal(out, lstm(x)[0])


def test_need_d_x_false_leaves_it_out():
    lstm = fl.LSTM(3, 5, rng=0)
    output, _, tape = lstm.forward(normal(4, 2, 3))
    d_x, _ = lstm.backward(np.ones_like(output), tape, need_d_x=False)
    assert d_x is None
    assert lstm.grads["weight_ih_l0"].any()


@pytest.mark.parametrize("options", [{}, {"peepholes": True}])
@pytest.mark.parametrize("learned", [False, True])
def test_backward_overwrites_and_leaves_out_what_is_not_needed(options, learned):
    lstm = fl.LSTM(3, 5, learn_initial_state=learned, rng=0, **options)
    x = normal(4, 2, 3)
    output, _, tape = lstm.forward(x)
    d_output = normal(*output.shape)
    d_x, (d_h0, d_c0) = lstm.backward(d_output, tape)
    assert d_h0.any()
    assert d_c0.any()
    wanted = {name: grad.copy() for name, grad in lstm.grads.items()}

    _, _, tape = lstm.forward(x)
    again, d_state = lstm.backward(d_output, tape, need_d_state=False, accumulate=False)
    assert d_state == (None, None)
    np.testing.assert_array_equal(again, d_x)
    for name, grad in lstm.grads.items():
        np.testing.assert_array_equal(grad, wanted[name])
    for layer in (fl.GRU(3, 5, rng=0), fl.RNN(3, 5, rng=0)):
        _, _, tape = layer.forward(x)
        assert layer.backward(d_output, tape, need_d_state=False)[1] is None


# Wrong arguments


def f32(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(np.zeros((4, 2, 3))), TypeError, r"x.astype\(np.float32\)"),
        (lambda m: m([[1.0]]), TypeError, "x must be a numpy.ndarray"),
        (
            lambda m: m(f32(4, 2, 4)),
            ValueError,
            r"\(T, N, 3\) or \(T, 3\), got \(4, 2, 4",
        ),
        (lambda m: m(f32(3)), ValueError, r"got \(3,\)"),
        (lambda m: m(f32(4, 2, 3), f32(1, 2, 5)), TypeError, "must be a pair"),
        (lambda m: m(f32(4, 2, 3), (f32(1, 2, 5), None)), TypeError, "one None"),
        (
            lambda m: m(f32(4, 2, 3), (f32(1, 2, 5), f32(1, 2, 6))),
            ValueError,
            r"c0 must have shape \(L\*D, N, H\) = \(1, 2, 5\), got \(1, 2, 6\)",
        ),
        (
            lambda m: m(f32(4, 2, 3), out=f32(4, 2, 6)),
            ValueError,
            "out must have shape",
        ),
        (lambda m: m(f32(4, 2, 3), out=f32(5, 2, 4).T), ValueError, "out must"),
        (lambda m: m.backward(None, "tape"), TypeError, "tape must come from forward"),
        (
            lambda m: m.backward(f32(4, 2, 6), m.forward(f32(4, 2, 3))[2]),
            ValueError,
            "d_output must have shape",
        ),
        (
            lambda m: m.backward(np.zeros((4, 2, 5)), m.forward(f32(4, 2, 3))[2]),
            TypeError,
            r"d_output.astype\(np.float32\)",
        ),
        (
            lambda m: m.backward(
                None, fl.LSTM(3, 5, dtype=np.float64).forward(np.zeros((4, 2, 3)))[2]
            ),
            TypeError,
            "float32 layer",
        ),
    ],
)
def test_wrong_arrays_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(fl.LSTM(3, 5, rng=0))


def test_out_may_not_be_x():
    square = fl.LSTM(5, 5, rng=0)
    x = normal(4, 2, 5)
    with pytest.raises(ValueError, match="out must not share memory with x"):
        square(x, out=x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fl.LSTM(0, 4), ValueError, "input_size must be at least 1, got 0"),
        (lambda: fl.LSTM(2**63, 4), ValueError, "input_size must be at most 92"),
        (lambda: fl.LSTM(3, 4, rng="a"), TypeError, "rng must be None, an int"),
        (lambda: fl.LSTM(3, 4, rng=-1), ValueError, "rng must be None, an int >= 0"),
        (lambda: fl.LSTM(2.5, 4), TypeError, "input_size must be an int"),
        (lambda: fl.LSTM(3, 2**30), ValueError, "hidden_size must be"),
        (lambda: fl.LSTM(3, 4, dropout=2), ValueError, "dropout must be"),
        (lambda: fl.RNN(3, 4, recurrent_dropout=2), ValueError, "recurrent_dropout"),
        (lambda: fl.LSTM(3, 4, dropout=np.nan), ValueError, "dropout must be finite"),
        (lambda: fl.LSTM(3, 4, dtype=np.float16), TypeError, "float32 or float64"),
        (lambda: fl.LSTM(3, 4, cell_activation="gelu"), ValueError, "cell_activation"),
        (lambda: fl.LSTM(3, 4, init="zeros"), ValueError, "init must be"),
        (lambda: fl.LSTM(3, 4, init=np.inf), ValueError, "init must be finite"),
        (lambda: fl.LSTM(3, 4, forget_bias=np.nan), ValueError, "forget_bias must be"),
        (lambda: fl.LSTM(3, 4, forget_bias=1, bias=False), ValueError, "bias=True"),
        (lambda: fl.RNN(3, 4, nonlinearity="gelu"), ValueError, "nonlinearity"),
    ],
)
def test_wrong_configurations_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_replaced_parameters_are_checked_at_the_next_call():
    lstm = fl.LSTM(3, 5, rng=0)
    lstm.params["weight_hh_l0"] = np.zeros((20, 4), np.float32)
    with pytest.raises(ValueError, match=r"weight_hh_l0 must have shape \(4\*H, H\)"):
        lstm(f32(4, 2, 3))
    lstm.params["weight_hh_l0"] = np.zeros((20, 5))
    with pytest.raises(TypeError, match="weight_hh_l0 must be float32"):
        lstm(f32(4, 2, 3))


# Tapes


def test_a_tape_serves_once():
    lstm = fl.LSTM(3, 5, rng=0)
    output, _, tape = lstm.forward(normal(4, 2, 3))
    lstm.backward(np.ones_like(output), tape)
    with pytest.raises(RuntimeError, match="used by backward before"):
        lstm.backward(np.ones_like(output), tape)


@pytest.mark.parametrize("cls", LAYERS)
def test_any_change_of_a_parameter_is_noticed(cls):
    layer = cls(3, 5, 2, rng=0)
    for name, param in layer.params.items():
        _, _, tape = layer.forward(normal(4, 2, 3))
        before = param.flat[-1]
        param.flat[-1] = np.nextafter(before, np.float32(9))
        with pytest.raises(RuntimeError, match="params changed"):
            layer.backward(None, tape)
        param.flat[-1] = before
        layer.backward(None, tape)
        assert tape.used, name


def test_output_of_forward_is_read_only_and_kept_by_the_tape():
    lstm = fl.LSTM(3, 5, rng=0)
    output, _, tape = lstm.forward(normal(4, 2, 3))
    with pytest.raises(ValueError, match="read-only"):
        output[0] = 0
    expected = output.copy()
    del output
    junk = [lstm(normal(4, 2, 3, seed=i))[0] for i in range(20)]
    other = fl.LSTM(3, 5, rng=0)
    _, _, fresh = other.forward(normal(4, 2, 3))
    lstm.backward(expected, tape)
    other.backward(expected, fresh)
    assert len(junk) == 20
    for name, grad in lstm.grads.items():
        np.testing.assert_array_equal(grad, other.grads[name])


def test_changing_the_isa_between_forward_and_backward_is_an_error():
    if len(fl.cpu_info()["isas"]) < 2:
        pytest.skip("this CPU has only the scalar kernels")
    lstm = fl.LSTM(3, 5, rng=0)
    _, _, tape = lstm.forward(normal(4, 2, 3))
    fl.set_isa("scalar")
    try:
        with pytest.raises(RuntimeError, match="instruction set changed"):
            lstm.backward(None, tape)
    finally:
        fl.set_isa("auto")


# Bits


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("shape", [(12, 96, 24, 64), (9, 2, 40, 300), (60, 1, 5, 350)])
def test_bits_do_not_depend_on_threads(cls, shape, threads):
    steps, batch, inputs, hidden = shape
    layer = cls(inputs, hidden, 2, bidirectional=True, rng=0)
    x, d_output = normal(steps, batch, inputs), normal(steps, batch, 2 * hidden)

    def run():
        layer.zero_grad()
        output, state, tape = layer.forward(x)
        d_x, d_state = layer.backward(d_output, tape)
        grads = [grad.copy() for grad in layer.grads.values()]
        return [output.copy(), *states(state), d_x.copy(), *states(d_state), *grads]

    threads(1)
    expected = run()
    for count in (2, 3, 4, 8):
        threads(count)
        for got, want in zip(run(), expected, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("cls", LAYERS)
def test_inference_does_not_depend_on_batch_or_chunks(cls):
    layer = cls(7, 37, 2, rng=0)
    x = normal(11, 9, 7)
    output, state = layer(x)
    for n in range(9):
        alone, _ = layer(np.ascontiguousarray(x[:, n : n + 1]))
        np.testing.assert_array_equal(alone[:, 0], output[:, n])
    for size in (1, 3, 4):
        carried, parts = None, []
        for begin in range(0, 11, size):
            part, carried = layer(x[begin : begin + size], carried)
            parts.append(part)
        np.testing.assert_array_equal(np.concatenate(parts), output)
        for got, want in zip(states(carried), states(state), strict=True):
            np.testing.assert_array_equal(got, want)


def test_nan_stays_in_its_own_row():
    lstm = fl.LSTM(3, 20, rng=0)
    x = normal(6, 4, 3)
    expected, _ = lstm(x)
    x[2, 1, 0] = np.nan
    output, _ = lstm(x)
    assert np.isnan(output[2:, 1]).all()
    np.testing.assert_array_equal(output[:2], expected[:2])
    np.testing.assert_array_equal(output[:, [0, 2, 3]], expected[:, [0, 2, 3]])


def test_dropout_only_in_forward_and_by_seed():
    lstm = fl.LSTM(3, 20, 2, dropout=0.5, rng=0)
    x = normal(6, 4, 3)
    np.testing.assert_array_equal(lstm(x)[0], lstm(x)[0])
    lstm.reseed(7)
    one = lstm.forward(x)[0].copy()
    two = lstm.forward(x)[0].copy()
    lstm.reseed(7)
    again = lstm.forward(x)[0].copy()
    assert (one != two).any()
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("cls", LAYERS)
def test_recurrent_dropout_is_one_mask_a_sequence(cls):
    """Columns of W_hh whose units are dropped get no gradient, others are scaled."""
    x = normal(6, 1, 3)
    layer = cls(3, 20, recurrent_dropout=0.5, rng=0)
    plain = cls(3, 20, rng=0)
    np.testing.assert_array_equal(layer(x)[0], plain(x)[0])
    output, _, tape = layer.forward(x)
    layer.backward(np.ones_like(output), tape)
    kept = layer.grads["weight_hh_l0"].any(axis=0)
    assert 0 < kept.sum() < 20
    plain.params["weight_hh_l0"][...] *= 2 * kept
    np.testing.assert_allclose(plain(x)[0], output, rtol=1e-5, atol=1e-6)
    other, _, _ = layer.forward(x)
    assert (other != output).any()
    twins, _, _ = layer.forward(np.concatenate([x, x], axis=1))
    assert (twins[:, 0] != twins[:, 1]).any()
    assert layer.config()["recurrent_dropout"] == 0.5


@pytest.mark.parametrize("cls", LAYERS)
def test_recurrent_dropout_where_rows_go_back_in_groups(cls):
    """A ragged batch is not cut in groups: both ways must agree."""
    layer = cls(2, 3, 2, recurrent_dropout=0.4, bidirectional=True, dtype="f8", rng=0)
    x, d = normal(16, 60, 2, dtype="f8"), normal(16, 60, 6, dtype="f8")
    runs = []
    for lengths in (None, np.full(60, 16)):
        layer.reseed(5)
        layer.zero_grad()
        output, _, tape = layer.forward(x, lengths=lengths)
        d_x, _ = layer.backward(d, tape)
        grads = [grad.copy() for grad in layer.grads.values()]
        runs.append([output.copy(), d_x.copy(), *grads])
    for got, want in zip(*runs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


# Copies and threads of Python


def test_parameters_are_the_layers_own_on_whole_cache_lines():
    given = {"weight": normal(2, 600, 600)[1], "bias": normal(3)}
    layer = Module(given)
    for name, value in given.items():
        for array in (layer.params[name], layer.grads[name]):
            assert array.dtype == value.dtype
            assert array.flags.c_contiguous
            assert array.ctypes.data % 64 == 0
        np.testing.assert_array_equal(layer.params[name], value)
        assert not np.shares_memory(layer.params[name], value)
        assert not layer.grads[name].any()


@pytest.mark.parametrize("cls", LAYERS)
def test_pickle_and_deepcopy(cls):
    layer = cls(3, 5, 2, rng=0)
    x = normal(4, 2, 3)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        np.testing.assert_array_equal(other(x)[0], layer(x)[0])
        other.params["weight_ih_l0"][:] = 0
        assert layer.params["weight_ih_l0"].any()


def test_concurrent_inference_on_one_layer():
    lstm = fl.LSTM(8, 64, rng=0)
    inputs = [normal(40, 16, 8, seed=i) for i in range(6)]
    expected = [lstm(x)[0].copy() for x in inputs]
    wrong = []

    def work(i):
        for _ in range(10):
            if not np.array_equal(lstm(inputs[i])[0], expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_trim_frees_what_is_kept():
    lstm = fl.LSTM(8, 64, rng=0)
    first = lstm(normal(40, 16, 8))[0].copy()
    fl.trim()
    np.testing.assert_array_equal(lstm(normal(40, 16, 8))[0], first)


@pytest.mark.parametrize("cell", [fl.LSTM, fl.GRU, fl.RNN])
def test_inference_sees_every_change_of_a_parameter(cell):
    layer = cell(3, 20, 2, bidirectional=True, rng=0)
    x = normal(4, 2, 3)
    layer(x)
    for name, value in layer.params.items():
        value.flat[-1] += 1
        fresh = cell(3, 20, 2, bidirectional=True, rng=1)
        fresh.load_state_dict(layer.state_dict())
        np.testing.assert_array_equal(layer(x)[0], fresh(x)[0], err_msg=name)


# State dicts


def test_torch_biases_are_summed():
    gru = fl.GRU(3, 4, rng=0)
    state = gru.state_dict()
    assert set(state) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    state["bias_ih_l0"] = normal(12)
    state["bias_hh_l0"] = normal(12, seed=1)
    gru.load_state_dict(state)
    total = state["bias_ih_l0"] + state["bias_hh_l0"]
    np.testing.assert_array_equal(gru.params["bias_l0"][:8], total[:8])
    np.testing.assert_array_equal(gru.params["bias_l0"][8:], state["bias_ih_l0"][8:])
    np.testing.assert_array_equal(gru.params["bias_hn_l0"], state["bias_hh_l0"][8:])


def test_a_bad_state_dict_changes_nothing():
    lstm = fl.LSTM(3, 4, rng=0)
    before = {name: param.copy() for name, param in lstm.params.items()}
    state = fl.LSTM(3, 4, rng=1).state_dict()
    state["bias_hh_l0"] = state["bias_hh_l0"][:3]
    with pytest.raises(ValueError, match="bias_hh_l0"):
        lstm.load_state_dict(state)
    for name, param in lstm.params.items():
        np.testing.assert_array_equal(param, before[name])


@pytest.mark.parametrize("init", ["uniform", "orthogonal", 0.1])
def test_initial_weights(init):
    lstm = fl.LSTM(6, 16, init=init, forget_bias=1.5, dtype=np.float64, rng=0)
    weight = lstm.params["weight_hh_l0"]
    if init == "orthogonal":
        for block in np.split(weight, 4):
            np.testing.assert_allclose(block @ block.T, np.eye(16), atol=1e-12)
    else:
        bound = 0.25 if init == "uniform" else init
        assert 0.9 * bound < np.abs(weight).max() <= bound
    np.testing.assert_array_equal(lstm.params["bias_l0"][16:32], 1.5)

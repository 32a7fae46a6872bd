"""Models that the tests of the export write as headers, and what they must answer."""

from __future__ import annotations

import numpy as np

import fastlstm as fl
from fastlstm.training.network import Network


def _model(recurrent, outputs, task="regression", embedding=None, head_bias=True):
    head = fl.Linear(recurrent.hidden_size, outputs, bias=head_bias, rng=1)
    return fl.SequenceModel(recurrent, head, task=task, embedding=embedding)


def models():
    """Return models by name: every cell, option and kind of head, sizes with tails."""
    table = fl.Embedding(11, 6, rng=2)
    relu = fl.LSTM(2, 5, cell_activation="relu", output_activation="sigmoid", rng=0)
    linear = fl.LSTM(3, 8, cell_activation="linear", output_activation="linear", rng=0)
    begun = fl.LSTM(2, 9, 2, learn_initial_state=True, rng=0)
    begun_gru = fl.GRU(2, 7, learn_initial_state=True, rng=0)
    for layer in (begun, begun_gru):
        for name, value in layer.params.items():
            if name[:2] in ("h0", "c0"):
                value[:] = np.random.default_rng(3).normal(size=value.shape)
    return {
        "begun": _model(begun, 2),
        "begun_gru": _model(begun_gru, 1),
        "amp": _model(fl.LSTM(1, 16, rng=0), 1),
        "deep": _model(fl.LSTM(9, 13, 3, dropout=0.5, recurrent_dropout=0.5, rng=0), 3),
        "relu": _model(relu, 2),
        "linear": _model(linear, 1),
        "plain": _model(fl.LSTM(4, 3, bias=False, rng=0), 2, head_bias=False),
        "classes": _model(fl.LSTM(5, 12, batch_first=True, rng=0), 4, "classification"),
        "words": _model(fl.LSTM(6, 10, rng=0), 11, "classification", table),
        "gru": _model(fl.GRU(1, 24, rng=0), 1),
        "gru_deep": _model(fl.GRU(17, 9, 2, rng=0), 2),
        "gru_plain": _model(fl.GRU(2, 8, bias=False, rng=0), 1),
        "rnn": _model(fl.RNN(3, 11, 2, rng=0), 2),
        "rnn_relu": _model(fl.RNN(3, 7, nonlinearity="relu", rng=0), 2),
    }


def random_input(model, steps, seed=7, scale=2.0):
    """Return (T, I) numbers, or (T,) integers for a model with a table."""
    rng = np.random.default_rng(seed)
    if model.embedding is not None:
        count = model.embedding.num_embeddings
        return rng.integers(count, size=steps, dtype=np.int32)
    x = rng.normal(scale=scale, size=(steps, model.recurrent.input_size))
    return x.astype(np.float32)


def answers(model, x):
    """Return the head's output of the library at every step, (T, O)."""
    network = Network(model.recurrent, model.head, model.embedding, True)
    return network.infer(x[None])[0]

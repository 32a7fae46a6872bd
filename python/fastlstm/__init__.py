"""fastlstm: LSTM, GRU and RNN for the CPU."""

from fastlstm import datasets, export
from fastlstm.losses import MAE, MSE, CrossEntropy, Huber
from fastlstm.nn.embedding import Embedding
from fastlstm.nn.gru import GRU
from fastlstm.nn.linear import Linear
from fastlstm.nn.lstm import LSTM
from fastlstm.nn.recurrent import trim
from fastlstm.nn.rnn import RNN
from fastlstm.nn.stream import Stream
from fastlstm.optim import SGD, Adam, AdamW, RMSprop, clip_grad_norm
from fastlstm.runtime import (
    __version__,
    build_config,
    cpu_info,
    get_num_threads,
    machine_limits,
    set_isa,
    set_num_threads,
)
from fastlstm.schedules import Constant, Cosine, OneCycle
from fastlstm.serialization import ModelFileError
from fastlstm.training import History, SequenceModel, StopTraining, fit_many, load

__all__ = [
    "GRU",
    "LSTM",
    "MAE",
    "MSE",
    "RNN",
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "Embedding",
    "History",
    "Huber",
    "Linear",
    "ModelFileError",
    "OneCycle",
    "RMSprop",
    "SequenceModel",
    "StopTraining",
    "Stream",
    "__version__",
    "build_config",
    "clip_grad_norm",
    "cpu_info",
    "datasets",
    "export",
    "fit_many",
    "get_num_threads",
    "load",
    "machine_limits",
    "set_isa",
    "set_num_threads",
    "trim",
]

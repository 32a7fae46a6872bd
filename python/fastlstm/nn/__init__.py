"""Layers: recurrent ones, the dense head, the embedding."""

from fastlstm.nn.embedding import Embedding
from fastlstm.nn.gru import GRU
from fastlstm.nn.linear import Linear
from fastlstm.nn.lstm import LSTM
from fastlstm.nn.rnn import RNN

__all__ = ["GRU", "LSTM", "RNN", "Embedding", "Linear"]

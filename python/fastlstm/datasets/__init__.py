"""Data sets of the two tasks, as sequences in NumPy arrays; knows no layer."""

from fastlstm.datasets.digits import digits
from fastlstm.datasets.idx import read_idx
from fastlstm.datasets.mnist import mnist, mnist_available
from fastlstm.datasets.sine import noisy_sine

__all__ = ["digits", "mnist", "mnist_available", "noisy_sine", "read_idx"]

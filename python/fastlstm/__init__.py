"""fastlstm: LSTM, GRU and RNN for the CPU."""

from fastlstm.nn.recurrent import GRU, LSTM, RNN, trim
from fastlstm.runtime import (
    __version__,
    build_config,
    cpu_info,
    get_num_threads,
    set_isa,
    set_num_threads,
)

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "__version__",
    "build_config",
    "cpu_info",
    "get_num_threads",
    "set_isa",
    "set_num_threads",
    "trim",
]

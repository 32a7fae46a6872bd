"""Types of the extension module; see python/bindings."""

from typing import Any

version: str

def available_isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def cpu_name() -> str: ...
def available_cpus() -> int: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def build_config() -> dict[str, Any]: ...

class _Recurrent:
    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        bias: bool,
        cell_activation: str,
        output_activation: str,
        dropout: float,
    ) -> None: ...
    def forward(
        self,
        params: list[Any],
        x: Any,
        h0: Any,
        c0: Any,
        out: Any,
        batch_first: bool,
        keep: bool,
        seed: int,
    ) -> tuple[Any, Any, Any, Any]: ...
    def backward(
        self,
        params: list[Any],
        grads: list[Any],
        d_output: Any,
        tape: Any,
        d_h_n: Any,
        d_c_n: Any,
        need_d_x: bool,
    ) -> tuple[Any, Any, Any]: ...
    def trim(self) -> None: ...

class RecurrentFloat32(_Recurrent): ...
class RecurrentFloat64(_Recurrent): ...

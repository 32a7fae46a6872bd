"""Types of the extension module; see python/bindings."""

from typing import Any

version: str

def available_isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def cpu_name() -> str: ...
def cache_bytes(level: int) -> int: ...
def available_cpus() -> int: ...
def allow_oversubscription(allow: bool) -> None: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def zeros(shape: tuple[int, ...], dtype: Any) -> Any: ...
def constant(values: Any) -> Any: ...
def probe_flops(threads: int, seconds: float) -> float: ...
def probe_read(threads: int, bytes: int, seconds: float) -> float: ...
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
        recurrent_dropout: float,
        options: dict[str, Any],
    ) -> None: ...
    def forward(
        self,
        params: list[Any],
        x: Any,
        h0: Any,
        c0: Any,
        out: Any,
        lengths: Any,
        mask: Any,
        reset: Any,
        batch_first: bool,
        keep: bool,
        checkpoint_every: int,
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
        need_d_state: bool,
        accumulate: bool,
    ) -> tuple[Any, Any, Any]: ...
    def open(
        self,
        stream: Stream,
        params: list[Any],
        head: Any,
        h0: Any,
        c0: Any,
        batch_size: int,
        bfloat16: bool,
        threads: int,
    ) -> None: ...
    def refresh(
        self, stream: Stream, params: list[Any], head: Any, h0: Any, c0: Any
    ) -> None: ...
    def trim(self) -> None: ...

class RecurrentFloat32(_Recurrent): ...
class RecurrentFloat64(_Recurrent): ...

class Stream:
    def step(
        self, x: Any, /, *, out: Any = None, active: Any = None, reset: Any = None
    ) -> Any: ...
    def _process(self, x: Any, out: Any, /) -> Any: ...
    def _get_state(self) -> Any: ...
    def _set_state(self, h: Any, c: Any, /) -> None: ...
    def _reset_rows(self, rows: Any, /) -> None: ...

def round_to_bfloat16(values: Any) -> None: ...
def linear_forward(x: Any, weight: Any, bias: Any, out: Any) -> None: ...
def linear_backward(
    x: Any, weight: Any, d_out: Any, d_weight: Any, d_bias: Any, d_x: Any
) -> None: ...
def scatter_add(indices: Any, values: Any, table: Any) -> None: ...
def softmax(logits: Any, out: Any) -> None: ...
def find_bad_label(labels: Any, mask: Any, classes: int) -> int: ...
def cross_entropy(
    logits: Any, labels: Any, weight: Any, mask: Any, d_logits: Any
) -> float: ...
def regression_loss(
    penalty: str,
    delta: float,
    prediction: Any,
    target: Any,
    weight: Any,
    mask: Any,
    d_prediction: Any,
) -> float: ...

class Sgd:
    def __init__(
        self, *, momentum: float, weight_decay: float, nesterov: bool
    ) -> None: ...

class Adam:
    def __init__(
        self,
        *,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None: ...

class Rmsprop:
    def __init__(
        self, *, alpha: float, eps: float, momentum: float, weight_decay: float
    ) -> None: ...

def update(
    rule: Sgd | Adam | Rmsprop,
    params: list[Any],
    grads: list[Any],
    state: list[list[Any]],
    *,
    lr: float,
    number: float,
    grad_scale: float,
) -> None: ...
def gradient_norm(grads: list[Any]) -> float: ...

class _TrainingRun:
    def __init__(
        self,
        layer: Any,
        params: list[Any],
        grads: list[Any],
        state: list[list[Any]],
        *,
        head_bias: bool,
        return_sequences: bool,
        batch_first: bool,
    ) -> None: ...
    def set_goal(
        self, loss: str, delta: float, rule: Sgd | Adam | Rmsprop, clip_norm: float
    ) -> None: ...
    def set_data(self, x: Any, target: Any, weight: Any) -> None: ...
    def begin(
        self,
        batch_size: int,
        order: Any,
        lr: Any,
        dropout_seed: Any,
        updates_before: int,
    ) -> None: ...
    @property
    def finished(self) -> bool: ...
    @property
    def failed(self) -> bool: ...
    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def score(self) -> float: ...
    @property
    def norm(self) -> float: ...
    @property
    def last_norm(self) -> float: ...
    @property
    def seconds(self) -> dict[str, float]: ...

class TrainingRunFloat32(_TrainingRun): ...
class TrainingRunFloat64(_TrainingRun): ...

def train(runs: list[Any], seconds: float) -> None: ...

class _Trainer:
    def __init__(
        self,
        layer: Any,
        params: list[Any],
        weight: Any,
        bias: Any,
        *,
        classification: bool,
        rule: Sgd | Adam | Rmsprop,
        lr: float,
        tbptt: int,
        clip_norm: float,
    ) -> None: ...
    def learn_values(self, x: Any, y: Any) -> float: ...
    def learn_label(self, x: Any, label: int) -> float: ...
    def predict(self, x: Any) -> Any: ...
    def reset(self) -> None: ...
    def store(self, layer: Any, params: list[Any], weight: Any, bias: Any) -> None: ...

class TrainerFloat32(_Trainer): ...
class TrainerFloat64(_Trainer): ...

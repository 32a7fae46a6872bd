"""What may differ from the plain cells, checked and told to the core.

Equations: docs/math.md, "Variants". A layer that differs in any of it takes the core's
general path, which is slower than the fused kernels of the plain cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

from fastlstm._checks import check_real, check_size

Activation = str | tuple[str, float] | tuple[str, float, float]
"""A name, or a name and its alpha and beta: ("leaky_relu", 0.1)."""

Activations = Activation | Sequence[Activation]
"""One for both directions, or a list of two: forward, reverse."""

_PARAMETERS: dict[str, tuple[float, ...]] = {
    "tanh": (),
    "relu": (),
    "sigmoid": (),
    "linear": (),
    "affine": (1.0, 0.0),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
    "scaled_tanh": (1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0,),
    "softsign": (),
    "softplus": (),
}
"""Default alpha and beta, as ONNX has them; in the order of the core's codes."""

ACTIVATIONS = tuple(_PARAMETERS)
"""Names of activations, those of ONNX's recurrent operators; "linear" is identity."""

_FUSED = ("tanh", "relu", "sigmoid", "linear")
"""What the plain LSTM's and RNN's kernels have."""


@dataclass(frozen=True)
class Variant:
    """The options of a cell; the defaults are the plain one's."""

    recurrent_activation: Activations = "sigmoid"
    cell_activation: Activations = "tanh"
    output_activation: Activations = "tanh"
    reset_after: bool = True
    clip: float | None = None
    peepholes: bool = False
    coupled: bool = False
    cell_clip: float | None = None
    layer_norm: bool = False
    zoneout: float | Sequence[float] = 0.0
    proj_size: int = 0

    def config(self) -> dict[str, Any]:
        """Return as plain JSON values what differs from the plain cell."""
        plain = Variant()
        found: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = _as_json(getattr(self, name))
            if value != getattr(plain, name):
                found[name] = value
        return found

    def plain_activations(self, cell: str) -> tuple[str, str] | None:
        """Return the two activations that the plain kernels take, or None."""
        names = (self.cell_activation, self.output_activation)
        allowed = ("tanh",) if cell == "gru" else _FUSED
        if self.recurrent_activation != "sigmoid":
            return None
        if not all(isinstance(name, str) and name in allowed for name in names):
            return None
        return names  # type: ignore[return-value]

    @cached_property
    def draws(self) -> bool:
        """Whether training draws random numbers."""
        return self.zones() != (0.0, 0.0)

    def zones(self) -> tuple[float, float]:
        """Return zoneout's probabilities of h and of c."""
        if isinstance(self.zoneout, Real):
            return float(self.zoneout), float(self.zoneout)
        h, c = self.zoneout  # type: ignore[misc]
        return float(h), float(c)

    def core_options(self, cell: str, bidirectional: bool) -> dict[str, Any]:
        """Return what the core takes; an error that names the argument otherwise."""
        _check_zoneout(self.zoneout)
        zone_h, zone_c = self.zones()
        options: dict[str, Any] = {
            "reset_after": bool(self.reset_after),
            "clip": _check_bound("clip", self.clip),
            "peepholes": bool(self.peepholes),
            "coupled": bool(self.coupled),
            "cell_clip": _check_bound("cell_clip", self.cell_clip),
            "layer_norm": bool(self.layer_norm),
            "zoneout_h": zone_h,
            "zoneout_c": zone_c,
            "proj_size": check_size("proj_size", self.proj_size, minimum=0),
        }
        cell_name = "nonlinearity" if cell == "rnn" else "cell_activation"
        both = [
            _both_directions(name, value, bidirectional)
            for name, value in (
                ("recurrent_activation", self.recurrent_activation),
                (cell_name, self.cell_activation),
                ("output_activation", self.output_activation),
            )
        ]
        if self.plain_activations(cell) is None:
            options["activations"] = [[pair[d] for pair in both] for d in (0, 1)]
        return options


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_as_json(part) for part in value]
    return value


def _check_bound(name: str, value: float | None) -> float:
    return 0.0 if value is None else check_real(name, value, above=0)


def _check_zoneout(value: object) -> None:
    parts = value if isinstance(value, tuple | list) else (value,)
    if len(parts) not in (1, 2):
        raise ValueError(f"zoneout must be a number or a pair (h, c), got {value!r}")
    for part in parts:
        check_real("zoneout", part, low=0, high=1)


def _both_directions(
    name: str, value: Any, bidirectional: bool
) -> tuple[tuple[int, float, float], tuple[int, float, float]]:
    if (
        isinstance(value, tuple | list)
        and len(value) == 2
        and not isinstance(value[1], Real)
    ):
        if not bidirectional:
            raise ValueError(
                f"{name} has two activations, forward and reverse: "
                "that needs bidirectional=True"
            )
        return _code(name, value[0]), _code(name, value[1])
    one = _code(name, value)
    return one, one


def _code(name: str, value: Any) -> tuple[int, float, float]:
    """Return the core's code, alpha and beta of one activation."""
    parts = (value,) if isinstance(value, str) else value
    if not (isinstance(parts, tuple | list) and parts and isinstance(parts[0], str)):
        raise TypeError(
            f"{name} must be the name of an activation, or a tuple of the name, alpha "
            f"and beta, got {value!r}"
        )
    kind, *given = parts
    if kind not in _PARAMETERS:
        raise ValueError(
            f"{name} must be one of {', '.join(ACTIVATIONS)}, got {kind!r}"
        )
    defaults = _PARAMETERS[kind]
    if len(given) > len(defaults):
        raise ValueError(
            f"{name}: {kind} takes {len(defaults)} numbers, got {len(given)}"
        )
    numbers = [check_real(name, number) for number in given]
    numbers += defaults[len(numbers) :]
    alpha, beta = (*numbers, 0.0, 0.0)[:2]
    return ACTIVATIONS.index(kind), alpha, beta

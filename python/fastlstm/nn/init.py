"""Initial weights of recurrent layers."""

from __future__ import annotations

import math

import numpy as np

from fastlstm.nn.module import Array


def gate_weights(
    rng: np.random.Generator,
    init: str | float,
    name: str,
    shape: tuple[int, ...],
    hidden_size: int,
) -> Array:
    """Draw one parameter, float64.

    Parameters
    ----------
    rng : Generator
        Source of random numbers.
    init : float or {"uniform", "orthogonal"}
        Half-width of a uniform; or torch's, 1/sqrt(H); or orthogonal blocks of W_hh
        (Saxe, McClelland and Ganguli, 2013), Glorot's uniform for W_ih, zero biases.
    name : str
        ``weight_ih``, ``weight_hh``, ``bias``, ``bias_hn`` or one of a variant's; gains
        begin as ones, biases behind them as zeros.
    shape : tuple of int
        Its shape; rows are gates times H.
    hidden_size : int
        H.
    """
    if name.startswith("gain"):
        return np.ones(shape)
    if name == "bias_c":
        return np.zeros(shape)
    if isinstance(init, str):
        if init == "orthogonal":
            return _orthogonal(rng, name, shape, hidden_size)
        if init != "uniform":
            raise ValueError(
                f'init must be "uniform", "orthogonal" or a number, got "{init}"'
            )
        bound = 1 / math.sqrt(hidden_size)
    else:
        bound = float(init)
        if not (math.isfinite(bound) and bound >= 0):
            raise ValueError(f"init must be finite and at least 0, got {init}")
    return rng.uniform(-bound, bound, shape)


def _orthogonal(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], hidden_size: int
) -> Array:
    if name in ("weight_ih", "weight_hr"):
        bound = math.sqrt(6 / (shape[1] + min(shape[0], hidden_size)))
        return rng.uniform(-bound, bound, shape)
    if name != "weight_hh":
        return np.zeros(shape)
    blocks = []
    for _ in range(shape[0] // hidden_size):
        q, r = np.linalg.qr(rng.standard_normal((hidden_size, shape[1])))
        blocks.append(q * np.sign(np.diag(r)))
    return np.concatenate(blocks)

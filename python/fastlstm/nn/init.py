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
        ``weight_ih``, ``weight_hh``, ``bias`` or ``bias_hn``.
    shape : tuple of int
        Its shape; rows are gates times H.
    hidden_size : int
        H.
    """
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
    if name == "weight_ih":
        bound = math.sqrt(6 / (shape[1] + hidden_size))
        return rng.uniform(-bound, bound, shape)
    if name != "weight_hh":
        return np.zeros(shape)
    blocks = []
    for _ in range(shape[0] // hidden_size):
        q, r = np.linalg.qr(rng.standard_normal((hidden_size, hidden_size)))
        blocks.append(q * np.sign(np.diag(r)))
    return np.concatenate(blocks)

"""Noisy sine curves: predict the clean value one step on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastlstm._checks import check_real, check_size

# Phases are 0 to 99 radians: with an irrational period they spread over the circle.
_PHASES = 100

Float32 = npt.NDArray[np.float32]


def noisy_sine(
    n: int = 500,
    length: int = 30,
    span: float = 5.0,
    noise: float = 0.05,
    rng: int | np.random.Generator | None = 0,
) -> tuple[Float32, Float32]:
    """Draw sine curves with noise, and the clean curves one step on.

    Sample k of a sequence is ``sin(phase + k * span / length)`` plus noise; its target
    is ``sin(phase + (k + 1) * span / length)`` without noise. The phase of a sequence
    is a random integer from 0 to 99, in radians.

    Parameters
    ----------
    n : int
        Number of sequences, >= 1.
    length : int
        Samples in a sequence, >= 1.
    span : float
        Part of the curve a sequence covers, in radians, > 0.
    noise : float
        Half-width of the uniform noise, >= 0.
    rng : None, int or numpy.random.Generator
        Seed or source of the phases and the noise; None draws a new seed.

    Returns
    -------
    x, y : ndarray
        Shapes (n, length, 1), float32.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that is out of place.

    Examples
    --------
    >>> import fastlstm as fl
    >>> x, y = fl.datasets.noisy_sine(n=100, noise=0.0)
    >>> x.shape, y.shape, x.dtype
    ((100, 30, 1), (100, 30, 1), dtype('float32'))
    >>> bool((x[:, 1:] == y[:, :-1]).all())
    True
    """
    n = check_size("n", n)
    length = check_size("length", length)
    span = check_real("span", span, above=0)
    noise = check_real("noise", noise, low=0)
    generator = _generator(rng)
    phase = generator.integers(_PHASES, size=(n, 1))
    curve = np.sin(phase + np.arange(length + 1) * (span / length))
    x = curve[:, :-1] + noise * generator.uniform(-1.0, 1.0, (n, length))
    y = curve[:, 1:]
    return x[..., None].astype(np.float32), y[..., None].astype(np.float32)


def _generator(rng: int | np.random.Generator | None) -> np.random.Generator:
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    return np.random.default_rng(check_size("rng", rng, minimum=0))

"""The norm of all gradients together, and clipping by it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fastlstm import _core
from fastlstm._checks import check_real
from fastlstm.nn.module import Array

Grads = Mapping[str, Array] | Iterable[Mapping[str, Array]]
"""Gradients of one layer, as in ``layer.grads``, or of several."""


def grad_norm(grads: Grads) -> float:
    """Return the Euclidean norm of all gradients taken as one vector.

    Summed in double in an order that does not depend on threads.

    Parameters
    ----------
    grads : dict of str to array, or an iterable of such
        ``layer.grads``, or those of several layers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.optim import grad_norm
    >>> grad_norm({"weight": np.array([3.0, 4.0])})
    5.0
    """
    return _core.gradient_norm(_arrays(grads))


def clip_scale(norm: float, max_norm: float) -> float:
    """Return the factor that brings a gradient of this norm to `max_norm` at most.

    torch's ``max_norm / (norm + 1e-6)``, never above 1. Give it to ``step`` as
    `grad_scale`: the update then clips without a pass of its own.

    Examples
    --------
    >>> from fastlstm.optim import clip_scale
    >>> round(clip_scale(5.0, max_norm=1.0), 6)
    0.2
    """
    return min(1.0, max_norm / (norm + 1e-6))


def clip_grad_norm(grads: Grads, max_norm: float) -> float:
    """Scale gradients in place to a global norm of `max_norm` at most.

    Parameters
    ----------
    grads : dict of str to array, or an iterable of such
        ``layer.grads``, or those of several layers.
    max_norm : float
        Largest norm allowed, > 0.

    Returns
    -------
    float
        The norm before.

    Raises
    ------
    FloatingPointError
        If the norm is not finite; the gradients are left as they are.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> grads = {"weight": np.array([3.0, 4.0])}
    >>> fl.clip_grad_norm(grads, 1.0), grads["weight"].round(4)
    (5.0, array([0.6, 0.8]))
    """
    limit = check_real("max_norm", max_norm, above=0)
    arrays = _arrays(grads)
    norm = _core.gradient_norm(arrays)
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient norm is {norm}")
    scale = clip_scale(norm, limit)
    if scale < 1:
        for array in arrays:
            array *= scale
    return norm


def _arrays(grads: Grads) -> list[Array]:
    groups = [grads] if isinstance(grads, Mapping) else grads
    return [array for group in groups for array in group.values()]

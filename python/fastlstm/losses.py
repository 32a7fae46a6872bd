"""Losses: what a prediction costs, and its gradient.

Each is called with a prediction and a target and returns the mean over the real
steps with its derivative. Training loops call them; the arithmetic is in the core.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastlstm import _core
from fastlstm._checks import check_array, check_dtype, check_real
from fastlstm.nn.module import Array


class Loss:
    """What the losses share: shapes, weights and masks.

    Subclasses say how one block of rows is evaluated.
    """

    def __call__(
        self,
        prediction: Array,
        target: Array,
        sample_weight: Array | None = None,
        mask: Array | None = None,
        *,
        out: Array | None = None,
    ) -> tuple[float, Array]:
        """Return the loss and its derivative by the prediction.

        Parameters
        ----------
        prediction : array of shape (..., O)
            float32 or float64; every leading index is one step.
        target : array
            What was wanted, see the class.
        sample_weight : array of shape (N,) or (...), optional
            Factor of each sample or step, of the prediction's dtype, >= 0.
        mask : bool array of shape (...), optional
            True where the step is real. Others are never read, NaN included, and
            get a derivative of 0.
        out : array, optional
            C-contiguous, of the prediction's shape and dtype; the derivative is
            written here. It may be the prediction itself.

        Returns
        -------
        loss : float
            Sum of weighted losses over the number of real steps; 0 without any.
        d_prediction : array of shape (..., O)

        Raises
        ------
        ValueError
            If shapes do not fit, a weight is negative or not finite, or a label is
            out of range.
        TypeError
            If a dtype differs; nothing is converted silently.
        """
        _check_prediction(prediction)
        if out is None:
            out = np.empty(prediction.shape, prediction.dtype)
        elif not check_array(
            "out", out, prediction.dtype, prediction.shape
        ).flags.c_contiguous:
            raise ValueError("out must be C-contiguous")
        loss = self._run(prediction, target, sample_weight, mask, out)
        return loss, out

    def value(
        self,
        prediction: Array,
        target: Array,
        sample_weight: Array | None = None,
        mask: Array | None = None,
    ) -> float:
        """Return the loss alone; arguments and errors as in a call."""
        _check_prediction(prediction)
        return self._run(prediction, target, sample_weight, mask, None)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""
        return {}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.config().items())
        return f"{type(self).__name__}({arguments})"

    def _run(
        self,
        prediction: Array,
        target: Array,
        sample_weight: Array | None,
        mask: Array | None,
        out: Array | None,
    ) -> float:
        steps = prediction.shape[:-1]
        if mask is not None:
            mask = np.ascontiguousarray(check_array("mask", mask, bool, steps)).ravel()
        weight = row_weights(sample_weight, steps, prediction.dtype)
        return self._rows(prediction, target, weight, mask, out)

    def _rows(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        mask: Array | None,
        out: Array | None,
    ) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define _rows()")


class CrossEntropy(Loss):
    """Softmax cross-entropy of logits against integer labels.

    ``log(sum(exp(logits))) - logits[label]``, computed from differences to the
    largest logit so that nothing overflows.

    The target holds integer labels ``0..O-1``, of shape ``(...)`` for logits of
    shape ``(..., O)``; at steps that are not real any label is allowed.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> logits = np.zeros((1, 2), np.float32)
    >>> loss, d_logits = fl.CrossEntropy()(logits, np.array([1]))
    >>> round(loss, 4), d_logits
    (0.6931, array([[ 0.5, -0.5]], dtype=float32))
    """

    def _rows(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        mask: Array | None,
        out: Array | None,
    ) -> float:
        classes = prediction.shape[-1]
        labels = check_labels("target", target, prediction.shape[:-1], classes, mask)
        return _core.cross_entropy(
            _as_rows(prediction),
            labels.ravel(),
            weight,
            mask,
            None if out is None else _as_rows(out),
        )


class _Regression(Loss):
    """Mean of a penalty of the error over real steps and the values of each."""

    _penalty = ""
    _delta = 1.0

    def _rows(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        mask: Array | None,
        out: Array | None,
    ) -> float:
        check_array("target", target, prediction.dtype, prediction.shape)
        return _core.regression_loss(
            self._penalty,
            self._delta,
            _as_rows(prediction),
            _as_rows(target),
            weight,
            mask,
            None if out is None else _as_rows(out),
        )


class MSE(_Regression):
    """Mean squared error; the target has the prediction's shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> fl.MSE()(np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]]))
    (2.0, array([[2., 0.]]))
    """

    _penalty = "squared"


class MAE(_Regression):
    """Mean absolute error, with slope 0 at an error of 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> fl.MAE()(np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]]))
    (1.0, array([[0.5, 0. ]]))
    """

    _penalty = "absolute"


class Huber(_Regression):
    """Half the squared error up to `delta`, growing linearly beyond it.

    Parameters
    ----------
    delta : float
        Error from which the slope stays the same, > 0, in the target's unit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> fl.Huber(delta=1.0)(np.array([[3.0]]), np.array([[0.0]]))
    (2.5, array([[1.]]))
    """

    _penalty = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        self._delta = check_real("delta", delta, above=0)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""
        return {"delta": self._delta}


def softmax(logits: Array) -> Array:
    """Return the probabilities of the classes along the last axis.

    Parameters
    ----------
    logits : array of shape (..., O)
        float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.losses import softmax
    >>> softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """
    _check_prediction(logits)
    out = np.empty(logits.shape, logits.dtype)
    _core.softmax(_as_rows(logits), _as_rows(out))
    return out


def check_labels(
    name: str,
    labels: Array,
    shape: tuple[int, ...],
    classes: int,
    mask: Array | None = None,
) -> Array:
    """Return labels as contiguous int64, or raise ValueError naming the bad one.

    Parameters
    ----------
    name : str
        What the message calls them.
    labels : integer array of the given shape
    shape : tuple of int
    classes : int
        Labels must be in ``0..classes-1``.
    mask : bool array, flat, optional
        Labels are checked where it is true.
    """
    if not isinstance(labels, np.ndarray):
        kind = type(labels).__name__
        raise TypeError(f"{name} must be a NumPy array of integer labels, got {kind}")
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{name} must hold integer labels, got {labels.dtype}: "
            f"convert it with {name}.astype(np.int64)"
        )
    if labels.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {labels.shape}")
    result = np.ascontiguousarray(labels, np.int64)
    bad = _core.find_bad_label(result.ravel(), mask, classes)
    if bad >= 0:
        index = ", ".join(map(str, np.unravel_index(bad, shape)))
        raise ValueError(
            f"{name}[{index}] is {labels.ravel()[bad]}; "
            f"labels must be in 0..{classes - 1}"
        )
    return result


def _check_prediction(prediction: Array) -> None:
    if not isinstance(prediction, np.ndarray):
        kind = type(prediction).__name__
        raise TypeError(f"prediction must be a NumPy array, got {kind}")
    check_dtype(prediction.dtype)
    if prediction.ndim == 0 or prediction.shape[-1] == 0:
        raise ValueError(
            f"prediction must have shape (..., O), O >= 1, got {prediction.shape}"
        )


def _as_rows(array: Array) -> Array:
    columns = array.shape[-1]
    return np.ascontiguousarray(array).reshape(math.prod(array.shape[:-1]), columns)


def row_weights(
    sample_weight: Array | None, steps: tuple[int, ...], dtype: np.dtype[Any]
) -> Array | None:
    """Bring weights, one a sample or one a step, to one a row; check their values."""
    if sample_weight is None:
        return None
    per_step = np.ndim(sample_weight) == len(steps)
    shape = steps if per_step else steps[:1]
    weight = check_array("sample_weight", sample_weight, dtype, shape)
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("sample_weight must be finite and >= 0")
    if not per_step:
        weight = weight.reshape(steps[:1] + (1,) * (len(steps) - 1))
    return np.ascontiguousarray(np.broadcast_to(weight, steps)).ravel()

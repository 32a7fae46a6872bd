"""Dense layer on the last axis: the head of most models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm import _core
from fastlstm._checks import check_array, check_dtype, check_size
from fastlstm.nn.module import Array, Module, Seed, uniform_init


class Linear(Module):
    """``out = x @ weight.T + bias`` on the last axis.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis of input and output, >= 1.
    bias : bool
        Whether there is a bias.
    dtype : dtype
        float32 or float64.
    rng : None, int or numpy.random.Generator
        Source of the initial values: uniform in ``+-1/sqrt(in_features)``, as torch.

    Attributes
    ----------
    params : dict
        ``weight`` (out_features, in_features) and ``bias`` (out_features,).

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> head = fl.Linear(128, 10, rng=0)
    >>> head(np.zeros((32, 128), np.float32)).shape
    (32, 10)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
        rng: Seed = None,
    ) -> None:
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        self.bias = bool(bias)
        element = check_dtype(dtype)
        generator = np.random.default_rng(rng)
        bound = 1.0 / math.sqrt(self.in_features)
        weight_shape = (self.out_features, self.in_features)
        params = {"weight": uniform_init(generator, weight_shape, bound, element)}
        if self.bias:
            bias_shape = (self.out_features,)
            params["bias"] = uniform_init(generator, bias_shape, bound, element)
        super().__init__(params)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }

    def __call__(self, x: Array, *, out: Array | None = None) -> Array:
        """Return the layer's output.

        Parameters
        ----------
        x : array of shape (..., in_features)
            Of the layer's dtype.
        out : array of shape (..., out_features), optional
            C-contiguous; the result is written here.

        Returns
        -------
        array of shape (..., out_features)
            In the order in memory that the leading axes of `x` have.

        Raises
        ------
        ValueError
            If the last axis of `x` is not in_features, or `out` does not fit.
        TypeError
            If a dtype is not the layer's; nothing is converted silently.
        """
        check_array("x", x, self.dtype)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"x must have shape (..., in_features) = (..., {self.in_features}), "
                f"got {x.shape}"
            )
        shape = (*x.shape[:-1], self.out_features)
        order = _memory_order(x)
        if out is None:
            stored = np.empty([shape[axis] for axis in order], self.dtype)
            out = stored.transpose(np.argsort(order))
        else:
            check_array("out", out, self.dtype, shape)
            if not out.flags.c_contiguous:
                raise ValueError("out must be C-contiguous")
            order = list(range(x.ndim))
            stored = out
        _core.linear_forward(
            _rows(x, order),
            self.params["weight"],
            self.params.get("bias"),
            stored.reshape(-1, self.out_features),
        )
        return out

    def forward(self, x: Array, *, out: Array | None = None) -> tuple[Array, Array]:
        """Return the output and the tape that `backward` needs: `x`, not copied.

        Arguments and errors are those of a call.
        """
        return self(x, out=out), x

    def backward(
        self, d_output: Array, tape: Array, *, need_d_x: bool = True
    ) -> Array | None:
        """Add to `grads` and return the derivative by `x`.

        Parameters
        ----------
        d_output : array of shape (..., out_features)
            Derivative of the loss by the output.
        tape : array
            From `forward`.
        need_d_x : bool
            If false, None is returned and its work saved.

        Returns
        -------
        array of shape (..., in_features) or None
        """
        x = tape
        shape = (*x.shape[:-1], self.out_features)
        check_array("d_output", d_output, self.dtype, shape)
        order = _memory_order(x)
        d_x = np.empty([x.shape[axis] for axis in order], self.dtype)
        _core.linear_backward(
            _rows(x, order),
            self.params["weight"],
            _rows(d_output, order),
            self.grads["weight"],
            self.grads.get("bias"),
            d_x.reshape(-1, self.in_features) if need_d_x else None,
        )
        return d_x.transpose(np.argsort(order)) if need_d_x else None


def _memory_order(x: Array) -> list[int]:
    """Axes in the order of memory, the last one kept last.

    A recurrent layer may hand out (N, T, H) as a view of (T, N, H): rows are then
    taken as they lie, without a copy.
    """
    return [*sorted(range(x.ndim - 1), key=lambda i: -abs(x.strides[i])), x.ndim - 1]


def _rows(array: Array, order: list[int]) -> Array:
    ordered = np.ascontiguousarray(array.transpose(order))
    return ordered.reshape(math.prod(ordered.shape[:-1]), array.shape[-1])

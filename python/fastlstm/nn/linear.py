"""Dense layer on the last axis: the head of most models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm import _core
from fastlstm._checks import check_array, check_dtype, check_rng, check_size
from fastlstm._layout import as_rows, empty_in_order, memory_order
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
        generator = check_rng(rng)
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
            Without gaps, axes in memory as in `x`; the result is written here.

        Returns
        -------
        array of shape (..., out_features)
            Its axes lie in memory as those of `x`.

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
        order = memory_order(x)
        out = self._output("out", out, (*x.shape[:-1], self.out_features), order)
        _core.linear_forward(
            as_rows(x, order),
            self.params["weight"],
            self.params.get("bias"),
            as_rows(out, order),
        )
        return out

    def forward(self, x: Array, *, out: Array | None = None) -> tuple[Array, Array]:
        """Return the output and the tape that `backward` needs: `x`, not copied.

        Arguments and errors are those of a call.
        """
        return self(x, out=out), x

    def backward(
        self,
        d_output: Array,
        tape: Array,
        *,
        need_d_x: bool = True,
        out: Array | None = None,
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
        out : array of shape (..., in_features), optional
            Without gaps, axes in memory as in `x`; the derivative is written here.

        Returns
        -------
        array of shape (..., in_features) or None
        """
        x = tape
        order = memory_order(x)
        shape = (*x.shape[:-1], self.out_features)
        check_array("d_output", d_output, self.dtype, shape)
        d_x = self._output("out", out, x.shape, order) if need_d_x else None
        _core.linear_backward(
            as_rows(x, order),
            self.params["weight"],
            as_rows(d_output, order),
            self.grads["weight"],
            self.grads.get("bias"),
            None if d_x is None else as_rows(d_x, order),
        )
        return d_x

    def _output(
        self, name: str, out: Array | None, shape: tuple[int, ...], order: list[int]
    ) -> Array:
        if out is None:
            return empty_in_order(shape, order, self.dtype)
        check_array(name, out, self.dtype, shape)
        if not out.transpose(order).flags.c_contiguous:
            raise ValueError(f"{name} must lie in memory as x does, without gaps")
        return out

"""Table of vectors looked up by integer: the front of models on symbols."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastlstm import _core
from fastlstm._checks import check_array, check_dtype, check_rng, check_size
from fastlstm.nn.module import Array, Module, Seed


class Embedding(Module):
    """``out = weight[x]``: one row of a table for every index.

    Parameters
    ----------
    num_embeddings : int
        Rows of the table, >= 1; indices are ``0..num_embeddings-1``.
    embedding_dim : int
        Length of a row, >= 1.
    dtype : dtype
        float32 or float64.
    rng : None, int or numpy.random.Generator
        Source of the initial values: standard normal, as torch.

    Attributes
    ----------
    params : dict
        ``weight`` (num_embeddings, embedding_dim).

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> table = fl.Embedding(1000, 16, rng=0)
    >>> table(np.array([[3, 7, 3]])).shape
    (1, 3, 16)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: npt.DTypeLike = np.float32,
        rng: Seed = None,
    ) -> None:
        self.num_embeddings = check_size("num_embeddings", num_embeddings)
        self.embedding_dim = check_size("embedding_dim", embedding_dim)
        element = check_dtype(dtype)
        shape = (self.num_embeddings, self.embedding_dim)
        weight = check_rng(rng).standard_normal(shape).astype(element)
        super().__init__({"weight": weight})

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values."""
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "dtype": self.dtype.name,
        }

    def __call__(self, x: npt.NDArray[Any]) -> Array:
        """Return the rows of the indices.

        Parameters
        ----------
        x : integer array of shape (...)

        Returns
        -------
        array of shape (..., embedding_dim)

        Raises
        ------
        IndexError
            If an index is not in ``0..num_embeddings-1``; negative ones are not.
        TypeError
            If `x` does not hold integers.
        """
        return self.rows(x, self.params["weight"])

    def rows(self, x: npt.NDArray[Any], table: Array) -> Array:
        """Return the rows of another table of the same size; errors as of a call."""
        return table.take(self._check(x), axis=0)

    def forward(self, x: npt.NDArray[Any]) -> tuple[Array, npt.NDArray[np.int64]]:
        """Return the rows and the tape that `backward` needs: the indices.

        Arguments and errors are those of a call.
        """
        indices = self._check(x)
        return self.params["weight"].take(indices, axis=0), indices

    def backward(self, d_output: Array, tape: npt.NDArray[np.int64]) -> None:
        """Add to ``grads["weight"]``, indices in the order of memory.

        Parameters
        ----------
        d_output : array of shape (..., embedding_dim)
            Derivative of the loss by the output.
        tape : array
            From `forward`.
        """
        shape = (*tape.shape, self.embedding_dim)
        check_array("d_output", d_output, self.dtype, shape)
        rows = np.ascontiguousarray(d_output).reshape(tape.size, self.embedding_dim)
        _core.scatter_add(tape.ravel(), rows, self.grads["weight"])

    def _check(self, x: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "iu":
            got = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise TypeError(f"x must be an array of integers, got {got}")
        indices = np.ascontiguousarray(x, np.int64).reshape(x.shape)
        bad = _core.find_bad_label(indices.ravel(), None, self.num_embeddings)
        if bad >= 0:
            where = ", ".join(map(str, np.unravel_index(bad, x.shape)))
            raise IndexError(
                f"x[{where}] is {x.ravel()[bad]}; "
                f"indices must be in 0..{self.num_embeddings - 1}"
            )
        return indices

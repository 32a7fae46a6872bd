"""What every layer shares: named parameters, their gradients, saving and loading.

A layer derives from Module, hands its parameters to ``__init__`` and describes
its constructor's arguments in ``config``. The arithmetic is in the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from fastlstm import _core
from fastlstm._checks import check_array, check_rng

Array = npt.NDArray[Any]
"""Array of the layer's dtype, float32 or float64."""

# A string: numpy.random is imported when it is first used, and takes a while.
Seed: TypeAlias = "int | np.random.Generator | None"
"""Where random numbers come from: fresh entropy, a seed, or a generator."""


class Module:
    """Named parameters and their gradients.

    Parameters
    ----------
    params : mapping of str to array
        Initial values, all of one dtype, float32 or float64; they are copied.

    Attributes
    ----------
    params : dict of str to array
        Change them in place (``layer.params["bias"][:] = 0``).
    grads : dict of str to array
        Same names, shapes and dtype as `params`; ``backward`` adds to them.
    """

    _transient: ClassVar[frozenset[str]] = frozenset()
    """Attributes that pickling and copying drop; `_reset_transient` remakes them."""

    def __init__(self, params: Mapping[str, Array]) -> None:
        # Arrays of the core: on huge pages, large ones are read up to twice as fast.
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        for name, value in params.items():
            self.params[name] = _core.zeros(value.shape, value.dtype)
            self.params[name][...] = value
            self.grads[name] = _core.zeros(value.shape, value.dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of parameters, inputs and outputs."""
        return next(iter(self.params.values())).dtype

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain JSON values.

        ``type(layer)(**layer.config())`` makes a layer of the same architecture
        with new weights; dtype is given by name, rng is left out.
        """
        raise NotImplementedError(f"{type(self).__name__} must define config()")

    def zero_grad(self) -> None:
        """Set every gradient to zero, in place."""
        for grad in self.grads.values():
            grad.fill(0)

    def reseed(self, rng: Seed) -> None:
        """Set where random numbers drawn in training (dropout) come from."""
        self._rng = check_rng(rng)

    @property
    def frozen(self) -> bool:
        """Whether `freeze` has made the parameters constant."""
        return not any(value.flags.writeable for value in self.params.values())

    def freeze(self) -> None:
        """Make the parameters constant: read-only, in arrays that nobody else has.

        Inference need not look whether they have changed, which takes as long as a
        step or two of a large layer. There is no way back; training, `load_state_dict`
        and all else that would change them raises. A deep copy can be trained again.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm as fl
        >>> lstm = fl.LSTM(3, 8, rng=0)
        >>> lstm.freeze()
        >>> lstm.params["bias_l0"][:] = 0
        Traceback (most recent call last):
            ...
        ValueError: assignment destination is read-only
        """
        for name, value in self.params.items():
            self.params[name] = _core.constant(value)

    def check_not_frozen(self) -> None:
        """Raise ValueError where the parameters cannot be changed."""
        if self.frozen:
            raise ValueError(
                "the parameters are frozen; change a copy.deepcopy of the layer"
            )

    def state_dict(self) -> dict[str, Array]:
        """Return a copy of the parameters under the names torch gives them."""
        return {name: value.copy() for name, value in self._to_state().items()}

    def load_state_dict(self, d: Mapping[str, Array], strict: bool = True) -> None:
        """Copy values into the parameters: all of them or, on an error, none.

        Parameters
        ----------
        d : mapping of str to array
            Names and shapes as in `state_dict`, dtype that of the layer.
        strict : bool
            If false, missing names keep their value and unknown ones are ignored.

        Raises
        ------
        ValueError
            If a name is missing or unknown (strict), a shape differs, or the layer is
            frozen.
        TypeError
            If a dtype differs; nothing is converted silently.
        """
        self.check_not_frozen()
        expected = self._to_state()
        if strict:
            _check_names(expected, d)
        given = {
            name: check_array(name, np.asarray(d[name]), like.dtype, like.shape)
            for name, like in expected.items()
            if name in d
        }
        for name, value in self._from_state(given).items():
            self.params[name][...] = value

    def _to_state(self) -> dict[str, Array]:
        """Parameters under torch's names, not necessarily copies."""
        return dict(self.params)

    def _from_state(self, state: Mapping[str, Array]) -> Mapping[str, Array]:
        """Inverse of `_to_state`, for any subset of its names, already checked."""
        return state

    def _reset_transient(self) -> None:
        """Make the attributes named in `_transient` anew."""

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in self._transient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset_transient()

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.config().items())
        return f"{type(self).__name__}({arguments})"


def uniform_init(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    bound: float,
    dtype: np.dtype[Any],
) -> Array:
    """Draw uniformly from [-bound, bound), in float64 whatever the dtype."""
    return rng.uniform(-bound, bound, shape).astype(dtype)


def _check_names(expected: Mapping[str, Array], given: Mapping[str, Array]) -> None:
    missing = [name for name in expected if name not in given]
    unknown = [name for name in given if name not in expected]
    if missing:
        raise ValueError(f"state dict lacks {', '.join(missing)}")
    if unknown:
        raise ValueError(
            f"state dict has unknown {', '.join(unknown)}; "
            f"expected {', '.join(expected)}"
        )

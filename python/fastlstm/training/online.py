"""Learning where a model runs: one step of a sequence at a time, in the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastlstm import _core
from fastlstm._checks import check_array, check_real, check_size
from fastlstm.optim import Adam, Optimizer

if TYPE_CHECKING:
    from fastlstm.training.model import SequenceModel

Array = npt.NDArray[Any]


class Online:
    """A model's own copy of its weights that learns from every step; see `online`.

    Parameters
    ----------
    model : SequenceModel
        Of one direction, without embedding, learned initial state and zoneout.
    optimizer : Optimizer, optional
        Its rule and learning rate are taken, not its state; ``Adam(1e-3)`` unless
        given.
    tbptt : int
        Steps that an update looks back; the first ``tbptt - 1`` only fill that window.
    clip_norm : float or None
        Largest global norm of a gradient; None: no clipping.
    """

    def __init__(
        self,
        model: SequenceModel,
        *,
        optimizer: Optimizer | None = None,
        tbptt: int = 32,
        clip_norm: float | None = 1.0,
    ) -> None:
        optimizer = Adam(1e-3) if optimizer is None else optimizer
        if not isinstance(optimizer, Optimizer):
            got = type(optimizer).__name__
            raise TypeError(f"optimizer must be an Optimizer, got {got}")
        clip = (
            np.inf if clip_norm is None else check_real("clip_norm", clip_norm, above=0)
        )
        if model.embedding is not None or model.recurrent.learn_initial_state:
            raise ValueError(
                "a model that learns online must have no embedding and no learned "
                "initial state"
            )
        for module in (model.recurrent, model.head):
            module.check_not_frozen()
        self._model = model
        self._classifies = model.task == "classification"
        dtype = model.head.dtype
        core = _core.TrainerFloat32 if dtype == np.float32 else _core.TrainerFloat64
        self._trainer = core(
            *self._arrays(),
            classification=self._classifies,
            rule=optimizer.rule(),
            lr=optimizer.lr,
            tbptt=check_size("tbptt", tbptt),
            clip_norm=clip,
        )

    def learn(self, x: Array, y: Array | int) -> float:
        """Learn from one step of the sequence and move on.

        Parameters
        ----------
        x : array (I,)
            Of the model's dtype.
        y : array (O,), or int
            What the answer should have been: values, or a label.

        Returns
        -------
        float
            Loss of the answer to `x` before this update: mean squared error, or
            cross-entropy.
        """
        self._check("x", x, self._model.recurrent.input_size)
        if self._classifies:
            label = check_size("y", y, minimum=0)
            return float(self._trainer.learn_label(np.ascontiguousarray(x), label))
        self._check("y", y, self._model.head.out_features)
        return float(
            self._trainer.learn_values(np.ascontiguousarray(x), np.ascontiguousarray(y))
        )

    def predict(self, x: Array) -> Any:
        """Return the answer to `x` (I,), values (O,) or a label; nothing changes."""
        self._check("x", x, self._model.recurrent.input_size)
        answer: Array = self._trainer.predict(np.ascontiguousarray(x))
        return int(answer.argmax()) if self._classifies else answer

    def reset(self) -> None:
        """Begin a new sequence; what was learned stays."""
        self._trainer.reset()

    def store(self) -> None:
        """Copy what was learned into the model: to evaluate it, or to save it."""
        self._trainer.store(*self._arrays())

    def _arrays(self) -> tuple[Any, list[Array], Array, Array | None]:
        recurrent, head = self._model.recurrent, self._model.head.params
        params = list(recurrent.params.values())
        return recurrent._core, params, head["weight"], head.get("bias")

    def _check(self, name: str, value: object, size: int) -> None:
        if not isinstance(value, np.ndarray):
            kind = type(value).__name__
            raise TypeError(f"{name} must be a NumPy array, got {kind}")
        check_array(name, value, self._model.head.dtype, (size,))

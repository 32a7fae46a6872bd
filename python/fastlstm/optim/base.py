"""What every optimizer shares: its learning rate, its state and its layers.

The rules are in rules.py, the norm of the gradients in clipping.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm import _core
from fastlstm._checks import check_real
from fastlstm.nn.module import Array, Module


class Optimizer:
    """State of an optimizer and the parameters that it belongs to.

    An optimizer holds on to the layers of its first step; it follows one model.

    Attributes
    ----------
    lr : float
        Learning rate of steps that are not given one.
    steps : int
        Number of steps made.
    """

    def __init__(
        self, lr: float, weight_decay: float, *, slots: tuple[str, ...]
    ) -> None:
        self.lr = check_real("lr", lr, low=0)
        self.weight_decay = check_real("weight_decay", weight_decay, low=0)
        self.steps = 0
        self._slots = slots  # arrays kept for every parameter
        self._modules: tuple[Module, ...] | None = None
        self._state: dict[str, list[Array]] | None = None

    def step(
        self,
        modules: Module | Sequence[Module],
        *,
        lr: float | None = None,
        grad_scale: float = 1.0,
    ) -> None:
        """Update the parameters of one or several layers from their gradients.

        Parameters
        ----------
        modules : Module or sequence of Module
            The same layers at every step; gradients are left as they are.
        lr : float, optional
            Learning rate of this step, as a schedule gives it.
        grad_scale : float
            Factor of every gradient, as `clip_scale` gives it.

        Raises
        ------
        ValueError
            If the layers are not those of the first step or frozen, or a number is not
            finite.
        TypeError
            If the layers have more than one dtype.
        """
        rate = check_real("lr", self.lr if lr is None else lr, low=0)
        scale = check_real("grad_scale", grad_scale, low=0)
        layers = (modules,) if isinstance(modules, Module) else tuple(modules)
        params = [param for layer in layers for param in layer.params.values()]
        grads = [layer.grads[name] for layer in layers for name in layer.params]
        dtypes = sorted({str(array.dtype) for array in (*params, *grads)})
        if len(dtypes) > 1:
            raise TypeError(f"modules must have one dtype, got {', '.join(dtypes)}")
        state = self._bind(layers, params)
        self.steps += 1
        self._update(params, grads, state, rate, scale)

    def state_of(self, modules: Sequence[Module]) -> list[list[Array]]:
        """Return what is kept for every parameter of the layers, slot by slot.

        Binds the optimizer to the layers as `step` does, with its errors.
        """
        params = [param for layer in modules for param in layer.params.values()]
        return list(self._bind(tuple(modules), params).values())

    def reset(self) -> None:
        """Forget the state and the layers, as if no step had been made."""
        self.steps = 0
        self._modules = None
        self._state = None

    def _bind(
        self, layers: tuple[Module, ...], params: list[Array]
    ) -> dict[str, list[Array]]:
        for layer in layers:
            layer.check_not_frozen()
        if self._modules is None:
            self._modules = layers
        known = self._modules
        if len(known) != len(layers) or any(
            a is not b for a, b in zip(known, layers, strict=True)
        ):
            raise ValueError(
                f"this {type(self).__name__} holds the state of other layers: "
                "make a new one for each model, or call reset()"
            )
        if self._state is None:
            self._state = {
                slot: [np.zeros_like(param) for param in params] for slot in self._slots
            }
        return self._state

    def _update(
        self,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        lr: float,
        scale: float,
    ) -> None:
        _core.update(
            self.rule(),
            params,
            grads,
            list(state.values()),
            lr=lr,
            number=self.steps,
            grad_scale=scale,
        )

    def rule(self) -> Any:
        """Return the core's rule, whose first and second are the slots in order."""
        raise NotImplementedError(f"{type(self).__name__} must define rule()")

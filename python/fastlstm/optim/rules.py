"""The optimizers. Equations and defaults are those of torch.optim.

The update itself is the core's; here are the settings and their checks.
"""

from __future__ import annotations

from fastlstm import _core
from fastlstm._checks import check_real
from fastlstm.optim.base import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum where wanted.

    Parameters
    ----------
    lr : float
        Learning rate, >= 0.
    momentum : float
        Part of the velocity that a step keeps, in [0, 1).
    nesterov : bool
        Look ahead along the velocity; needs momentum.
    weight_decay : float
        Added to the gradient as ``weight_decay * param``, >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> from fastlstm.nn.module import Module
    >>> layer = Module({"weight": np.array([1.0])})
    >>> layer.grads["weight"][:] = 0.5
    >>> fl.SGD(0.1).step(layer)
    >>> layer.params["weight"]
    array([0.95])
    """

    def __init__(
        self,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = check_real("momentum", momentum, low=0, below=1)
        self.nesterov = bool(nesterov)
        if nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum > 0, got 0")
        super().__init__(
            lr, weight_decay, slots=("velocity",) if self.momentum > 0 else ()
        )

    def rule(self) -> _core.Sgd:
        """Return the settings as the core takes them."""
        return _core.Sgd(
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )


class Adam(Optimizer):
    """Adam, after D. P. Kingma and J. Ba (2014).

    Parameters
    ----------
    lr : float
        Learning rate, >= 0.
    betas : (float, float)
        Decay of the running means of gradient and squared gradient, in [0, 1).
    eps : float
        Added to the root of the squared gradient's mean, > 0.
    weight_decay : float
        Added to the gradient as ``weight_decay * param``, >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> from fastlstm.nn.module import Module
    >>> layer = Module({"weight": np.array([1.0])})
    >>> layer.grads["weight"][:] = 0.5
    >>> fl.Adam(1e-3).step(layer)
    >>> layer.params["weight"].round(4)
    array([0.999])
    """

    _decoupled = False

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay, slots=("mean", "square"))
        if len(betas) != 2:
            raise ValueError(f"betas must be two numbers, got {betas!r}")
        self.betas = (
            check_real("betas[0]", betas[0], low=0, below=1),
            check_real("betas[1]", betas[1], low=0, below=1),
        )
        self.eps = check_real("eps", eps, above=0)

    def rule(self) -> _core.Adam:
        """Return the settings as the core takes them."""
        return _core.Adam(
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            weight_decay=self.weight_decay,
            decoupled=self._decoupled,
        )


class AdamW(Adam):
    """Adam with weight decay beside the gradient, after I. Loshchilov and F. Hutter.

    Parameters are those of `Adam`; ``param`` shrinks by ``lr * weight_decay * param``
    at every step, and `weight_decay` is 0.01 unless given.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> from fastlstm.nn.module import Module
    >>> layer = Module({"weight": np.array([1.0])})
    >>> fl.AdamW(0.1, weight_decay=0.5).step(layer)
    >>> layer.params["weight"]
    array([0.95])
    """

    _decoupled = True

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(lr, betas=betas, eps=eps, weight_decay=weight_decay)


class RMSprop(Optimizer):
    """RMSprop, after G. Hinton's lecture: step over the root of the mean square.

    Parameters
    ----------
    lr : float
        Learning rate, >= 0.
    alpha : float
        Decay of the running mean of the squared gradient, in [0, 1).
    eps : float
        Added to the root, > 0.
    momentum : float
        Part of the velocity that a step keeps, in [0, 1).
    weight_decay : float
        Added to the gradient as ``weight_decay * param``, >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm as fl
    >>> from fastlstm.nn.module import Module
    >>> layer = Module({"weight": np.array([1.0])})
    >>> layer.grads["weight"][:] = 0.5
    >>> fl.RMSprop(0.01).step(layer)
    >>> layer.params["weight"].round(4)
    array([0.9])
    """

    def __init__(
        self,
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        self.alpha = check_real("alpha", alpha, low=0, below=1)
        self.eps = check_real("eps", eps, above=0)
        self.momentum = check_real("momentum", momentum, low=0, below=1)
        slots = ("square", "velocity") if self.momentum > 0 else ("square",)
        super().__init__(lr, weight_decay, slots=slots)

    def rule(self) -> _core.Rmsprop:
        """Return the settings as the core takes them."""
        return _core.Rmsprop(
            alpha=self.alpha,
            eps=self.eps,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )

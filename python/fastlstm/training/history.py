"""What a training run leaves behind, and how a callback ends it."""

from __future__ import annotations

from collections.abc import Callable

Logs = dict[str, float]
"""Values of one epoch by name."""

Callback = Callable[[int, Logs], object]
"""``callback(epoch, logs)`` after every epoch, counted from 0; True ends the run."""


class StopTraining(Exception):  # noqa: N818  (a signal, as StopIteration is)
    """Raised by a callback to end training after the epoch; fit returns normally."""


class History:
    """Values of every epoch.

    Attributes
    ----------
    history : dict of str to list of float
        One entry an epoch. ``loss`` and ``accuracy`` or ``rmse``: means over the
        epoch's steps while it trained; ``val_loss`` and so on: after the epoch, on the
        validation data; ``lr``: of the last update; ``grad_norm``: mean norm of the
        gradient before clipping; ``seconds``: time of training, without validation.
    profile : dict of str to float
        Seconds of the whole run spent gathering samples, in ``forward``, ``head``,
        ``loss``, ``backward`` and ``optimizer``; empty where a part of the model is not
        the package's own and steps are run one by one.

    Examples
    --------
    >>> history = History()
    >>> history.append({"loss": 0.5})
    >>> history.history
    {'loss': [0.5]}
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.profile: dict[str, float] = {}

    def append(self, logs: Logs) -> None:
        """Add the values of one epoch."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def add_profile(self, seconds: Logs) -> None:
        """Add the seconds that an epoch spent in each phase."""
        for name, value in seconds.items():
            self.profile[name] = self.profile.get(name, 0.0) + value

    def __repr__(self) -> str:
        epochs = max(map(len, self.history.values()), default=0)
        return f"History(epochs={epochs}, values={list(self.history)})"

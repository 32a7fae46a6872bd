"""Learning-rate schedules: ``schedule(step, total_steps)`` returns the rate of a step.

Steps count optimizer updates from 0. Any callable of this form is a schedule; fit
calls it before every update with the number of updates it is going to make.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fastlstm._checks import check_real, check_size

Schedule = Callable[[int, int | None], float]
"""``schedule(step, total_steps) -> lr``; the total is None where it is unknown."""


class Constant:
    """The same rate at every step.

    Parameters
    ----------
    lr : float
        Learning rate, >= 0.

    Examples
    --------
    >>> import fastlstm as fl
    >>> fl.Constant(0.1)(7, 100)
    0.1
    """

    def __init__(self, lr: float) -> None:
        self.lr = check_real("lr", lr, low=0)

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """Return the rate of a step."""
        return self.lr


class Cosine:
    """Half a cosine wave from `lr` down to `final_lr`, after a linear warm-up.

    Parameters
    ----------
    lr : float
        Largest rate, reached at the end of the warm-up, >= 0.
    final_lr : float
        Rate of the last step, >= 0.
    warmup_steps : int
        Steps over which the rate grows linearly; the first has ``lr/warmup_steps``.
    total_steps : int, optional
        Length of the schedule; None takes what the caller passes.

    Examples
    --------
    >>> import fastlstm as fl
    >>> schedule = fl.Cosine(1.0)
    >>> [round(schedule(step, 5), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(
        self,
        lr: float,
        *,
        final_lr: float = 0.0,
        warmup_steps: int = 0,
        total_steps: int | None = None,
    ) -> None:
        self.lr = check_real("lr", lr, low=0)
        self.final_lr = check_real("final_lr", final_lr, low=0)
        self.warmup_steps = check_size("warmup_steps", warmup_steps, minimum=0)
        self.total_steps = _check_total(total_steps)

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """Return the rate of a step; ValueError if the total is unknown."""
        last = _total("Cosine", self.total_steps, total_steps) - 1
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        return _anneal(self.lr, self.final_lr, step, self.warmup_steps, last)


class OneCycle:
    """One cycle: up to `max_lr` and down again, each half a cosine wave.

    The rate starts at ``max_lr / div_factor``, peaks after `pct_start` of the steps
    and ends at ``max_lr / div_factor / final_div_factor``. Formula and defaults are
    those of ``torch.optim.lr_scheduler.OneCycleLR``, momentum left alone; after
    L. N. Smith and N. Topin, "Super-Convergence" (2018).

    Parameters
    ----------
    max_lr : float
        Peak rate, > 0.
    total_steps : int, optional
        Length of the cycle; None takes what the caller passes.
    pct_start : float
        Part of the cycle spent rising, between 0 and 1.
    div_factor, final_div_factor : float
        How far below the peak the cycle starts, and ends below its start; > 0.

    Examples
    --------
    >>> import fastlstm as fl
    >>> schedule = fl.OneCycle(0.1)
    >>> [round(schedule(step, 10), 4) for step in (0, 2, 6, 9)]
    [0.004, 0.1, 0.0389, 0.0]
    """

    def __init__(
        self,
        max_lr: float,
        total_steps: int | None = None,
        *,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.max_lr = check_real("max_lr", max_lr, above=0)
        self.total_steps = _check_total(total_steps)
        self.pct_start = check_real("pct_start", pct_start, low=0, high=1)
        self.div_factor = check_real("div_factor", div_factor, above=0)
        self.final_div_factor = check_real(
            "final_div_factor", final_div_factor, above=0
        )

    def __call__(self, step: int, total_steps: int | None = None) -> float:
        """Return the rate of a step; ValueError if the total is unknown."""
        total = _total("OneCycle", self.total_steps, total_steps)
        peak = self.pct_start * total - 1
        initial_lr = self.max_lr / self.div_factor
        if step <= peak:
            return _anneal(initial_lr, self.max_lr, step, 0, peak)
        final_lr = initial_lr / self.final_div_factor
        return _anneal(self.max_lr, final_lr, step, peak, total - 1)


def _anneal(start: float, end: float, step: float, first: float, last: float) -> float:
    """Half a cosine wave from start at step `first` to end at step `last`."""
    part = 1.0 if last <= first else min(max((step - first) / (last - first), 0.0), 1.0)
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


def _check_total(total_steps: int | None) -> int | None:
    return None if total_steps is None else check_size("total_steps", total_steps)


def _total(schedule: str, own: int | None, passed: int | None) -> int:
    total = passed if own is None else own
    if total is None:
        raise ValueError(
            f"{schedule} needs total_steps: the number of batches is not known"
        )
    return check_size("total_steps", total)

"""Progress bars where tqdm is installed and wanted, nothing otherwise."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fastlstm._extras import require


class _Silent:
    """Stands in for a bar."""

    def step(self, count: int = 1, loss: float | None = None) -> None:
        pass


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def step(self, count: int = 1, loss: float | None = None) -> None:
        if loss is not None:
            self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        self._bar.update(count)


def progress_bar(
    wanted: bool, title: str, total: int | None
) -> AbstractContextManager[_Bar | _Silent]:
    """Return a bar on standard error, or a silent stand-in.

    Parameters
    ----------
    wanted : bool
        False, or tqdm missing: the stand-in.
    title : str
        What stands before the bar.
    total : int or None
        Steps expected, if known.
    """
    if not wanted:
        return nullcontext(_Silent())
    try:
        tqdm = require("tqdm", extra="demo", what="a progress bar")
    except ImportError:
        return nullcontext(_Silent())
    return _Bar(tqdm.tqdm(total=total, desc=title, leave=True))

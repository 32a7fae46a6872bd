"""Optional packages: import them where they are used, name the extra when missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, *, extra: str, what: str) -> ModuleType:
    """Import an optional module or say which extra installs it.

    Parameters
    ----------
    module : str
        Name to import, e.g. ``"matplotlib.pyplot"``.
    extra : str
        Extra of this package that brings it, e.g. ``"demo"``.
    what : str
        What the caller needs it for; opens the message.

    Raises
    ------
    ImportError
        If the module is not installed.

    Examples
    --------
    >>> require("json", extra="demo", what="this example").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f'{what} needs {package}: pip install "fastlstm[{extra}]"'
        ) from error

"""Finds the hostile files of $FASTLSTM_CONFORMANCE_DIR; measures what reading costs."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MAX_EXTRA_BYTES = 64 << 20
# Of processor time. No measurement: the largest header takes 0.2 s, or a second beside
# other programs, and work that grows with the square of a file takes minutes.
MAX_SECONDS = 20.0


def hostile_files(kind: str) -> list[Any]:
    """Return (path, expect) of each file in hostile/<kind>, as pytest parameters."""
    folder = os.environ.get("FASTLSTM_CONFORMANCE_DIR")
    if not folder:
        reason = "FASTLSTM_CONFORMANCE_DIR is not set"
        return [pytest.param(None, None, marks=pytest.mark.skip(reason=reason))]
    root = Path(folder) / "hostile" / kind
    cases = json.loads((root / "manifest.json").read_text())
    return [
        pytest.param(root / case["file"], case["expect"], id=case["file"])
        for case in cases
    ]


def check_rejected(read: Callable[[Path], object], path: Path) -> str:
    """Return the message of a ValueError that is cheap, on one line and names path."""
    start = time.process_time()
    with pytest.raises(ValueError, match=r".") as caught:
        read(path)
    assert time.process_time() - start < MAX_SECONDS
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_EXTRA_BYTES
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    return message

"""The user's line, however deep in the package we are."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType

_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep


def _outside() -> tuple[FrameType, int]:
    """The innermost frame that is not of this package, and how far up it is from here."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame, level = frame.f_back, level + 1
    return frame, level


def caller() -> str:
    """``FILE:LINE`` of the user's line."""
    frame, _ = _outside()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def warn(text: str, category: type[Warning]) -> None:
    """A warning about the user's line."""
    warnings.warn(text, category, stacklevel=_outside()[1])

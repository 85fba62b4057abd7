"""The place of an error: where in a plugin, or in what it is built on, an import fails."""

from __future__ import annotations

import importlib
import traceback

from argus_core.errors import BrokenPluginError
from argus_core.registry import component as components

__all__ = ["failure", "raised_at"]

_MACHINERY = (importlib.__file__, components.__file__)


def failure(broken: BrokenPluginError) -> tuple[str, str]:
    """Return what is wrong with a plugin, with the place where its import failed, and the next action."""
    problem, _, fix = str(broken).rpartition("; ")
    place = raised_at(broken.__cause__)
    return f"{problem} ({place})" if place else problem, fix


def raised_at(error: BaseException | None) -> str:
    """Return file and line of what an import raised, the deepest past the machinery of imports, or ``""``."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    places = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__ if error else None)
        if frame.filename not in _MACHINERY and not frame.filename.startswith("<frozen")
    ]
    return places[-1] if places else ""

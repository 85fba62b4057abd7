"""Places in a plugin's source: where its import fails, and where a class or function is written."""

from __future__ import annotations

import importlib
import inspect
import traceback
from typing import Any

from argus_core.errors import BrokenPluginError
from argus_core.registry import component as components

__all__ = ["failure", "raised_at", "written_at"]

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


def written_at(factory: Any) -> str | None:
    """Return file and line of a class or function, if it is in Python."""
    seen: list[object] = []
    while factory not in seen:  # inspect.unwrap leaves classes as they are from Python 3.13 on
        seen.append(factory)
        factory = getattr(factory, "__dict__", {}).get("__wrapped__", factory)
    try:
        return f"{inspect.getsourcefile(factory)}:{inspect.getsourcelines(factory)[1]}"
    except (TypeError, OSError):
        return None

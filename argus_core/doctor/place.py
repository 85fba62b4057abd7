"""Places in a plugin's source: of a failed import, and of the definition of a class or function."""

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
    """Return the problem of a plugin, with the place where its import failed, and the next action."""
    problem, _, fix = str(broken).rpartition("; ")
    place = raised_at(broken.__cause__)
    return f"{problem} ({place})" if place else problem, fix


def raised_at(error: BaseException | None) -> str:
    """Return the file and line where an import raised, outside the import machinery, or ``""``."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    places = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__ if error else None)
        if frame.filename not in _MACHINERY and not frame.filename.startswith("<frozen")
    ]
    return places[-1] if places else ""


def written_at(factory: Any) -> str | None:
    """Return the file and line of a class or function that is written in Python, otherwise None."""
    seen: list[object] = []
    while factory not in seen:  # from Python 3.13 on, inspect.unwrap does not unwrap classes
        seen.append(factory)
        factory = getattr(factory, "__dict__", {}).get("__wrapped__", factory)
    try:
        return f"{inspect.getsourcefile(factory)}:{inspect.getsourcelines(factory)[1]}"
    except (TypeError, OSError):
        return None

"""The place of an error: where in a plugin, or in what it is built on, an import fails."""

from __future__ import annotations

import functools
import importlib
import traceback

from argus_core.registry import component as components

__all__ = ["raised_at"]

_MACHINERY = (importlib.__file__, components.__file__, functools.__file__)


def raised_at(error: BaseException, importer: str = "") -> str:
    """Return file and line of what an import raised, the deepest past the machinery of imports, or ``""``.

    Args:
        error: with its traceback.
        importer: the file that asked for the import.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    places = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (*_MACHINERY, importer) and not frame.filename.startswith("<frozen")
    ]
    return places[-1] if places else ""

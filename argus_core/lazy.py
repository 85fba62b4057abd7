"""Names that a module imports on first use: those that the stub (``.pyi``) beside it imports.

The stub is the only list of the names, for type checkers as at run time.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(module: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a module that has a stub.

    Each line of the stub has the form ``from package.module import name as name``.
    """
    importing: Any = sys.modules[module]
    stub = importing.__spec__.loader.get_data(os.path.splitext(importing.__file__)[0] + ".pyi")
    lines = (line.split() for line in stub.decode().splitlines() if line.startswith("from "))
    origins = {name: origin for _, origin, _, name, *_ in lines}

    def get(name: str) -> Any:
        if name not in origins:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(origins[name]), name)
        setattr(importing, name, value)  # found without this function from now on
        return value

    names = sorted(origins)
    return get, lambda: names, names

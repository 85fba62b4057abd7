"""The module of the project's own parts that is being imported, and so registers names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["registering", "registering_module"]

_modules: list[str] = []


@contextmanager
def registering(module: str) -> Iterator[None]:
    """Note in the components that the block registers that this module of the project's own parts did it."""
    _modules.append(module)
    try:
        yield
    finally:
        _modules.pop()


def registering_module() -> str | None:
    """Return the module of the innermost `registering`, or None."""
    return _modules[-1] if _modules else None

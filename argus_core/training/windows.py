"""The windows of loader batches that make one update each."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from argus_core.errors import BuildError, ParamsError
from argus_core.steps.output import Window

__all__ = ["check_loader", "check_window_size", "windows_of"]


def windows_of(batches: Iterator[Any], size: int, most: int | None) -> Iterator[Any]:
    """Return batches in at most so many windows of ``size``; the last one may be smaller."""
    windows = batches if size == 1 else _grouped(batches, size)
    return windows if most is None else islice(windows, most)


def _grouped(batches: Iterator[Any], size: int) -> Iterator[Window]:
    while window := Window(islice(batches, size)):
        yield window


def check_window_size(size: Any) -> None:
    """Raise for what is not a number of loader batches."""
    if type(size) is not int or not 1 <= size <= sys.maxsize:
        raise BuildError(
            f"window_size is {size!r}; it must be an integer from 1 to {sys.maxsize} (loader batches per "
            "update)"
        )


def check_loader(loader: Any, phase: str) -> None:
    """Raise for a loader that is not iterable; calling `iter` could start its workers."""
    if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
        raise ParamsError(
            f"the {phase} loader is {reprlib.repr(loader)}; give an iterable of batches, such as a list or a "
            "torch.utils.data.DataLoader"
        )

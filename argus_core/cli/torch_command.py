"""Commands that import torch: they first check that its import can succeed, and escape what they log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

__all__ = ["TorchCommand", "check_entry_points"]


class TorchCommand(click.Command):
    """A command that imports torch when it runs."""

    def invoke(self, ctx: click.Context) -> Any:
        check_entry_points()
        with _printable_log():
            self.prepare(ctx)
            return super().invoke(ctx)

    def prepare(self, ctx: click.Context) -> None:
        """Do what comes before the command itself."""


def check_entry_points() -> None:
    """Check that Python can read the entry points of all packages, which importing torch reads.

    Raises:
        BrokenPluginError: importing torch would fail at a file of entry points, or hang.
    """
    from argus_core.doctor.unreadable import unreadable
    from argus_core.errors import BrokenPluginError  # lazy: --help does not need them

    for fault in unreadable():
        raise BrokenPluginError(f"{fault.subject} of {fault.providers[0]}: {fault.problem}; {fault.fix}")


@contextmanager
def _printable_log() -> Iterator[None]:
    """Escape control characters in what loggers without a handler write to standard error."""
    import logging

    from argus_core.callbacks.log_format import LineFormatter

    last = logging.lastResort
    if last is None:
        yield
        return
    before = last.formatter
    last.setFormatter(LineFormatter())
    try:
        yield
    finally:
        last.setFormatter(before)

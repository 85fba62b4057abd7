"""Ctrl-C while the command starts: it ends the process at once, in one word.

Importing torch calls Python from C++, which discards a `KeyboardInterrupt` or aborts the process for it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["INTERRUPTED", "EarlyInterrupt", "early_interrupt"]

INTERRUPTED = 130  # 128 + SIGINT, as in shells


class EarlyInterrupt:
    """A handler of SIGINT: `KeyboardInterrupt` while a command runs, and the end of the process otherwise."""

    def __init__(self) -> None:
        self._is_running = False

    def install(self) -> None:
        """Handle SIGINT, unless the process ignores it, as under ``nohup``, or has its own handler."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let Ctrl-C raise `KeyboardInterrupt` in the block, except while torch is imported."""
        before, self._is_running = self._is_running, True
        try:
            yield
        finally:
            self._is_running = before

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self._is_running and not _imports_torch():
            signal.default_int_handler(signum, frame)
        with suppress(OSError):  # a closed standard error
            os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED)


def _imports_torch() -> bool:
    spec = getattr(sys.modules.get("torch"), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


early_interrupt = EarlyInterrupt()

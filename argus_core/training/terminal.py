"""The terminal of a run: whether a signal may be a key there, and how output survives its end."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

__all__ = ["leave_lost_terminal", "may_be_key"]


def may_be_key(signum: int) -> bool:
    """Return whether a signal may be Ctrl-C: the process is in the foreground of its terminal."""
    if signum != signal.SIGINT or sys.platform == "win32":
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:  # it has none
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def leave_lost_terminal() -> None:
    """Let output go nowhere that went to a terminal which is closed; writing to it would fail."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)

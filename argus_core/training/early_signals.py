"""SIGTERM, SIGHUP and SIGUSR1 before training: they raise, so that a run that has not begun leaves nothing.

`argus_core.training.interruption` handles them during a run.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from argus_core.data.workers import SIGNALS

__all__ = ["EarlySignal", "Interruption", "is_caught_in_c", "raising_signals"]

_ONE_SIGNAL = 5.0  # seconds, in which a supervisor may signal twice


class Interruption(BaseException):
    """A signal has asked the run to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    def ending(self) -> BaseException:
        """Return what ends the process as that signal does: with the exit code 128 + its number."""
        return KeyboardInterrupt() if self.signum == signal.SIGINT else SystemExit(128 + self.signum)


class _EarlyInterruption(Interruption, KeyboardInterrupt):
    """An interruption that passes wherever Ctrl-C does, such as the import of a plugin."""


class EarlySignal:
    """The handler of signals before training: it raises for the first one.

    Attributes:
        heard: the exception that it has raised, which may have been caught by any code.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._since = 0.0
        self.heard: Interruption | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if os.getpid() != self._process or (self.heard is not None and now - self._since > _ONE_SIGNAL):
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif self.heard is None:
            self._since, self.heard = now, _EarlyInterruption(signum)
            raise self.heard


@contextmanager
def raising_signals() -> Iterator[None]:
    """Let signals that would end the process at once raise `SystemExit` in the block instead.

    A signal that the process ignores or handles itself is left alone; outside of the main thread all are.

    Raises:
        SystemExit: a signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    early = EarlySignal()
    mine = [signum for signum in SIGNALS if _is_default(signum)]
    for signum in mine:
        signal.signal(signum, early)
    try:
        yield
        if early.heard is not None:
            raise early.heard
    except BaseException as error:
        if early.heard is not None:
            raise early.heard.ending() from error
        raise
    finally:
        for signum in mine:
            if signal.getsignal(signum) is early:
                signal.signal(signum, signal.SIG_DFL)


def _is_default(signum: int) -> bool:
    return signal.getsignal(signum) is signal.SIG_DFL and not (
        signum == getattr(signal, "SIGUSR1", None) and is_caught_in_c(signum)
    )


def is_caught_in_c(signum: int) -> bool:
    """Return whether a signal has a handler that Python does not know, such as `faulthandler.register`'s."""
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:  # only Linux says so
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signum - 1) & 1)

"""SIGINT and SIGTERM while a run is on: it ends after the present update, and can go on from there.

A second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interruption", "check_interruption", "listening"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_received: list[int] = []  # while a run is on, in the main thread


class Interruption(BaseException):
    """A signal asked the run to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    def ending(self) -> BaseException:
        """Return what ends the process as that signal does: with the exit code 128 + its number."""
        return KeyboardInterrupt() if self.signum == signal.SIGINT else SystemExit(128 + self.signum)


@contextmanager
def listening() -> Iterator[None]:
    """Take SIGINT and SIGTERM while a run is on; only the main thread can, and only the outermost run does.

    Raises:
        KeyboardInterrupt, SystemExit: a signal came, and the run has ended for it.
    """
    is_main = threading.current_thread() is threading.main_thread()
    # Handlers that a host program has put there itself are its own business.
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    mine = [signum for signum in _SIGNALS if is_main and signal.getsignal(signum) is usual[signum]]
    for signum in mine:
        signal.signal(signum, _note)
    try:
        yield
        check_interruption()  # it may have come after the last update
    except Interruption as interruption:
        if not mine:
            raise
        raise interruption.ending() from interruption
    finally:
        for signum in mine:
            signal.signal(signum, usual[signum])
        if mine:
            _received.clear()


def check_interruption() -> None:
    """Raise `Interruption` if a signal has come; cheap enough for every update."""
    if _received:
        raise Interruption(_received[0])


def _note(signum: int, frame: FrameType | None) -> None:
    if _received:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
    _received.append(signum)

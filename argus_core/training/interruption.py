"""SIGINT, SIGTERM, SIGHUP and SIGUSR1: a run ends after the current update, and resumes from there.

A run that waits for a batch is between two updates, and ends there: its dataset may hang.

A supervisor may signal a process twice, itself and through the process group: signals close to the first are
the same one. A later one ends the process at once, as does a second Ctrl-C on a terminal.
"""

from __future__ import annotations

import _thread
import atexit
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

from argus_core.data.lost_workers import ignore_ended
from argus_core.data.workers import SIGNALS, needing_workers, present_wait
from argus_core.early_interrupt import early_interrupt
from argus_core.tensors.processes import process_count
from argus_core.training.terminal import leave_lost_terminal, may_be_key

__all__ = [
    "Interruption",
    "check_interruption",
    "exiting",
    "interrupting",
    "listening",
    "received_signal",
    "until_interrupted",
]

_ONE_SIGNAL = 5.0  # seconds
_LONGEST_WAIT = 1.0  # seconds, for a batch
_ONE_KEY = 0.5  # the same on a terminal, where a supervisor may pass Ctrl-C on too

_received: list[int] = []  # while a run is on, in the main thread


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


@contextmanager
def listening() -> Iterator[None]:
    """Handle signals during a run; only the main thread can, and only the outermost run does.

    A signal that the process ignores, as under ``nohup``, stays ignored, and handlers that a host program has
    put there itself stay as well.

    Raises:
        KeyboardInterrupt, SystemExit: a signal came, and the run has ended for it.
    """
    note = _Note()
    with _handled(SIGNALS, note) as mine:
        try:
            with needing_workers():
                yield
                check_interruption()  # it may have come after the last update
        finally:
            if mine:
                _received.clear()
                note.end_run()


@contextmanager
def exiting() -> Iterator[None]:
    """Let a signal before a run raise `SystemExit`, so that the block removes what it has made.

    Otherwise the system would end the process. SIGINT raises `KeyboardInterrupt`, also if the callback of a
    weak reference, or other code, discards the first one.
    """
    handler = _Exit()
    with _handled(SIGNALS, handler), handler.raising():
        yield


@contextmanager
def _handled(signums: Iterable[int], handler: _Note | _Exit) -> Iterator[list[int]]:
    """Give the signals that are free to ``handler`` for the block; end the process as they do afterwards."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {signum: signal.getsignal(signum) for signum in signums if is_main and _is_free(signum)}
    try:
        try:
            for signum in before:
                signal.signal(signum, handler)
            for earlier in before.values():
                if isinstance(earlier, _Exit) and earlier.heard is not None:
                    raise earlier.heard
            yield [*before]
        finally:
            stays = isinstance(handler, _Note) and handler.is_heard
            for signum, earlier in before.items():
                if not stays and signal.getsignal(signum) is handler:
                    signal.signal(signum, _usual(signum) if isinstance(earlier, _Note) else earlier)
    except Interruption as interruption:  # perhaps amid the calls of `signal.signal`
        if not before:
            raise
        raise interruption.ending() from interruption


def received_signal() -> int:
    """Return the signal that has come to this process, or 0."""
    return _received[0] if _received else 0


def check_interruption() -> None:
    """Raise `Interruption` if a signal has come; cheap enough for every update."""
    if _received:
        raise Interruption(_received[0])


@contextmanager
def interrupting() -> Iterator[None]:
    """Raise `Interruption` if the block fails once a signal has come, to the processes of a loader too."""
    try:
        yield
    except Exception as error:
        if _received:
            raise Interruption(_received[0]) from error
        raise


def until_interrupted(batches: Iterator[Any], read_first: Callable[[Any], Any] | None) -> Iterator[Any]:
    """Yield batches, the first through ``read_first``; raise `Interruption` if one fails after a signal."""
    with interrupting():
        if read_first is not None:
            yield from map(read_first, islice(batches, 1))
        yield from batches


class _Exit:
    """The handler of signals before a run: the first raises, so that what was made is removed.

    Attributes:
        heard: the exception that it has raised, which any code may have caught.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._since = 0.0
        self.heard: Interruption | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a fork, which has made nothing
            _end(signum, _usual(signum))
        elif self.heard is None:
            self._since, self.heard = time.monotonic(), _EarlyInterruption(signum)
            raise self.heard
        elif time.monotonic() - self._since > _longest_repeat(signum):
            _end(signum, signal.SIG_DFL)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise the exception again if the block has caught it, or raised another for it."""
        try:
            yield
        except BaseException as error:
            if self.heard is None or error is self.heard:
                raise
            raise self.heard from error
        if self.heard is not None:
            raise self.heard


class _Note:
    """The handler of signals: keeps the first, and ends the process at once for a later one.

    Once it has heard a signal it stays, until the process ends or another run begins.
    """

    def __init__(self) -> None:
        self.is_heard = False
        self.is_over = False  # the run
        self._since = 0.0
        self._ends_wait = False
        self._process = os.getpid()
        self._child_handler: Any = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a fork, which is not the run
            _end(signum, _usual(signum))
        elif not self.is_heard:
            self._hear(signum)
            wait = present_wait()
            if wait is not None:  # no `threading.Thread`, whose locks the main thread may hold
                _thread.start_new_thread(self._end_wait, (signum, wait))
        elif self._ends_wait:
            self._ends_wait = False
            if present_wait() is not None and not self.is_over:
                raise Interruption(signum)
        elif time.monotonic() - self._since > _longest_repeat(signum):
            _end(signum, _usual(signum) if self.is_over else signal.SIG_DFL)

    def _hear(self, signum: int) -> None:
        self.is_heard, self._since = True, time.monotonic()
        _received.append(signum)
        atexit.register(_ignore_signals)
        if hasattr(signal, "SIGCHLD") and _is_of_torch(signal.getsignal(signal.SIGCHLD)):
            # It raises when a worker dies, in the middle of the current update.
            self._child_handler = signal.signal(signal.SIGCHLD, ignore_ended)
        leave_lost_terminal()

    def _end_wait(self, signum: int, wait: object) -> None:
        """End the main thread's wait for a batch; a worker that is killed in a batch prints a traceback."""
        time.sleep(_LONGEST_WAIT)
        if present_wait() is wait and process_count() == 1:  # several end after the same update
            self._ends_wait = True
            signal.pthread_kill(threading.main_thread().ident or 0, signum)

    def end_run(self) -> None:
        """Restore the usual handling of signals."""
        self.is_over = True
        if self._child_handler is not None:
            signal.signal(signal.SIGCHLD, self._child_handler)


def _is_free(signum: int) -> bool:
    handler = signal.getsignal(signum)
    if handler is _usual(signum) or handler is early_interrupt:
        return signum != getattr(signal, "SIGUSR1", None) or not _is_caught_in_c(signum)
    return isinstance(handler, _Exit) or (isinstance(handler, _Note) and handler.is_over)


def _is_caught_in_c(signum: int) -> bool:
    """Return whether a signal has a handler that Python does not know, such as `faulthandler.register`'s."""
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:  # only Linux says so
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signum - 1) & 1)


def _usual(signum: int) -> Any:
    return signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL


def _end(signum: int, handler: Any) -> None:
    signal.signal(signum, handler)
    os.kill(os.getpid(), signum)


def _ignore_signals() -> None:
    """Let a process that ends for a signal end with its own exit code."""
    for signum in SIGNALS:
        if isinstance(signal.getsignal(signum), _Note):  # which Python takes away before the process is gone
            signal.signal(signum, signal.SIG_IGN)


def _longest_repeat(signum: int) -> float:
    return _ONE_KEY if may_be_key(signum) else _ONE_SIGNAL


def _is_of_torch(handler: Any) -> bool:
    return getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"

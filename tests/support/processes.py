"""Processes of their own, started from one that has torch imported and does nothing else.

A fork of the process that runs the tests would share its threads' locks, and could wait for one for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

__all__ = ["running", "sent_by"]

_CONTEXT = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
# The last is what torch imports at the first step of an optimizer.
_CONTEXT.set_forkserver_preload(
    ["pytest", "argus_core.model.loading", "argus_core.storage.writer", "torch._dynamo"]
)


@contextmanager
def running(function: Callable[..., None], *args: Any) -> Iterator[tuple[BaseProcess, Connection]]:
    """Run ``function(*args, connection)`` in a process until the block ends; return it and our end."""
    here, there = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_with_usual_signals, args=(function, *args, there))
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        here.close()
        process.kill()
        process.join()


def _with_usual_signals(function: Callable[..., None], *args: Any) -> None:
    """Call a function in a process that ignores no signal, even if the one that started the tests does."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    function(*args)


def sent_by(function: Callable[..., None], *args: Any) -> Iterator[Any]:
    """Return what ``function(*args, connection)`` sends, until it ends."""
    with running(function, *args) as (process, connection):
        while True:
            try:
                yield connection.recv()
            except EOFError:
                break
        process.join()
        assert process.exitcode == 0

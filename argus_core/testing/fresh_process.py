"""Fresh processes, in which a part must be found by its name alone.

One program, `argus_core.testing.server`, imports torch and `argus_core` once. Where the system can fork, each
request is answered by a fork of it, which has imported no plugin; elsewhere each gets a program of its own.
"""

from __future__ import annotations

import atexit
import os
import pickle
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from argus_core.doctor.process import Isolated, answers, end_group

__all__ = ["SERVER", "in_fresh_process", "stream_from_fresh_process"]

SERVER = "ARGUS_TESTING_SERVER"
"""The environment variable with a server's socket: requests of a server's own forks go there."""

_CAN_FORK = hasattr(os, "fork") and hasattr(socket, "AF_UNIX")
_PROGRAM = "import sys; from argus_core.testing.server import main; main(sys.argv[1:])"
_PATIENCE = 300.0  # seconds


def in_fresh_process(operation: str, *args: Any, time_limit: float = _PATIENCE) -> Any:
    """Return what an operation returns in a process that has imported nothing but argus_core.

    Args:
        operation: a name in `argus_core.testing.operations`.
        args: sent there; they must be picklable.
        time_limit: seconds.

    Raises:
        AssertionError: it raised something, ended or took too long; the message says so.
    """
    (value,) = stream_from_fresh_process(operation, *args, time_limit=time_limit)
    return value


def stream_from_fresh_process(operation: str, *args: Any, time_limit: float = _PATIENCE) -> Iterator[Any]:
    """Yield what an operation yields there, each as soon as it comes; see `in_fresh_process`."""
    try:
        request = pickle.dumps((operation, args))
    except Exception as error:
        raise AssertionError(
            f"what it is checked with cannot be sent to another process ({error}); use plain data and "
            "tensors, or give reload=False"
        ) from error
    try:
        for message in (_from_fork if _CAN_FORK else _from_program)(request, time_limit):
            sort, value = pickle.loads(message)
            if sort == "end":
                return
            if sort == "error":
                raise AssertionError(f"in a process that imports only argus_core, {value}")
            yield value
    except TimeoutError:
        raise AssertionError(
            f"it did not end within {time_limit:g} seconds; look for a loop without end, or for what waits "
            "for a network, for input or for a lock"
        ) from None
    raise AssertionError(
        "its process ended without an answer; look for os._exit, a crash in compiled code or too little "
        "memory"
    )


class _Server(Isolated):
    """A program that runs as long as this process has use for it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="argus-"))  # none but this user can look into it
        self.socket = self.folder / "socket"
        # It runs in an empty folder: what it finds is what is installed.
        super().__init__(_PROGRAM, [str(self.socket)], self.folder)
        if next(self.answers(b"", _PATIENCE), None) is None:  # it says when it listens
            reason = self.complaints().strip()[-1000:]
            self.end()
            raise AssertionError(f"no fresh process can be started: {reason}; mend this environment")

    def end(self) -> None:
        """End it, unless another process has started it: a fork of that one is not the owner."""
        if self.owner == os.getpid():
            super().end()
            self._errors.close()
            shutil.rmtree(self.folder, ignore_errors=True)


_servers: list[_Server] = []


def _address() -> str:
    """Return the socket of the server that this process uses, after its start if it is due."""
    given = os.environ.get(SERVER)
    if given:
        return given
    if not _servers or _servers[-1].owner != os.getpid() or _servers[-1].process.poll() is not None:
        _servers[:] = [_Server()]
        atexit.register(_servers[-1].end)
    return str(_servers[-1].socket)


def _from_fork(request: bytes, time_limit: float) -> Iterator[bytes]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(_address())
        stream: Any = channel.makefile("rwb")
        messages = answers(request, stream, stream, time_limit, in_all=True)
        fork = int(next(messages, b"0"))  # its number comes first
        try:
            yield from messages
        finally:
            channel.shutdown(socket.SHUT_RDWR)
            if fork:
                end_group(fork)


def _from_program(request: bytes, time_limit: float) -> Iterator[bytes]:
    with (
        tempfile.TemporaryDirectory(prefix="argus-") as folder,
        Isolated(_PROGRAM, folder=Path(folder)) as one,
    ):
        yield from one.answers(request, time_limit, in_all=True)

"""Fresh processes, in which a component must be found by its name.

One program, `argus_core.testing.server`, imports torch and `argus_core` once. If the system can fork, a fork
of it answers each request; it has imported no plugin. Otherwise each request starts a new program.
"""

from __future__ import annotations

import atexit
import os
import pickle
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from argus_core.doctor.process import Isolated, answers, end_group

__all__ = ["SERVER", "in_fresh_process", "stream_from_fresh_process"]

SERVER = "ARGUS_TESTING_SERVER"
"""The environment variable with the server's socket, for requests from its forks."""

_CAN_FORK = hasattr(os, "fork") and hasattr(socket, "AF_UNIX")
_PROGRAM = "import sys; from argus_core.testing.server import main; main(sys.argv[1:])"
_PATIENCE = 300.0  # seconds


def in_fresh_process(operation: str, *args: Any, time_limit: float = _PATIENCE) -> Any:
    """Return the result of an operation in a process that has imported only argus_core.

    Args:
        operation: a name in `argus_core.testing.operations`.
        args: the picklable arguments of the operation.
        time_limit: the limit in seconds.

    Raises:
        AssertionError: the operation raised an exception, ended its process or took too long.
    """
    (value,) = stream_from_fresh_process(operation, *args, time_limit=time_limit)
    return value


def stream_from_fresh_process(operation: str, *args: Any, time_limit: float = _PATIENCE) -> Iterator[Any]:
    """Yield the values of an operation as they come; see `in_fresh_process`."""
    try:
        request = pickle.dumps((operation, args))
    except Exception as error:
        raise AssertionError(
            f"its parameters or inputs cannot be sent to another process ({error}); use plain data and "
            "tensors, or pass reload=False"
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
            f"it did not end within {time_limit:g} seconds; look for an endless loop, or for code that "
            "waits for a network, for input or for a lock"
        ) from None
    raise AssertionError(
        "its process ended without an answer; look for os._exit, a crash in compiled code or too little "
        "memory"
    )


class _Server(Isolated):
    """The server program, which runs as long as this process needs it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="argus-"))  # only this user can read it
        self.socket = self.folder / "socket"
        # In an empty folder it finds only installed packages.
        super().__init__(_PROGRAM, [str(self.socket)], self.folder)
        if next(self.answers(b"", _PATIENCE), None) is None:  # its first message: it listens
            reason = self.complaints().strip()[-1000:]
            self.end()
            raise AssertionError(f"no fresh process can be started: {reason}; fix this environment")

    def end(self) -> None:
        """Kill it, unless another process started it: a fork of that process is not the owner."""
        if self.owner == os.getpid():
            super().end()
            self._errors.close()
            shutil.rmtree(self.folder, ignore_errors=True)


_servers: list[_Server] = []
_starting = threading.Lock()


def _address() -> str:
    """Return the socket of this process's server; the first call starts it."""
    given = os.environ.get(SERVER)
    if given:
        return given
    with _starting:
        if not _servers or _servers[-1].owner != os.getpid() or _servers[-1].process.poll() is not None:
            _servers[:] = [_Server()]
            atexit.register(_servers[-1].end)
        return str(_servers[-1].socket)


def _from_fork(request: bytes, time_limit: float) -> Iterator[bytes]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(_address())
        stream: Any = channel.makefile("rwb")
        messages = answers(request, stream, stream, time_limit, in_all=True)
        fork = int(next(messages, b"0"))  # its first message is its number
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

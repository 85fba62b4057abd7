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
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["SERVER", "in_fresh_process", "receive", "send", "stream_from_fresh_process"]

SERVER = "ARGUS_TESTING_SERVER"
"""The environment variable with a server's socket: requests of a server's own forks go there."""

_CAN_FORK = hasattr(os, "fork") and hasattr(socket, "AF_UNIX")
_PROGRAM = [sys.executable, "-m", "argus_core.testing.server"]
_PATIENCE = 300.0  # seconds
_LENGTH = 8  # bytes, before each message


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
        request = pickle.dumps((operation, args, time_limit))
    except Exception as error:
        raise AssertionError(
            f"what it is checked with cannot be sent to another process ({error}); use plain data and "
            "tensors, or give reload=False"
        ) from error
    begun = time.monotonic()
    for message in _answers(request, time_limit) if _CAN_FORK else _answers_of_a_program(request, time_limit):
        sort, value = pickle.loads(message)
        if sort == "end":
            return
        if sort == "error":
            raise AssertionError(f"in a process that imports only argus_core, {value}")
        yield value
    if time.monotonic() - begun >= time_limit:
        raise AssertionError(
            f"it did not end within {time_limit:g} seconds; look for a loop without end, or for what waits "
            "for a network, for input or for a lock"
        )
    raise AssertionError(
        "its process ended without an answer; look for os._exit, a crash in compiled code or too little "
        "memory"
    )


def send(channel: socket.socket, message: bytes) -> None:
    """Send one message."""
    channel.sendall(len(message).to_bytes(_LENGTH, "big") + message)


def receive(channel: socket.socket) -> bytes | None:
    """Return the next message, or ``None`` when there are no more."""
    length = _read(channel, _LENGTH)
    return None if length is None else _read(channel, int.from_bytes(length, "big"))


class _Server:
    """A program that runs as long as this process has use for it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="argus-"))  # none but this user can look into it
        self.socket = self.folder / "socket"
        log = self.folder / "log"
        # It runs in an empty folder: what it finds is what is installed.
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*_PROGRAM, str(self.socket)],
                cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            )  # fmt: skip
        assert self.process.stdout is not None
        if not self.process.stdout.readline():  # one line once it listens
            reason = log.read_text("utf-8", errors="replace").strip()[-1000:]
            self.stop()
            raise AssertionError(f"no fresh process can be started: {reason}; mend this environment")

    def stop(self) -> None:
        """End it, as it ends with its standard input."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


_servers: list[_Server] = []


def _address() -> str:
    """Return the socket of the server that this process uses, after its start if it is due."""
    given = os.environ.get(SERVER)
    if given:
        return given
    if not _servers or _servers[-1].owner != os.getpid() or _servers[-1].process.poll() is not None:
        _servers[:] = [_Server()]
        atexit.register(_stop, _servers[-1])
    return str(_servers[-1].socket)


def _stop(server: _Server) -> None:
    if server.owner == os.getpid():  # a fork of the owner is not
        server.stop()


def _answers(request: bytes, time_limit: float) -> Iterator[bytes]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(_address())
        send(channel, request)
        while (message := receive(channel)) is not None:  # the other side keeps to the time limit
            yield message


def _answers_of_a_program(request: bytes, time_limit: float) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory(prefix="argus-") as folder:
        try:
            done = subprocess.run(
                _PROGRAM, input=request, cwd=folder, stdout=subprocess.PIPE, timeout=time_limit, check=False
            )
            output = done.stdout
        except subprocess.TimeoutExpired as error:
            output = error.stdout or b""
    while len(output) >= _LENGTH:
        length = int.from_bytes(output[:_LENGTH], "big")
        yield output[_LENGTH : _LENGTH + length]
        output = output[_LENGTH + length :]


def _read(channel: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        received = channel.recv(min(count - len(parts), 1 << 20))
        if not received:
            return None
        parts += received
    return bytes(parts)

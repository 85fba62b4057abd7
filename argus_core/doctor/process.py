"""Processes of their own, in which a plugin's code runs: none outlives its use, and none is waited for long.

An order goes in as one message and answers come back as messages: `Isolated` is this end, `serve` the other.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

__all__ = ["Isolated", "answers", "end_group", "own_streams", "serve", "write_message"]

# Until it is told not to, Python looks for modules in the current folder, where a stranger's may lie; from
# Python 3.13 on before the code runs.
_SAFE = ["-P"] if sys.version_info >= (3, 11) else []
_SIZE = 8  # bytes before each message, which tell its own


class Isolated:
    """A Python program in a session of its own; a context manager that ends it and all that it has started.

    Args:
        code: what it runs.
        arguments: of the command line.
        folder: where it runs.
    """

    def __init__(self, code: str, arguments: Iterable[str] = (), folder: Path | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *_SAFE, "-c", code, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            cwd=folder, start_new_session=True,
        )  # fmt: skip
        self._orders: Any = self.process.stdin
        self._answers: Any = self.process.stdout

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._errors.close()

    def end(self) -> None:
        """End it, whatever it is about; another thread may still ask for its complaints."""
        if hasattr(os, "killpg"):
            end_group(self.process.pid)
        else:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self._orders.close()

    def answers(self, order: bytes, timeout: float, in_all: bool = False) -> Iterator[bytes]:
        """Send an order, unless it is empty, and yield what comes back; see `answers`."""
        return answers(order, self._orders, self._answers, timeout, in_all)

    def complaints(self) -> str:
        """Return the end of what it wrote to standard error."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 20_000))
        return self._errors.read().decode(errors="replace")


def answers(
    order: bytes, there: IO[bytes], back: IO[bytes], timeout: float, in_all: bool = False
) -> Iterator[bytes]:
    """Yield the answers to an order until they end.

    Args:
        order: what is sent, if it is not empty.
        there: where to.
        back: where answers come from; it is closed at its end.
        timeout: the most seconds before each answer.
        in_all: the most seconds for all of them instead.

    Raises:
        TimeoutError: none came in time.
    """
    messages: queue.Queue[bytes | None] = queue.Queue()
    # By a thread: a process that reads nothing and sends nothing would hold this one up.
    threading.Thread(target=_converse, args=(order, there, back, messages), daemon=True).start()
    deadline = time.monotonic() + timeout
    while True:
        try:
            message = messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        if message is None:
            return
        yield message
        if not in_all:
            deadline = time.monotonic() + timeout


def _read_message(stream: IO[bytes]) -> bytes | None:
    """Return the next message of a stream, None at its end."""
    size = int.from_bytes(stream.read(_SIZE), "big")
    return stream.read(size) or None


def write_message(stream: IO[bytes], message: bytes) -> None:
    """Send one message, which is not empty."""
    stream.write(len(message).to_bytes(_SIZE, "big") + message)
    stream.flush()


def end_group(group: int) -> None:
    """End all processes of a group; it may have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)  # it has the number of its first process, and outlives that


def own_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Return standard input and output of this process; in their place a plugin finds nothing and nobody."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for standard in (0, 1):
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    return orders, answers


def serve(answer: Callable[[bytes], Iterator[bytes]], orders: IO[bytes], answers: IO[bytes]) -> NoReturn:
    """Answer the one order that comes, and end; at once where the process that gave it ends."""
    order = _read_message(orders)
    threading.Thread(target=_end_with, args=(orders,), daemon=True).start()
    for message in answer(order) if order else ():
        write_message(answers, message)
    os._exit(0)  # threads and exit handlers of plugins have no say


def _end_with(orders: IO[bytes]) -> None:
    orders.read()
    if hasattr(os, "killpg"):
        end_group(0)  # of a session of its own: this process, and what plugins have started
    os._exit(1)


def _converse(order: bytes, there: IO[bytes], back: IO[bytes], messages: queue.Queue[bytes | None]) -> None:
    # Of a process that is gone, or of one that tells a size of its own.
    with contextlib.suppress(OSError, ValueError, OverflowError, MemoryError), back:
        if order:
            write_message(there, order)  # and no end: that tells the process that this one is gone
        while (message := _read_message(back)) is not None:
            messages.put(message)
    messages.put(None)

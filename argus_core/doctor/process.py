"""Separate processes that run a plugin's code, with a time limit; none outlives its use.

A request is one message, and answers are messages: `Isolated` is this side, `serve` the other.
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

# Otherwise Python searches the current folder, which may be untrusted, for modules; from Python 3.13 on even
# before the code runs.
_SAFE = ["-P"] if sys.version_info >= (3, 11) else []
_SIZE = 8  # bytes before each message: its length


class Isolated:
    """A Python program in its own session; a context manager that kills it and all processes that it started.

    Args:
        code: the Python code to run.
        arguments: the arguments of the command line.
        folder: the working folder.
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
        """Kill the program; `complaints` may still be called."""
        if hasattr(os, "killpg"):
            end_group(self.process.pid)
        else:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self._orders.close()

    def answers(self, order: bytes, timeout: float, in_all: bool = False) -> Iterator[bytes]:
        """Send a request, unless it is empty, and yield the answers; see `answers`."""
        return answers(order, self._orders, self._answers, timeout, in_all)

    def complaints(self) -> str:
        """Return the end of its standard error."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 20_000))
        return self._errors.read().decode(errors="replace")


def answers(
    order: bytes, there: IO[bytes], back: IO[bytes], timeout: float, in_all: bool = False
) -> Iterator[bytes]:
    """Yield the answers to a request until their stream ends.

    Args:
        order: the request; not sent if empty.
        there: the stream that the request is written to.
        back: the stream of answers, which is closed at its end.
        timeout: the most seconds to wait for each answer.
        in_all: whether ``timeout`` is for all answers together.

    Raises:
        TimeoutError: no answer came in time.
    """
    messages: queue.Queue[bytes | None] = queue.Queue()
    # In a thread: a process that neither reads nor writes would block this one.
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
    """Return the next message of a stream, or None at its end."""
    size = int.from_bytes(stream.read(_SIZE), "big")
    return stream.read(size) or None


def write_message(stream: IO[bytes], message: bytes) -> None:
    """Send one message, which must not be empty."""
    stream.write(len(message).to_bytes(_SIZE, "big") + message)
    stream.flush()


def end_group(group: int) -> None:
    """Kill all processes of a group, which may have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)  # the group keeps the number of its first process


def own_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Return standard input and output of this process, and give plugins the null device instead."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for standard in (0, 1):
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    return orders, answers


def serve(answer: Callable[[bytes], Iterator[bytes]], orders: IO[bytes], answers: IO[bytes]) -> NoReturn:
    """Answer one request and exit; exit at once if the process that sent it ends."""
    order = _read_message(orders)
    threading.Thread(target=_end_with, args=(orders,), daemon=True).start()
    for message in answer(order) if order else ():
        write_message(answers, message)
    os._exit(0)  # without waiting for threads and exit handlers of plugins


def _end_with(orders: IO[bytes]) -> None:
    orders.read()
    if hasattr(os, "killpg"):
        end_group(0)  # this process, and those that plugins started
    os._exit(1)


def _converse(order: bytes, there: IO[bytes], back: IO[bytes], messages: queue.Queue[bytes | None]) -> None:
    # The process may have ended, or sent a wrong length.
    with contextlib.suppress(OSError, ValueError, OverflowError, MemoryError), back:
        if order:
            write_message(there, order)  # not closed: that would mean that this process has ended
        while (message := _read_message(back)) is not None:
            messages.put(message)
    messages.put(None)

"""Standard output and standard error that may end before the program: what is lost is the output alone."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

__all__ = ["ending_alone", "lasting"]

_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.ECONNRESET)  # a closed pipe, a terminal that has vanished


@contextmanager
def lasting() -> Iterator[list[OSError]]:
    """Let the standard streams outlast those who read them while the block runs.

    Yields a list, in which stands at the end of the block what else kept them from being written, such as a
    full disk.
    """
    errors: list[OSError] = []
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for descriptor, (name, stream) in enumerate(before.items(), 1):
        setattr(sys, name, _nowhere(descriptor) if stream is None else _outlasting(stream, errors))
    try:
        yield errors
    finally:
        for name, stream in before.items():
            getattr(sys, name).flush()
            setattr(sys, name, stream)


@contextmanager
def ending_alone(logger: logging.Logger) -> Iterator[None]:
    """Let standard output end, and not the run, when the block cannot write to it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        logger.warning("standard output cannot be written: %s; the run goes on without it", reason)
        with suppress(OSError, ValueError):  # not every stream is a file of the system's
            _discard(sys.stdout.fileno())


class _Outlasting(io.FileIO):
    """A file descriptor that takes everything, whether it is written or not.

    Args:
        descriptor: stays open.
        errors: gets what keeps it from being written, but for a reader who is gone.
    """

    def __init__(self, descriptor: int, errors: list[OSError]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._errors = errors

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                self._errors.append(error)
            _discard(self.fileno())
            return len(data)


def _outlasting(stream: Any, errors: list[OSError]) -> Any:
    """Return a stream that writes where ``stream`` does, if that is a file of the system's."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Outlasting(raw.fileno(), errors)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _nowhere(descriptor: int) -> Any:
    """Return a stream for one that was closed before the program began, and keep files off its descriptor."""
    try:
        os.fstat(descriptor)
    except OSError:
        _discard(descriptor)
    return open(os.devnull, "w", encoding="utf-8")


def _discard(descriptor: int) -> None:
    """Let everything that is written to a descriptor vanish, also in processes that it starts from now on."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    if nothing == descriptor:
        os.set_inheritable(descriptor, True)
    else:
        os.dup2(nothing, descriptor)
        os.close(nothing)

"""Standard output and error that tolerate closed readers, full disks and other write errors."""

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

_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.ECONNRESET)  # a closed pipe or terminal


@contextmanager
def lasting() -> Iterator[list[OSError]]:
    """Ignore write errors of standard output and error while the block runs, as of a closed pipe.

    Yields a list that collects the write errors other than closed readers, such as a full disk.
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
    """Discard standard output from then on, with a warning, if the block cannot write to it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        logger.warning("standard output cannot be written: %s; the run continues without it", reason)
        with suppress(OSError, ValueError):  # a stream may have no descriptor
            _discard(sys.stdout.fileno())


class _Outlasting(io.FileIO):
    """A raw file whose writes always succeed; output is discarded after the first error.

    Args:
        descriptor: stays open.
        errors: receives the write errors, except those of a closed reader.
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


class _Open(io.TextIOWrapper):
    """A stream that stays open for the command when other code, such as a project's own parts, closes it."""

    def close(self) -> None:
        self.flush()


def _outlasting(stream: Any, errors: list[OSError]) -> Any:
    """Return a stream that ignores write errors, for the descriptor of ``stream``, or ``stream`` itself."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
        return stream
    stream.flush()
    return _Open(
        io.BufferedWriter(_Outlasting(raw.fileno(), errors)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _nowhere(descriptor: int) -> Any:
    """Return a null stream for one closed before the program began; reserve its descriptor."""
    try:
        os.fstat(descriptor)
    except OSError:
        _discard(descriptor)
    return open(os.devnull, "w", encoding="utf-8")


def _discard(descriptor: int) -> None:
    """Redirect a descriptor to the null device, also for child processes started from now on."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    if nothing == descriptor:
        os.set_inheritable(descriptor, True)
    else:
        os.dup2(nothing, descriptor)
        os.close(nothing)

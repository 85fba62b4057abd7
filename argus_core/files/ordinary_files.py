"""Files that may be from anywhere: read if they are ordinary and not too large, else refused at once."""

from __future__ import annotations

import errno
import os
import re
import stat
from io import FileIO
from pathlib import Path
from typing import IO, Any

__all__ = ["MOST_COMPRESSED", "allocated", "as_path", "open_ordinary", "read_beginning", "read_ordinary"]

MOST_COMPRESSED = 16
"""How many times what the disk holds of a file it may claim: it may be compressed, or full of holes."""

_ADDRESS = r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]"  # one letter is a drive of Windows
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def as_path(value: str | os.PathLike[str]) -> Path:
    """Return what a user wrote as a path; ``~`` is the home folder, as in a shell.

    An address, such as ``s3://bucket``, would otherwise become a folder of that name.

    Raises:
        ValueError: there is no such path; the message begins with a verb.
    """
    path = os.path.expanduser(value)
    if "\0" in path:
        raise ValueError("holds a NUL character; leave it out")
    if re.match(_ADDRESS, path):
        raise ValueError(f"is an address; give a path on this machine, or ./{path} for a folder of that name")
    if path.startswith("~"):
        folder = path.split(os.sep)[0]
        raise ValueError(
            f"begins with {folder!r}, which is not a home folder; for such a name write ./{folder}"
        )
    return Path(path)


def open_ordinary(path: str | os.PathLike[str]) -> FileIO:
    """Open a file, or what a link leads to, for reading, without waiting for anything.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an ordinary file, or not a path; the message begins with a verb.
    """
    _look_at(path)
    return FileIO(path, opener=_open)


def read_ordinary(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a file of at most so many bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an ordinary file, or larger; the message begins with a verb.
    """
    _look_at(path)
    descriptor = _open(path, os.O_RDONLY)  # metadata of hundreds of packages take half the time of a FileIO's
    try:
        content = os.read(descriptor, min(os.fstat(descriptor).st_size, most) + 1)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise ValueError(f"is larger than {most // 2**10:,} KiB")
    return content


def read_beginning(path: str | os.PathLike[str], count: int) -> bytes:
    """Return the first bytes of a file; raises as `read_ordinary` does."""
    with open_ordinary(path) as file:
        return file.read(count) or b""


def allocated(file: FileIO | IO[Any]) -> int:
    """Return how many bytes of a file the disk holds: fewer than it has, if it has holes or is compressed."""
    status = os.fstat(file.fileno())
    held: int = getattr(status, "st_blocks", 0) * 512
    # Systems that do not count blocks, and file systems that do not, say none.
    return held or (0 if _is_a_hole(file.fileno()) else status.st_size)


def _is_a_hole(descriptor: int) -> bool:
    """Return whether the system knows that a file has no data at all."""
    if not hasattr(os, "SEEK_DATA"):
        return False
    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    finally:
        os.lseek(descriptor, place, os.SEEK_SET)
    return False


def _look_at(path: str | os.PathLike[str]) -> None:
    # Some devices act on being opened. What is at the path may change meanwhile, so `_open` looks again.
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:
        raise ValueError("holds a character that no path can hold; leave it out") from error
    _check_kind(mode)


def _open(path: str | os.PathLike[str], flags: int) -> int:
    descriptor = os.open(path, flags | _FLAGS)
    try:
        _check_kind(os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_kind(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError(f"is {_KINDS.get(stat.S_IFMT(mode), 'something else')}; it must be an ordinary file")

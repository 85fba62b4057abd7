"""Reading untrusted files: only regular files of limited size; others are an error, without waiting."""

from __future__ import annotations

import errno
import os
import re
import stat
from io import FileIO
from pathlib import Path
from typing import IO, Any

__all__ = [
    "MOST_COMPRESSED",
    "allocated",
    "as_path",
    "kind_of",
    "open_ordinary",
    "read_beginning",
    "read_ordinary",
]

MOST_COMPRESSED = 16
"""The most times that a file's size may exceed its bytes on the disk, as in a compressed or sparse file."""

_ADDRESS = r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]"  # a single letter is a drive on Windows
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def as_path(value: str | os.PathLike[str]) -> Path:
    """Return a user's text as a path; ``~`` is the home folder, as in a shell.

    A URL, such as ``s3://bucket``, is an error, since it would become a folder of that name.

    Raises:
        ValueError: the text cannot be a path; the message begins with a verb.
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


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return what is at a path, following links, for a message: "a FIFO", "a directory".

    Raises:
        OSError: the system cannot say, or nothing is there.
    """
    return _kind(os.stat(path).st_mode)


def open_ordinary(path: str | os.PathLike[str]) -> FileIO:
    """Open a regular file for reading, following links, without ever blocking.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a regular file, or not a path; the message begins with a verb.
    """
    _look_at(path)
    return FileIO(path, opener=_open)


def read_ordinary(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the contents of a regular file of at most ``most`` bytes.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a regular file, or larger; the message begins with a verb.
    """
    _look_at(path)
    descriptor = _open(path, os.O_RDONLY)  # half the time of a FileIO for hundreds of small files
    try:
        content = os.read(descriptor, min(os.fstat(descriptor).st_size, most) + 1)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise ValueError(f"is larger than {most // 2**10:,} KiB")
    return content


def read_beginning(path: str | os.PathLike[str], count: int) -> bytes:
    """Return the first ``count`` bytes of a file; raises as `read_ordinary` does."""
    with open_ordinary(path) as file:
        return file.read(count) or b""


def allocated(file: FileIO | IO[Any]) -> int:
    """Return the bytes that the disk allocates for a file: fewer than its size if sparse or compressed."""
    status = os.fstat(file.fileno())
    held: int = getattr(status, "st_blocks", 0) * 512
    # Some systems and file systems do not count blocks, and report 0.
    return held or (0 if _is_a_hole(file.fileno()) else status.st_size)


def _is_a_hole(descriptor: int) -> bool:
    """Return whether the system reports that a whole file is a hole."""
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
    # Opening some devices has side effects. The path may change meanwhile, so `_open` checks again.
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
        raise ValueError(f"is {_kind(mode)}; it must be an ordinary file")


def _kind(mode: int) -> str:
    return "an ordinary file" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")

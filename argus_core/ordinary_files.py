"""Ordinary files, and the paths to them: no pipe that waits for its other end, no device without an end."""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path

__all__ = ["MOST_COMPRESSED", "allocated", "as_path", "open_ordinary", "read_text"]

MOST_COMPRESSED = 16
"""How many times what the disk holds of a file it may claim: it may be compressed, or full of holes."""

_OTHERS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Some devices act on being opened, so the path is looked at first; what is there may change meanwhile.
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


def as_path(value: str | os.PathLike[str]) -> Path:
    """Return what a user wrote as a path; ``~`` is the home folder, as in a shell.

    Raises:
        ValueError: no path can be so; the message is the end of a sentence.
    """
    path = os.path.expanduser(value)
    if "\0" in path:
        raise ValueError("holds a NUL character; leave it out")
    if path.startswith("~"):
        folder = path.split(os.sep)[0]
        raise ValueError(
            f"begins with {folder!r}, and there is no such home folder; write ./{folder} for a name"
        )
    return Path(path)


def open_ordinary(path: Path) -> FileIO:
    """Open an ordinary file, or a link to one, for reading; this never waits.

    Raises:
        OSError: there is none, it is something else, or it cannot be read; ``strerror`` says which.
    """
    try:
        _check_kind(os.stat(path).st_mode)
        return FileIO(path, opener=_open)
    except ValueError as error:  # a NUL, or a character that no file's name can have
        raise OSError(None, "the path holds a character that no path can hold") from error


def allocated(file: FileIO) -> int:
    """Return how many bytes of a file the disk holds: fewer than it has, if it has holes or is compressed."""
    status = os.fstat(file.fileno())
    # Systems that do not count blocks, and file systems that do not, say none.
    return getattr(status, "st_blocks", 0) * 512 or status.st_size


def read_text(path: Path, most: int) -> str:
    """Return the text of an ordinary file in UTF-8, without the byte order mark that it may begin with.

    Raises:
        OSError: as `open_ordinary`, or it has more than ``most`` bytes.
        UnicodeDecodeError: it is in another encoding.
    """
    with open_ordinary(path) as file:
        content = bytearray()
        while part := file.read(most + 1 - len(content)):
            content += part
    if len(content) > most:
        raise OSError(None, f"it is longer than {most:,} bytes")
    return content.decode("utf-8-sig")


def _open(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | _FLAGS)
    try:
        _check_kind(os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_kind(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(None, f"it is {_OTHERS.get(stat.S_IFMT(mode), 'not a file')}, not an ordinary file")

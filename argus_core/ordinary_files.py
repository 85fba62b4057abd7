"""Files that may be from anywhere: read if they are ordinary and not too large, else refused at once."""

from __future__ import annotations

import os
import stat
from typing import Any

__all__ = ["read_beginning", "read_ordinary"]

_FLAGS = ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_ordinary(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a file of at most so many bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an ordinary file, or larger; the message begins with a verb.
    """
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        content: bytes = file.read(min(size, most) + 1)
        if len(content) > most:
            raise ValueError(f"is larger than {most // 2**10:,} KiB")
        return content


def read_beginning(path: str | os.PathLike[str], count: int) -> bytes:
    """Return the first bytes of a file; raises as `read_ordinary` does."""
    with _open(path) as file:
        beginning: bytes = file.read(count)
        return beginning


def _open(path: str | os.PathLike[str]) -> Any:
    # Without waiting for the other end of a FIFO; what is looked at then is what was opened.
    flags = os.O_RDONLY
    for name in _FLAGS:
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ValueError(f"is {_KINDS.get(stat.S_IFMT(mode), 'something else')}; it must be an ordinary file")
    return open(descriptor, "rb", buffering=0)

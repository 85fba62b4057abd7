"""System calls of Linux that Python lacks; they do nothing on other systems or on failure."""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import sys
from typing import Any

__all__ = ["begin_writing", "exchange", "prefer_large_pages"]

# Bytes of a large page; on machines with larger ones the advice has no effect.
_LARGE = 2**21
# Bytes below which the call takes as long as it saves.
_WORTH_IT = 2 * _LARGE
_SYNC_FILE_RANGE_WRITE = 2
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# The errors of systems and file systems that cannot exchange names.
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)


def prefer_large_pages(address: int, size: int) -> None:
    """Advise the system to back memory by large pages, which it allocates far faster."""
    if sys.platform != "linux" or size < _WORTH_IT:
        return
    # Rounded outwards: neighbouring allocations share the pages.
    start = address // _LARGE * _LARGE
    end = -(-(address + size) // _LARGE) * _LARGE
    _library().madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_HUGEPAGE)


def begin_writing(descriptor: int, start: int, size: int) -> None:
    """Start writing a file's cached bytes to the disk without waiting; `os.fsync` waits."""
    if sys.platform == "linux" and hasattr(_library(), "sync_file_range"):
        place = ctypes.c_int64(start), ctypes.c_int64(size)
        _library().sync_file_range(descriptor, *place, _SYNC_FILE_RANGE_WRITE)


def exchange(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Exchange the names of two folders at once; return whether the system can.

    Raises:
        OSError: the call failed for another reason.
    """
    if sys.platform != "linux" or not hasattr(_library(), "renameat2"):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if not _library().renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), os.fspath(one))


@functools.cache
def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)

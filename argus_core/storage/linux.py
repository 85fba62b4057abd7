"""System calls of Linux that Python lacks; they do nothing on other systems or on failure."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from typing import Any

__all__ = ["begin_writing", "prefer_large_pages"]

# Bytes of a large page; on machines with larger ones the advice has no effect.
_LARGE = 2**21
# Bytes below which the call takes as long as it saves.
_WORTH_IT = 2 * _LARGE
_SYNC_FILE_RANGE_WRITE = 2


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


@functools.cache
def _library() -> Any:
    return ctypes.CDLL(None)

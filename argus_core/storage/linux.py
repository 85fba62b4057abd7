"""What Linux does on request and Python has no function for; elsewhere, and if it refuses, nothing."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from typing import Any

__all__ = ["begin_writing", "prefer_large_pages"]

# Bytes of a large page; on machines where it is more, the advice is for nothing.
_LARGE = 2**21
# Below this the call takes as long as it saves.
_WORTH_IT = 2 * _LARGE
_SYNC_FILE_RANGE_WRITE = 2


def prefer_large_pages(address: int, size: int) -> None:
    """Ask for memory that will be filled to come in large pages, which the system gives out far faster."""
    if sys.platform != "linux" or size < _WORTH_IT:
        return
    # Outwards: what the allocator has put before and behind it lies in the same pages.
    start = address // _LARGE * _LARGE
    end = -(-(address + size) // _LARGE) * _LARGE
    _library().madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_HUGEPAGE)


def begin_writing(descriptor: int, start: int, size: int) -> None:
    """Ask for written bytes of a file to go to the disk, and do not wait for it; `os.fsync` does."""
    if sys.platform == "linux" and hasattr(_library(), "sync_file_range"):
        place = ctypes.c_int64(start), ctypes.c_int64(size)
        _library().sync_file_range(descriptor, *place, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _library() -> Any:
    return ctypes.CDLL(None)

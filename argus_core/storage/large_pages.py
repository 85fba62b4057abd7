"""Memory in large pages, which the system gives out far faster than as many small ones."""

from __future__ import annotations

import ctypes
import mmap
import sys

__all__ = ["advise"]

# Bytes of one; on the machines where it is more, the advice is for nothing.
_LARGE = 2**21
# Below this the call takes as long as it saves.
_WORTH_IT = 2 * _LARGE


def advise(address: int, size: int) -> None:
    """Ask the system to back memory that will be filled with large pages, where it has them."""
    if sys.platform != "linux" or size < _WORTH_IT:
        return
    start = -(-address // _LARGE) * _LARGE
    end = (address + size) // _LARGE * _LARGE
    # An advice only: a system without large pages refuses it.
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_HUGEPAGE)

"""Memory that the processes of a run share if all of them are on one host, for their board."""

from __future__ import annotations

import mmap
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from argus_core.tensors.board import Board
from argus_core.tensors.processes import gather

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["close_board", "open_board"]

_FOLDER = Path("/dev/shm")  # which no two hosts share, as they may other folders
_TOKEN = 16  # bytes
_open: list[int] = []  # the descriptor of the present board's memory


def open_board(group: Any, timeout: float) -> Board | None:
    """Return a board of all processes, or ``None`` if they are on several hosts; each process calls this.

    Args:
        group: of the processes, on their CPUs.
        timeout: seconds that a process waits for another.
    """
    close_board()
    rank, count, device = distributed.get_rank(), distributed.get_world_size(), torch.device("cpu")
    size = 8 * Board.size_for(count)
    made = _made(size) if not rank else None
    path, token = gather(made, device, group)[0] or ("", "")
    memory = _mapped(path, size, bytes.fromhex(token), rank) if path else None
    is_shared = all(gather(memory is not None, device, group))
    if not rank and path:
        with suppress(OSError):
            os.unlink(path)
    if memory is None or not is_shared:
        close_board()
        return None
    return Board(memoryview(memory)[:size].cast("q"), rank, count, _is_lost, timeout)


def close_board() -> None:
    """Let the others see that this process has left the board."""
    while _open:
        os.close(_open.pop())


def _made(size: int) -> list[str] | None:
    """Return the path of a new file and the token at its end; ``None`` if the system has no such folder."""
    try:
        descriptor, path = tempfile.mkstemp(prefix="argus-", dir=_FOLDER)
    except OSError:
        return None
    token = secrets.token_bytes(_TOKEN)
    try:
        with open(descriptor, "wb") as file:
            file.write(bytes(size) + token)
    except OSError:
        os.unlink(path)
        return None
    return [path, token.hex()]


def _mapped(path: str, size: int, token: bytes, rank: int) -> mmap.mmap | None:
    """Return the memory of a file that the first process has made, unless it is another file."""
    if fcntl is None:  # pragma: no cover - Windows
        return None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    _open.append(descriptor)
    try:
        memory = mmap.mmap(descriptor, size + _TOKEN)
        if memory[size:] != token:
            return None
        # The system releases the lock with the process, however it ends.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
    except (OSError, ValueError):
        return None
    return memory


def _is_lost(rank: int) -> bool:
    """Return whether a process has ended, or has left the board."""
    if not _open:
        return True
    try:
        fcntl.lockf(_open[-1], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
    except OSError:
        return False
    fcntl.lockf(_open[-1], fcntl.LOCK_UN, 1, rank)
    return True

"""The end of a run of several processes in which one fails: all end, and one traceback says why.

The process that fails leaves a note in the store that all share and closes its connections, so that the
others' operations fail at once. They read the note. Where there is none, they say which process did not
answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import distributed

from argus_core.errors import ArgusError
from argus_core.parallel.group import release_groups, shared_store

__all__ = ["EndedByOtherError", "ending_together", "once_said"]

_FAILED, _WAITED = "argus/failed", "argus/waited"
_PATIENCE = 3.0  # seconds, for the notes of others
_LOST = (
    "Connection closed", "Connection reset", "Connection refused", "Broken pipe", "Timed out", "timed out",
    "timeout", "Socket",
)  # fmt: skip


class EndedByOtherError(ArgusError, SystemExit):
    """Another process of the run has failed, and prints its traceback; uncaught, this one prints nothing."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = 1


@contextmanager
def ending_together(release: Callable[[], object] = lambda: None) -> Iterator[None]:
    """End all processes of a run if the block fails in one.

    Args:
        release: called when it has failed, to drop what refers to the group.

    Raises:
        EndedByOtherError: it has failed in another process.
        ArgusError: another process does not answer.
    """
    rank, count = distributed.get_rank(), distributed.get_world_size()
    try:
        yield
    except Exception as error:
        if not distributed.is_initialized():  # a block inside this one has ended all processes
            raise
        store = shared_store()
        if not _is_lost(error):
            _tell(store, rank, error)
            notes = [*getattr(error, "__notes__", ()), f"in process {rank} of {count}"]
            error.__notes__ = notes  # type: ignore[attr-defined]
            release()
            release_groups()
            raise
        told: ArgusError | str = (
            f"another of {count} processes did not answer, with the store that they share"
        )
        with suppress(RuntimeError):  # it is gone with the process that keeps it
            told = _others(store, rank, count)
        release()
        release_groups()
        if isinstance(told, ArgusError):
            raise told from None
        raise ArgusError(f"{told}; its own log may say more, and the run can be resumed") from error


@contextmanager
def once_said() -> Iterator[None]:
    """End this process quietly if another one has failed with the same message, and says it.

    Raises:
        EndedByOtherError: another has.
    """
    rank, store = distributed.get_rank(), shared_store()
    try:
        yield
    except ArgusError as error:
        if isinstance(error, EndedByOtherError):
            raise
        first, kind, message = -1, "", ""
        with suppress(RuntimeError):  # the process that keeps the store may be gone
            if _has(store, _FAILED):
                first, kind, message = json.loads(store.get(_FAILED))
        if first not in (-1, rank) and (kind, message) == _described(error):
            raise EndedByOtherError(f"process {first} failed for the same reason") from error
        raise


def _is_lost(error: BaseException) -> bool:
    """Return whether an operation failed because another process has."""
    if isinstance(error, distributed.DistBackendError | distributed.DistNetworkError):
        return True
    text = str(error)
    if type(error) is not RuntimeError or text.startswith("DataLoader"):  # whose workers are of this process
        return False
    return any(each in text for each in _LOST)


def _tell(store: Any, rank: int, error: BaseException) -> None:
    note = json.dumps([rank, *_described(error)])
    with suppress(Exception):
        store.compare_set(_FAILED, "", note)


def _described(error: BaseException) -> tuple[str, str]:
    return type(error).__name__, str(error)[:2000]


def _others(store: Any, rank: int, count: int) -> ArgusError | str:
    """Return what another process has told, or which did not answer."""
    end = time.monotonic() + _PATIENCE
    store.set(f"{_WAITED}/{rank}", "1")
    while time.monotonic() < end:
        if _has(store, _FAILED):
            failed, kind, message = json.loads(store.get(_FAILED))
            return EndedByOtherError(f"process {failed} of {count} failed: {kind}: {message}")
        time.sleep(0.05)
    silent = [str(each) for each in range(count) if not _has(store, f"{_WAITED}/{each}")]
    which = f"process {', '.join(silent)} of {count}" if silent else f"another of the {count} processes"
    return f"{which} did not answer: it hangs, or was killed"


def _has(store: Any, key: str) -> bool:
    try:
        return bool(store.check([key]))
    except RuntimeError:  # the process that keeps the store is gone
        return False

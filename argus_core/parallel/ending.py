"""The end of a run of several processes in which one fails: all end, and one traceback says why.

The process that fails leaves a note in the store that all share and closes its connections, so that the
others' operations fail at once. They read the note. Where there is none, they say which process did not
answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count as counting
from typing import Any, NoReturn

from torch import distributed

from argus_core.errors import ArgusError
from argus_core.parallel.group import release_groups, shared_store

__all__ = ["EndedByOtherError", "ending_together", "ending_unless_alike", "note_signal", "noted_signal"]

_FAILED, _WAITED, _ALIKE, _SIGNAL = "argus/failed", "argus/waited", "argus/alike", "argus/signal"
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


_failures = counting()  # of blocks that may fail in all processes alike


@contextmanager
def ending_together() -> Iterator[None]:
    """End all processes of a run if the block fails in one.

    Raises:
        EndedByOtherError: it has failed in another process.
        ArgusError: another process does not answer.
    """
    try:
        yield
    except Exception as error:
        if not distributed.is_initialized():  # a block inside this one has ended all processes
            raise
        _end_all(error)


@contextmanager
def ending_unless_alike() -> Iterator[None]:
    """End all processes of a run if the block fails in some; where it fails in all, each may continue.

    Such a block loads a checkpoint, or builds a part of a model, and a script may try another one then. The
    group need not be open yet.

    Raises:
        EndedByOtherError: it has failed in another process.
        ArgusError: another process does not answer.
    """
    try:
        yield
    except Exception as error:
        if not distributed.is_initialized() or (not _is_lost(error) and _have_all_failed()):
            raise
        _end_all(error)


def note_signal(signum: int) -> None:
    """Tell the other processes of the run which signal has ended it here."""
    with suppress(RuntimeError):
        shared_store().set(_SIGNAL, str(signum))


def noted_signal() -> int:
    """Return the signal that another process has noted, or 0."""
    store = shared_store()
    return int(store.get(_SIGNAL)) if _has(store, _SIGNAL) else 0


def _end_all(error: Exception) -> NoReturn:
    store, rank, count = shared_store(), distributed.get_rank(), distributed.get_world_size()
    if not _is_lost(error):
        first = _tell(store, rank, error)
        # Of several that fail alike, one says why on a command line.
        error.told_by_other = first[:1] != [rank] and first[1:] == _said(error)  # type: ignore[attr-defined]
        notes = [*getattr(error, "__notes__", ()), f"in process {rank} of {count}"]
        error.__notes__ = notes  # type: ignore[attr-defined]
        release_groups()
        raise error
    told: ArgusError | str = f"another of {count} processes did not answer, with the store that they share"
    with suppress(RuntimeError):  # it is gone with the process that keeps it
        told = _others(store, rank, count)
    release_groups()
    if isinstance(told, ArgusError):
        raise told from None
    raise ArgusError(f"{told}; its own log may say more, and the run can be resumed") from error


def _have_all_failed() -> bool:
    """Return whether the same block has failed in all processes, which wait a moment for each other."""
    store, own = shared_store(), f"{_ALIKE}/{next(_failures)}"
    end = time.monotonic() + _PATIENCE
    with suppress(RuntimeError):
        store.set(f"{own}/{distributed.get_rank()}", "1")
        others = [f"{own}/{each}" for each in range(distributed.get_world_size())]
        while time.monotonic() < end:
            if all(_has(store, each) for each in others):
                return True
            time.sleep(0.02)
    return False


def _is_lost(error: BaseException) -> bool:
    """Return whether an operation failed because another process has."""
    if isinstance(error, distributed.DistBackendError | distributed.DistNetworkError):
        return True
    text = str(error)
    if type(error) is not RuntimeError or text.startswith("DataLoader"):  # whose workers are of this process
        return False
    return any(each in text for each in _LOST)


def _tell(store: Any, rank: int, error: BaseException) -> list[Any]:
    """Leave a note of this process's failure, unless there is one, and return the one that is there."""
    note = json.dumps([rank, *_said(error)])
    with suppress(Exception):
        first: list[Any] = json.loads(store.compare_set(_FAILED, "", note))
        return first
    return []


def _said(error: BaseException) -> list[str]:
    return [type(error).__name__, str(error)[:2000]]


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

"""DataLoader workers that ignore SIGINT, SIGTERM, SIGHUP and SIGUSR1 while a run is active.

A terminal, Slurm and systemd signal every process of a job. A worker that ended then would end the run
before it has saved a checkpoint. So the workers of a run continue, and end when the run ends.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver, resource_tracker
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from argus_core.errors import ArgusError

__all__ = [
    "SIGNALS",
    "begun",
    "leaving_signals",
    "needing_workers",
    "present_wait",
    "with_workers_that_leave_signals",
]

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # Slurm is often configured to send the last
    if hasattr(signal, name)
)
"""The signals that ask a run to end; Windows has the first two."""

_LAST_WAIT = 5.0  # seconds, for workers that were terminated as the process ends

_HAS_MASKS = hasattr(signal, "pthread_sigmask")  # Windows has none

Init = Callable[[int], None]

_waits: list[object] = []  # one item while the main thread waits for a loader
_on: Counter[int] = Counter()  # active runs, by process: a fork has its own
_shared: dict[int, Any] = {}  # the same number in memory that workers share


def leaving_signals(init: Init | None) -> Init:
    """Return a ``worker_init_fn`` that sets up the worker's signals, and then calls ``init``."""
    if isinstance(init, partial) and init.func is _start_worker:
        return init
    return partial(_start_worker, _runs(os.getpid()), os.getpid(), init)


def begun(loader: Iterable[Any]) -> Iterator[Any]:
    """Return ``iter(loader)``; a signal that arrives while workers start reaches only the run."""
    if not _HAS_MASKS:
        return iter(loader)
    if not isinstance(loader, DataLoader) or loader.num_workers == 0:
        return _waited_for(iter(loader))
    _start_servers(loader)
    with _masked(SIGNALS):  # workers inherit the mask, and `_start_worker` lifts it
        return _waited_for(iter(loader))


def present_wait() -> object | None:
    """Return an identifier of the main thread's present wait for a loader's batch, if it is waiting."""
    return next(iter(_waits), None)


def _waited_for(batches: Iterator[Any]) -> Iterator[Any]:
    if threading.current_thread() is not threading.main_thread():
        return batches
    return _noting_waits(batches)


def _noting_waits(batches: Iterator[Any]) -> Iterator[Any]:
    _waits.append(object())
    try:
        for batch in batches:
            _waits.clear()
            yield batch
            _waits.append(object())
    finally:
        _waits.clear()


@contextmanager
def _masked(signums: Iterable[int]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signums)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def needing_workers() -> Iterator[None]:
    """Mark a run as active while the block runs, so that workers ignore signals."""
    process = os.getpid()
    _count(process, 1)
    try:
        yield
    finally:
        _count(process, -1)


@contextmanager
def with_workers_that_leave_signals(*loaders: Any) -> Iterator[None]:
    """Make workers of these loaders (DataLoaders, or objects that hold them) ignore signals during a run."""
    found = [each for loader in loaders for each in _data_loaders(loader) if each.num_workers > 0]
    kept = [loader.worker_init_fn for loader in found]
    for loader in found:
        loader.worker_init_fn = leaving_signals(loader.worker_init_fn)
    try:
        yield
    finally:
        for loader, init in zip(found, kept, strict=True):
            loader.worker_init_fn = init


def _data_loaders(loader: Any) -> list[DataLoader[Any]]:
    values = loader if isinstance(loader, Mapping) else getattr(loader, "__dict__", {})
    held = [loader, *values.values()]
    return list({id(each): each for each in held if isinstance(each, DataLoader)}.values())


def _start_servers(loader: DataLoader[Any]) -> None:
    """Start multiprocessing's servers, which outlive the workers, before the workers' signal mask is set."""
    context = loader.multiprocessing_context or multiprocessing
    method = context.get_start_method()
    if method != "fork":
        with _masked(SIGNALS[2:]):  # it ignores the first two itself
            resource_tracker.ensure_running()
    if method == "forkserver":
        forkserver.ensure_running()


def _count(process: int, change: int) -> None:
    _on[process] += change
    if process in _shared:
        _shared[process].value = _on[process]


def _runs(process: int) -> Any:
    """Return the shared number of active runs in this process; its workers see it, those of a fork do not.

    Raises:
        ArgusError: shared memory cannot be allocated.
    """
    if process not in _shared:
        try:
            _shared[process] = multiprocessing.RawValue(ctypes.c_int, _on[process])
        except OSError as error:
            raise ArgusError(
                f"memory that workers share cannot be had: {error.strerror or error}; make room in the "
                "temporary folder, or choose num_workers=0"
            ) from error
        atexit.register(_end_daemons)
    return _shared[process]


def _start_worker(runs: Any, run: int, init: Init | None, worker: int) -> None:
    if os.getpid() != run:  # else the worker is a thread
        leave = partial(_leave, runs, os.getppid())
        for signum in SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                # A handler: programs that a dataset starts would inherit SIG_IGN.
                signal.signal(signum, leave)
        if _HAS_MASKS:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if init is not None:
        init(worker)


def _leave(runs: Any, parent: int, signum: int, frame: FrameType | None) -> None:
    """Ignore the signal while a run is active; else end silently, as torch's workers do."""
    if runs.value == 0 or os.getppid() != parent:
        os._exit(0)


def _end_daemons() -> None:
    """End daemon workers, since multiprocessing would wait for ever for one that hangs in C code."""
    daemons = [process for process in multiprocessing.active_children() if process.daemon]
    if not daemons:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise
    for process in daemons:
        process.terminate()
    end = time.monotonic() + _LAST_WAIT
    for process in daemons:
        process.join(max(0.0, end - time.monotonic()))
        process.kill()

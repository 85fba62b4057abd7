"""DataLoader workers that ignore SIGINT, SIGTERM, SIGHUP and SIGUSR1 while a run is active.

A terminal, Slurm and systemd signal every process of a job. A worker that ended then would end the run
before it has saved a checkpoint. So the workers of a run continue, and end when the run ends.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader, get_worker_info

from argus_core.data.lost_workers import ignore_ended, naming_lost_workers, watched
from argus_core.data.reading import own_dataset
from argus_core.errors import ArgusError

__all__ = [
    "SIGNALS",
    "begun",
    "leaving_signals",
    "needing_workers",
    "options_of_workers",
    "present_wait",
    "shared_numbers",
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


def options_of_workers(loader: DataLoader[Any]) -> dict[str, Any]:
    """Return the options of a loader's workers, who leave signals to the run."""
    if loader.num_workers == 0:
        return {}
    return {
        "num_workers": loader.num_workers,
        "timeout": loader.timeout,
        "worker_init_fn": leaving_signals(partial(_show_own_dataset, loader.worker_init_fn)),
        "multiprocessing_context": loader.multiprocessing_context,
        "prefetch_factor": loader.prefetch_factor,
        "persistent_workers": loader.persistent_workers,
    }


def _show_own_dataset(init: Init | None, worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    # User code expects its own dataset there; WorkerInfo does not allow assignments.
    object.__setattr__(info, "dataset", info.dataset.dataset)  # type: ignore[attr-defined]
    if init is not None:
        init(worker)


def begun(loader: Iterable[Any]) -> Iterator[Any]:
    """Return ``iter(loader)``; a signal that arrives while workers start reaches only the run."""
    if not isinstance(loader, DataLoader) or loader.num_workers == 0:
        return _waited_for(iter(loader))
    with _pickled_parts(loader):
        if not _HAS_MASKS:
            return _begun_workers(loader)
        _start_servers(loader)
        with _masked(SIGNALS):  # workers inherit the mask, and `_start_worker` lifts it
            return _begun_workers(loader)


def _begun_workers(loader: DataLoader[Any]) -> Iterator[Any]:
    return _waited_for(watched(iter(loader)))


def present_wait() -> object | None:
    """Return an identifier of the main thread's present wait for a loader's batch, if it is waiting."""
    return next(iter(_waits), None)


def _waited_for(batches: Iterator[Any]) -> Iterator[Any]:
    if not _HAS_MASKS or threading.current_thread() is not threading.main_thread():
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
        with naming_lost_workers():
            yield
    finally:
        for loader, init in zip(found, kept, strict=True):
            loader.worker_init_fn = init


def _data_loaders(loader: Any) -> list[DataLoader[Any]]:
    values = loader if isinstance(loader, Mapping) else getattr(loader, "__dict__", {})
    held = [loader, *values.values()]
    return list({id(each): each for each in held if isinstance(each, DataLoader)}.values())


@contextmanager
def _pickled_parts(loader: DataLoader[Any]) -> Iterator[None]:
    """Raise an error that names the part of a loader which workers of its start method cannot get.

    Raises:
        ArgusError: a part cannot be pickled.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got pickle error", UserWarning)
            yield
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        method, dataset, init = _start_method(loader), own_dataset(loader.dataset), loader.worker_init_fn
        while isinstance(init, partial):  # of `_start_worker`, which calls the user's last
            init = init.args[-1]
        parts = {
            f"the dataset {type(dataset).__name__}": dataset,
            "the collate_fn": getattr(loader.dataset, "collate", loader.collate_fn),
            "the worker_init_fn": init,
        }
        name = next((name for name, part in parts.items() if not _is_picklable(part)), None)
        if method == "fork" or name is None:
            raise
        raise ArgusError(
            f"{name} cannot be sent to workers of the start method {method!r} ({error}); define its class "
            "and functions at the top level of a module and let it open files in the worker, or choose "
            "num_workers=0"
        ) from error


def _is_picklable(part: Any) -> bool:
    try:
        ForkingPickler.dumps(part)
    except Exception:
        return False
    return True


def _start_method(loader: DataLoader[Any]) -> str:
    context = loader.multiprocessing_context or multiprocessing
    method: str = context.get_start_method()
    return method


def _start_servers(loader: DataLoader[Any]) -> None:
    """Start multiprocessing's servers, which outlive the workers, before the workers' signal mask is set."""
    method = _start_method(loader)
    if method != "fork":
        with _masked(SIGNALS[2:]):  # it ignores the first two itself
            resource_tracker.ensure_running()
    if method == "forkserver":
        forkserver.ensure_running()


def _count(process: int, change: int) -> None:
    _on[process] += change
    if process in _shared:
        _shared[process][0] = _on[process]


def _runs(process: int) -> Any:
    """Return the shared number of active runs in this process; its workers see it, those of a fork do not."""
    if process not in _shared:
        _shared[process] = shared_numbers(1)
        _shared[process][0] = _on[process]
        atexit.register(_end_daemons)
    return _shared[process]


def shared_numbers(count: int) -> Any:
    """Return an array of integers, 0 at first, in memory that workers share.

    Raises:
        ArgusError: shared memory cannot be allocated.
    """
    try:
        return multiprocessing.RawArray(ctypes.c_longlong, count)
    except OSError as error:
        raise ArgusError(
            f"memory that workers share cannot be had: {error.strerror or error}; make room in the "
            "temporary folder, or choose num_workers=0"
        ) from error


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
    if runs[0] == 0 or os.getppid() != parent:
        os._exit(0)


def _end_daemons() -> None:
    """End daemon workers, since multiprocessing would wait for ever for one that hangs in C code."""
    daemons = [process for process in multiprocessing.active_children() if process.daemon]
    if not daemons:
        return
    signal.signal(signal.SIGCHLD, ignore_ended)
    for process in daemons:
        process.terminate()
    end = time.monotonic() + _LAST_WAIT
    for process in daemons:
        process.join(max(0.0, end - time.monotonic()))
        process.kill()

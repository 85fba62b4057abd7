"""DataLoader workers that were killed or have crashed: which, how, and the samples that they were reading."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any
from weakref import WeakSet

from torch import Tensor
from torch.utils.data import DataLoader

from argus_core.errors import ArgusError

__all__ = ["Sent", "end_workers", "ignore_ended", "naming_lost_workers", "watched"]

_LONGEST_END = 1.0  # seconds, until a process that is gone has an exit code
_SHOWN = 8  # samples in a message
_LOST = "DataLoader worker"  # the beginning of torch's message

_watched: WeakSet[Any] = WeakSet()  # torch's iterators with worker processes


class Sent:
    """The batches that workers may be reading.

    Args:
        most: how many workers may have before them; earlier ones are forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._batches: dict[int, Any] = {}

    def add(self, position: int, indices: Any) -> None:
        """Add the indices of a batch, and the position of the first of them in the epoch's order."""
        self._batches[position] = indices
        if len(self._batches) > self._most:
            del self._batches[next(iter(self._batches))]

    def at(self, position: int) -> list[Any]:
        indices = self._batches.get(position, [])
        return indices.tolist() if isinstance(indices, Tensor) else list(indices)


def watched(batches: Iterator[Any]) -> Iterator[Any]:
    """Return the batches of a DataLoader with workers, and let `naming_lost_workers` look at the workers."""
    if all(isinstance(each, BaseProcess) for each in getattr(batches, "_workers", [None])):
        _watched.add(batches)
    return _to_their_end(batches)


def _to_their_end(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield batches; torch raises the exception of a worker here, also one that would pass for their end.

    Where they are not read to their end, the workers end at once: if they were left to the garbage
    collector, torch would wait 5 s for each, since the queues to them may be gone by then.

    Raises:
        ArgusError: a worker has raised StopIteration.
    """
    try:
        while True:
            try:
                batch = next(batches)
            except StopIteration as end:
                if not str(end).startswith("Caught StopIteration"):
                    return
                raise ArgusError(
                    "the loader's worker_init_fn raised StopIteration in a worker, as next() does at the end "
                    "of an iterator; catch it there"
                ) from end
            yield batch
    except (Exception, GeneratorExit) as error:
        if batches in _watched and not str(error).startswith(_LOST):  # else their exit codes are still read
            _end_own(batches)
        raise


def _end_own(batches: Any) -> None:
    # A fork has the workers of its parent.
    is_own = batches._workers and batches._workers[0]._parent_pid == os.getpid()
    if is_own and not batches._persistent_workers:
        batches._shutdown_workers()


def end_workers(loader: DataLoader[Any]) -> None:
    """End the workers of a loader whose dataset no other loader has, also persistent ones."""
    for batches in [each for each in _watched if each._dataset is loader.dataset]:
        batches._shutdown_workers()
        _watched.discard(batches)


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Raise an error that names the worker, if one was lost and the block failed for that.

    torch notices it by a signal, at any place in the program, or as a connection that is gone.

    Raises:
        ArgusError: a worker was killed, or ended by itself.
    """
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(_LOST):
            raise
        with _unheard_ends():
            lost = [each for each in map(_lost, list(_watched)) if each]
        if not lost:
            raise
        raise ArgusError(lost[0]) from error


def ignore_ended(signum: int, frame: FrameType | None) -> None:
    """Handle SIGCHLD, in place of torch's handler, which raises.

    With SIG_DFL, Python prints a traceback of a signal that has come just before.
    """


@contextmanager
def _unheard_ends() -> Iterator[None]:
    """Leave out torch's handler of ended workers, which raises wherever the program is."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGCHLD, ignore_ended)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _lost(batches: Any) -> str:
    """Return how a worker of an iterator was lost, in words, and end the others; or an empty string."""
    count = len(batches._workers)
    for worker in batches._workers:
        worker.join(_LONGEST_END / count)
    codes = {number: each.exitcode for number, each in enumerate(batches._workers) if each.exitcode}
    if not codes:
        return ""
    number, code = next(iter(codes.items()))
    text = f"worker {number} of the loader's {count} {_ended(code)}{_reading(batches, number)}"
    batches._shutdown_workers()  # else torch would raise for the lost one again, in another loader's turn
    _watched.discard(batches)
    if code == -signal.SIGKILL:
        return f"{text}; if memory ran out, choose fewer workers (num_workers) or smaller batches"
    return f"{text}; choose num_workers=0 to see where that happens"


def _ended(code: int) -> str:
    if code > 0:
        return f"ended with exit status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _reading(batches: Any, worker: int) -> str:
    """Return in words the samples of the batch that a worker began last."""
    positions = getattr(batches._dataset, "positions", None)
    sent = getattr(batches._index_sampler, "sent", None)
    if positions is None or not isinstance(sent, Sent):
        return ""
    indices = sent.at(positions[worker])
    shown = ", ".join(map(repr, indices[:_SHOWN]))
    more = f" and {len(indices) - _SHOWN} more" if len(indices) > _SHOWN else ""
    return f" while it read the samples {shown}{more}" if indices else ""

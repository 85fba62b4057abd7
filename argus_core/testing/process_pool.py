"""Pools of living processes of one group on the CPU, in which a job of several takes milliseconds.

The processes are forked, so jobs are functions of modules that are imported already, and components that
only this process has registered are there. A job that fails leaves its pool unusable.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import traceback
import weakref
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from torch import distributed

__all__ = ["Failed", "Pool", "close_all", "in_processes", "join_group"]

_PATIENCE = 60.0  # seconds, for a job
_pools: dict[int, Pool] = {}


class Failed(NamedTuple):
    """The exception that a job has raised in one process.

    Attributes:
        kind: the name of its class.
        message: its text.
        trace: its traceback.
    """

    kind: str
    message: str
    trace: str


class Pool:
    """Processes of one group on gloo.

    Args:
        count: the number of processes.
        timeout: the longest wait for each other, in seconds.
    """

    def __init__(self, count: int, timeout: float = 15) -> None:
        importlib.import_module("torch._dynamo")  # else each process does at its optimizer's first step
        folder = tempfile.mkdtemp(prefix="argus-")
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # else a fork of this process would hang
        for rank in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, count, folder, timeout, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        torch.set_num_threads(threads)
        self._ending = weakref.finalize(self, _end, os.getpid(), self._processes, self._pipes, folder)

    @property
    def is_alive(self) -> bool:
        """True until the processes have ended; a fork of the process that made the pool has none."""
        return self._ending.alive and self._processes[0]._parent_pid == os.getpid()

    def run(self, function: Callable[..., Any], *arguments: Any, may_fail: bool = False) -> list[Any]:
        """Return what ``function(*arguments)`` returns in each process; `Failed` where it raises.

        Args:
            function: of a module that was imported before the pool was made.
            arguments: that can be pickled.
            may_fail: whether an exception is a result.

        Raises:
            AssertionError: the job has failed in a process, and may not.
        """
        for pipe in self._pipes:
            pipe.send((function, arguments))
        results = [self._answer(pipe) for pipe in self._pipes]
        failed = [each for each in results if isinstance(each, Failed)]
        if failed:
            self.close()
        if failed and not may_fail:
            raise AssertionError("\n".join(each.trace for each in failed))
        return results

    def _answer(self, pipe: Connection) -> Any:
        try:
            return pipe.recv() if pipe.poll(_PATIENCE) else Failed("hang", "it did not end", "it did not end")
        except EOFError:
            return Failed("exit", "its process ended without an answer", "its process ended")

    def close(self) -> None:
        """End the processes, as happens when nothing refers to the pool any more."""
        self._ending()


def in_processes(
    count: int, function: Callable[..., Any], *arguments: Any, may_fail: bool = False
) -> list[Any]:
    """Run a job in the pool of ``count`` processes that lives until `close_all`; see `Pool.run`."""
    pool = _pools.get(count)
    if pool is None or not pool.is_alive:
        pool = _pools[count] = Pool(count)
    return pool.run(function, *arguments, may_fail=may_fail)


def join_group(rank: int, count: int, folder: str, seconds: float) -> None:
    """Join the group of processes that meet in a folder, with a timeout, in a process of one thread."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=seconds),
    )


def close_all() -> None:
    """End all processes of `in_processes`."""
    while _pools:
        _pools.popitem()[1].close()


def _end(owner: int, processes: list[Any], pipes: list[Connection], folder: str) -> None:
    if os.getpid() != owner:  # a fork, whose copies they are
        return
    for process in processes:
        process.kill()
        process.join()
    for pipe in pipes:
        pipe.close()
    shutil.rmtree(folder, ignore_errors=True)


def _serve(rank: int, count: int, folder: str, timeout: float, pipe: Connection) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_DFL if signum == signal.SIGTERM else signal.default_int_handler)
    join_group(rank, count, folder, timeout)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            result = function(*arguments)
        except BaseException as error:
            result = Failed(type(error).__name__, str(error), traceback.format_exc())
        pipe.send(result)
        if isinstance(result, Failed):
            os._exit(1)  # as a script does: the others' operations fail once its connections are closed

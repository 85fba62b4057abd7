"""Pools of living processes of one group, for the tests of several processes: a job takes milliseconds.

The processes are forked, so jobs are functions of modules that are imported already. A job that fails leaves
its pool unusable, and the next one gets another.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from torch import distributed

__all__ = ["Failed", "Pool", "close_all", "in_processes"]

_PATIENCE = 60.0  # seconds, for a job
_pools: dict[int, Pool] = {}


class Failed(NamedTuple):
    """The exception that a job has raised in one process."""

    kind: str
    message: str
    trace: str


class Pool:
    """Processes of one group on gloo."""

    def __init__(self, count: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.is_alive = True
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes = []
        torch.set_num_threads(1)  # else a fork of this process would hang
        for rank in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, count, self.folder.name, theirs), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: Any, may_fail: bool = False) -> list[Any]:
        """Return what ``function(*arguments)`` returns in each process; `Failed` where it raises."""
        for pipe in self._pipes:
            pipe.send((function, arguments))
        results = [pipe.recv() if pipe.poll(_PATIENCE) else Failed("hang", "", "") for pipe in self._pipes]
        failed = [each for each in results if isinstance(each, Failed)]
        if failed:
            self.close()
        if failed and not may_fail:
            raise AssertionError("\n".join(each.trace for each in failed))
        return results

    def close(self) -> None:
        self.is_alive = False
        for process in self._processes:
            if process.is_alive():
                process.kill()
            process.join()
        self.folder.cleanup()


def in_processes(
    count: int, function: Callable[..., Any], *arguments: Any, may_fail: bool = False
) -> list[Any]:
    """Run a job in a pool of ``count`` processes; see `Pool.run`."""
    pool = _pools.get(count)
    if pool is None or not pool.is_alive:
        pool = _pools[count] = Pool(count)
    return pool.run(function, *arguments, may_fail=may_fail)


def close_all() -> None:
    """End all processes."""
    while _pools:
        pool = _pools.popitem()[1]
        if pool.is_alive:
            pool.close()


def _serve(rank: int, count: int, folder: str, pipe: Connection) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_DFL if signum == signal.SIGTERM else signal.default_int_handler)
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=15),
    )
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

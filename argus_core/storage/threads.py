"""Threads that take work where the system has them; else the caller does the work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Threads"]

Value = TypeVar("Value")


class Threads:
    """Do work in threads, or at once where none can be started: a limit is reached, or the interpreter ends.

    The interpreter ends for a thread that trains once the main thread has come to its end.

    Args:
        most: how many.
        name: their names begin with it.
    """

    def __init__(self, most: int, name: str) -> None:
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(most, name)

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def submit(self, function: Callable[..., Value], *args: object) -> Future[Value]:
        """Return what will be the value of ``function(*args)``."""
        if self._pool is not None:
            try:
                return self._pool.submit(function, *args)
            except RuntimeError:
                self._pool.shutdown()  # what was begun before is done before
                self._pool = None
        done: Future[Value] = Future()
        try:
            done.set_result(function(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def stop(self, discard: bool = False) -> None:
        """Wait for the work that has begun, and do that which has not, unless it is discarded."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=discard)

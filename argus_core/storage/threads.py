"""A thread pool that falls back to the calling thread where no thread can be started."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Threads"]

Value = TypeVar("Value")


class Threads:
    """A thread pool; where no thread can be started, `submit` runs the work itself.

    That is so at a limit of the system, and at interpreter shutdown, which begins when the main thread ends
    although another thread may still train.

    Args:
        most: the maximum number of threads.
        name: the prefix of their names.
    """

    def __init__(self, most: int, name: str) -> None:
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(most, name)

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def submit(self, function: Callable[..., Value], *args: object) -> Future[Value]:
        """Return a future of ``function(*args)``."""
        if self._pool is not None:
            try:
                return self._pool.submit(function, *args)
            except RuntimeError:
                self._pool.shutdown()  # earlier work finishes first
                self._pool = None
        done: Future[Value] = Future()
        try:
            done.set_result(function(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def stop(self, discard: bool = False) -> None:
        """Wait for all submitted work; with ``discard``, cancel work that has not started."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=discard)

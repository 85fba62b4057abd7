"""Agreement of a run's processes between the batches of a validation, about twice a second.

A validation has no collective operation in each batch, as an update has. So the processes add up a few
numbers now and then: whether a signal has come to any of them, and how many have no more batches. The clock
of the first process travels along, from which each computes alike after how many batches the next message
goes out. A message is under way while the next batch is evaluated.

A process whose batches have ended takes part in the messages of the others until all have ended.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, distributed

__all__ = ["Watch"]

_INTERVAL = 0.5  # seconds


class Watch:
    """The messages of one validation.

    Args:
        group: of the processes, on the CPU.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self._is_first = distributed.get_rank() == 0
        self._count = distributed.get_world_size()
        self._batches = 0
        self._due = self._step = 1
        self._clock = 0.0
        self._running: tuple[Any, Tensor] | None = None
        self._is_over = False

    def after_batch(self, signalled: bool) -> bool:
        """Return whether a signal has come to any process, as far as all know that."""
        self._batches += 1
        if self._running is not None and self._finish():
            return True
        if self._batches >= self._due:
            self._start(0, signalled)
        return False

    def end(self, signalled: bool) -> bool:
        """Wait until the batches of all processes have ended; return whether a signal has come to any."""
        if self._running is not None and self._finish():
            return True
        while not self._is_over:
            self._start(1, signalled)
            if self._finish():
                return True
        return False

    def _start(self, ended: int, signalled: bool) -> None:
        clock = time.monotonic() if self._is_first else 0.0
        numbers = torch.tensor([ended, signalled, clock], dtype=torch.float64)
        self._running = distributed.all_reduce(numbers, group=self._group, async_op=True), numbers

    def _finish(self) -> bool:
        assert self._running is not None
        work, numbers = self._running
        self._running = None
        work.wait()
        ended, signals, clock = map(float, numbers.tolist())
        seconds, self._clock = clock - self._clock, clock
        # Batches take about as long as before: the step at most doubles, and all compute the same.
        wanted = int(self._step * _INTERVAL / seconds) if seconds > 0 else 2 * self._step
        self._step = max(1, min(wanted, 2 * self._step))
        self._due += self._step
        self._is_over = ended == self._count
        return signals > 0

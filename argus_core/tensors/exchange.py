"""One small reduction before an update of several processes, in which all that they must agree on travels.

Where the processes have a board (`argus_core.tensors.board`) and slices of one loader's batches, they agree
there, and the reduction is left out unless it adds up weights that they cannot know. Otherwise each update
has one: besides the weight of the window it carries who wants to stop, whose data have ended, a signal, and
the clock of the first process. So stopping costs no collective operation of its own:

- A process that wants to stop after an update asks the others before it reads another window. If all want to,
  the run ends there. Otherwise each process makes one more update, and all end after it.
- A process whose data end says so, and all must.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from argus_core.errors import ConflictError
from argus_core.tensors.board import Board
from argus_core.tensors.clock import set_shared_time
from argus_core.tensors.watch import Watch

__all__ = ["Exchange"]


class _Sum(NamedTuple):
    weight: float
    stopping: int
    ended: int
    signals: int
    forwards: int  # the most of any process


class Exchange:
    """The exchanges of one run, which every process makes in the same order.

    Args:
        group: of the processes, on the CPU, so that reading the result never waits for an accelerator.
        equal_forwards: whether a forward pass is an operation of all processes. Then each update begins with
            `begin_update`: a process that asks whether to stop waits in no forward pass of another.
        board: of the processes, if they are on one host.

    Attributes:
        board: see above.
        is_last: all processes end after the update of this exchange.
        is_signalled: a process has received a signal.
    """

    def __init__(self, group: Any, equal_forwards: bool = False, board: Board | None = None) -> None:
        self._group = group
        self.board = board
        self._rank, self._count = distributed.get_rank(), distributed.get_world_size()
        self._forwards = [0] * self._count if equal_forwards else []
        self._is_second = False
        self._running: tuple[Any, Tensor, float, Tensor | None] | None = None
        self.is_last = self.is_signalled = False

    def begin_run(self) -> None:
        """Forget what a run before this one has agreed on, and share the clock."""
        self._is_second = self.is_last = self.is_signalled = False
        self._running = None
        self._reduce(0.0, 0, 0, 0)
        if self.board is not None:
            self.board.begin_run()
            self._reduce(0.0, 0, 0, 0)

    def watch(self) -> Watch:
        """Return the messages of a validation, in which the processes agree to end."""
        return Watch(self._group)

    def end_run(self) -> None:
        """Let each process have its own clock again."""
        set_shared_time(None)

    def leave(self) -> None:
        """Drop the group, as the run has failed."""
        self._group = self._running = self.board = None
        set_shared_time(None)

    def begin_update(self, forwards: int) -> int:
        """Return the most forward passes of any process in this update, of which this one needs some.

        Raises:
            ConflictError: the data of some processes have ended.
        """
        self._forwards[self._rank] = forwards
        try:
            total = self._reduce(0.0, 0, 0, 0)
            if total.stopping and not self._is_second:
                self.is_last = True
                total = self._reduce(0.0, 0, 0, 0)
        finally:
            self._forwards[self._rank] = 0
        self._check_ended(total)
        return total.forwards

    def start(self, weight: float | Tensor) -> None:
        """Begin to add up the weights of the processes' windows; a weight on an accelerator stays there."""
        on_device = None
        if isinstance(weight, Tensor):
            if weight.is_cpu:
                weight = float(weight)
            else:
                on_device, weight = weight.detach().clone(), 0.0
                distributed.all_reduce(on_device)
        numbers = self._numbers(weight, 0, 0, 0)
        self._running = (
            distributed.all_reduce(numbers, group=self._group, async_op=True),
            numbers,
            weight,
            on_device,
        )

    def finish(self) -> float | Tensor:
        """Return the sum of the weights; the processes may agree that this update is the last.

        Raises:
            ConflictError: the data of some processes have ended.
        """
        assert self._running is not None
        work, numbers, weight, on_device = self._running
        self._running = None
        work.wait()
        total = self._read(numbers)
        if total.stopping and not self._is_second:
            self.is_last = True
            total = self._reduce(weight, 0, 0, 0)
        self._check_ended(total)
        return total.weight if on_device is None else on_device

    def all_stop(self, signalled: bool) -> bool:
        """Ask the others whether they want to stop too; otherwise the update that follows is the last."""
        total = self._reduce(0.0, 1, 0, signalled)
        if total.stopping < self._count:
            self._is_second = self.is_last = True
            return False
        return True

    def end_data(self) -> None:
        """Say that the data of this process have ended.

        Raises:
            ConflictError: those of others have not.
        """
        total = self._reduce(0.0, 0, 1, 0)
        if total.stopping and not self._is_second:
            self.is_last = True
            total = self._reduce(0.0, 0, 1, 0)
        self._is_second = False
        self._check_ended(total, own=True)

    def agree_to_stop(self, wants: bool, signalled: bool) -> bool:
        """Return whether any process wants to stop; each asks, as between two epochs."""
        total = self._reduce(0.0, int(wants), 0, signalled)
        return total.stopping > 0

    def _check_ended(self, total: _Sum, own: bool = False) -> None:
        if total.ended not in (0, self._count) or (own and not total.ended):
            raise ConflictError(
                f"the training loader has ended in {total.ended} of {self._count} processes and not in the "
                "others; give each process as many batches"
            )

    def _reduce(self, *numbers: float) -> _Sum:
        tensor = self._numbers(*numbers)
        distributed.all_reduce(tensor, group=self._group)
        return self._read(tensor)

    def _numbers(self, *numbers: float) -> Tensor:
        clock = 0.0 if self._rank else time.monotonic()
        return torch.tensor([*numbers, clock, *self._forwards], dtype=torch.float64)

    def _read(self, tensor: Tensor) -> _Sum:
        weight, stopping, ended, signals, clock, *forwards = tensor.tolist()
        set_shared_time(clock)
        self.is_signalled = self.is_signalled or signals > 0
        return _Sum(weight, int(stopping), int(ended), int(signals), int(max(forwards, default=0)))

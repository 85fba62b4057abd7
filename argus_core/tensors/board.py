"""A board in memory that the processes of one host share, on which each writes how far it is.

Reading it costs no message, so an update needs none to agree on the end of a run:

- A process that wants to stop after an update halts. It waits until each other has halted too, or has begun
  another update. If all have halted, the run ends there. Otherwise it makes one more update.
- A process that reads a wish from before its update halts too.
- A process that has begun an update makes it in any case, so all decide alike.

A process has one word of 8 bytes, written at once: its position, what it does there, and what it wants. The
first one's clock is beside it, for the last updates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from argus_core.errors import ConflictError
from argus_core.tensors.clock import set_shared_time

__all__ = ["Board"]

_BEGUN, _HALTED, _ENDED = range(3)  # an update, after an update, the data
_NEW, _OLD, _SIGNALLED = 4, 8, 16  # a wish to stop after the current update, one from before, for a signal
_BITS = 5  # of the above, below the position
_RUN = 1 << 32  # updates, more than a run has: a process of a run before this one is behind its beginning
_CLOCKS, _TAGS = 1024, 4096
_PAUSE = 0.0002  # seconds


class Board:
    """The board of one process group, all of whose processes are on one host.

    Args:
        words: shared memory of at least `size_for` words of 8 bytes, 0 at first.
        rank: of this process.
        count: of the processes.
        is_lost: returns whether the process of a rank has ended.
        timeout: seconds that a process waits for another.

    Attributes:
        is_last: all processes end after the current update.
        is_signalled: a process has received a signal.
    """

    def __init__(
        self, words: Any, rank: int, count: int, is_lost: Callable[[int], bool], timeout: float
    ) -> None:
        self._words, self._rank = words, rank
        self._others = [each for each in range(count) if each != rank]
        self._count, self._is_lost, self._timeout = count, is_lost, timeout
        self._base = self._position = self._wish = 0
        self.is_last = self.is_signalled = False

    @staticmethod
    def size_for(count: int) -> int:
        """Return the number of words for so many processes."""
        return count + _CLOCKS

    def begin_run(self) -> None:
        """Forget a run before this one; each process calls it between two messages of all."""
        self._base = self._position = (self._base // _RUN + 1) * _RUN
        self._wish = 0
        self.is_last = self.is_signalled = False
        if not self._rank:  # else the tags of the last run's times would pass for those of this one
            for place in range(self._count, self._count + _CLOCKS):
                self._words[place] = 0
        self._write(_BEGUN)

    def begin_update(self) -> None:
        """Begin an update, which this process makes whatever the others want; share the clock."""
        self._position = position = self._position + 1
        if not self._rank:
            microseconds = time.monotonic_ns() // 1000
            self._words[self._count + position % _CLOCKS] = microseconds * _TAGS + _tag(position)
        if self._wish & _NEW:
            self._wish ^= _NEW | _OLD
        self._words[self._rank] = position << _BITS | self._wish | _BEGUN
        set_shared_time(self._clock)

    def ends(self, wants: bool, signalled: bool) -> bool:
        """Return whether all processes end after the current update; it may need their answers.

        Args:
            wants: whether this process wants to.
            signalled: whether it has received a signal.
        """
        if not wants and not self._is_wished_before():
            return False
        if wants and not self._wish:
            self._wish = _NEW
        self._wish |= _SIGNALLED * signalled
        self._write(_HALTED)
        self.is_last = self._all_are(_HALTED)
        if self.is_last:
            self.is_signalled = any(self._words[rank] & _SIGNALLED for rank in range(self._count))
        return self.is_last

    def end_data(self) -> None:
        """Wait until the data of all have ended.

        Raises:
            ConflictError: some have begun another update.
        """
        self._write(_ENDED)
        if not self._all_are(_ENDED):
            words = [self._words[rank] for rank in range(self._count)]
            ended = sum(word % 4 == _ENDED and word >> _BITS == self._position for word in words)
            raise ConflictError(
                f"the training loader has ended in {ended} of {self._count} processes and not in the others; "
                "give each process as many batches"
            )

    def _write(self, kind: int) -> None:
        self._words[self._rank] = self._position << _BITS | self._wish | kind

    def _is_wished_before(self) -> bool:
        """Return whether a process has wanted to stop after an update before the current one."""
        if self._wish:
            return True
        for rank in self._others:
            word = self._words[rank]
            position = word >> _BITS
            is_old = word & _OLD or (word & _NEW and position < self._position)
            if is_old and position > self._base:
                return True
        return False

    def _all_are(self, kind: int) -> bool:
        """Wait for each other process; return whether all have done ``kind`` after the current update.

        A process that has halted waits for one that has begun another update, or whose data have ended.
        """
        for rank in self._others:
            word = self._wait(rank, kind)
            if word >> _BITS != self._position or word % 4 != kind:
                return False
        return True

    def _wait(self, rank: int, kind: int) -> int:
        """Return the word of another process once it is decided beside ``kind`` of this one."""
        begun = time.monotonic()
        for number in range(10**9):
            word: int = self._words[rank]
            position = word >> _BITS
            if position > self._position or (position == self._position and word % 4 >= max(kind, _HALTED)):
                return word
            self._pause(rank, number, begun)
        raise AssertionError

    def _pause(self, rank: int, number: int, begun: float) -> None:
        time.sleep(_PAUSE)
        if number % 50 == 49 and self._is_lost(rank):
            raise RuntimeError(f"Connection closed by process {rank}")
        if time.monotonic() - begun > self._timeout:
            raise RuntimeError(f"Timed out waiting {self._timeout:g} s for process {rank}")

    def _clock(self) -> float:
        """Return the time at which the first process has begun the current update."""
        begun, position = time.monotonic(), self._position
        for number in range(10**9):
            word: int = self._words[self._count + position % _CLOCKS]
            if word % _TAGS == _tag(position):
                break
            self._pause(0, number, begun)
        return word // _TAGS / 1e6


def _tag(position: int) -> int:
    return (position // _CLOCKS + 1) % _TAGS

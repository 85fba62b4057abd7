"""The generators that a dataset draws from, found out while it is read.

1. The first samples are read with every generator seeded before each of them, which shows from which
   of them the dataset draws. Nothing is read twice for that.
2. From then on only those are seeded. The others are looked at once a batch: if one has moved, the dataset
   draws from it too, and the batch is read again with it seeded.
3. A dataset that changes as it is read, or that holds objects which do not show whether they change, is never
   read twice: every generator is seeded before each of its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from argus_core.data.holdings import Holdings
from argus_core.tensors.generators import Source, global_sources, source_of

__all__ = ["Draws"]


class Draws:
    """From which generators a dataset draws, as far as this process has seen.

    Args:
        roots: the dataset, and other objects that reading calls.

    Attributes:
        seeded: the generators to seed before each sample.
        is_new: no samples have been read yet, so `judge` is to be called after the first ones.
    """

    def __init__(self, *roots: Any) -> None:
        self._roots = roots
        self._begin(Holdings(*roots))

    def _begin(self, holdings: Holdings) -> None:
        own = [source_of(generator, number) for number, generator in enumerate(holdings.generators)]
        self.is_new = True
        self._before = holdings
        self._sources: list[Source] = [*global_sources(), *own]
        self._witnesses = [_Witness(source) for source in self._sources]
        self._watched: list[Source] = []
        self.seeded: Sequence[Any] = self._witnesses
        for source in self._sources:
            source.keep()

    def keep(self) -> None:
        """Remember the state of all generators, since the run uses some of them too."""
        self._kept, self._watched_before = self._sources, self._watched
        for source in self._kept:
            source.keep()

    def restore(self, is_read: bool) -> None:
        """Restore the generators that were seeded, or all of them if a batch was not read to its end."""
        for source in self._kept:
            if not (is_read and source in self._watched and source in self._watched_before):
                source.restore()

    def learn(self) -> bool:
        """Return whether the dataset has drawn from generators that were not seeded; they are from now on."""
        moved = [source for source in self._watched if source.moved()]
        if moved:
            self.seeded = [*self.seeded, *moved]
            self._watched = [source for source in self._watched if source not in moved]
        return bool(moved)

    def judge(self) -> bool:
        """Decide after the first samples what to seed; return whether they are to be read again."""
        before, after = self._before, Holdings(*self._roots)
        changed = after.changed(before)
        new = [value for value in after.generators if not any(value is each for each in before.generators)]
        is_remade = bool(new) and all(any(value is each for each in new) for value in changed)
        if after.is_whole and is_remade:  # the dataset has made generators as it was read first
            self._begin(after)
            return True
        self.is_new = False
        if after.is_whole and not changed:
            self.seeded = [witness.source for witness in self._witnesses if witness.has_moved()]
            self._watched = [source for source in self._sources if source not in self.seeded]
            for source in self._watched:
                source.restore()
        else:
            self._begin(after)
            self.is_new, self.seeded = False, self._sources
        return False


class _Witness:
    """Sees whether a generator moves between one seeding and the next."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._mark: Any = None
        self._has_moved = False

    def seed(self, seed: int) -> None:
        if not self.has_moved():
            self.source.seed(seed)
            self._mark = self.source.peek()
        else:
            self.source.seed(seed)

    def has_moved(self) -> bool:
        """Return whether numbers were drawn after any seeding."""
        if not self._has_moved and self._mark is not None:
            self._has_moved = self.source.differs(self._mark)
        return self._has_moved

"""The order of an epoch: the indices of the samples in each batch, a function of (seed, epoch).

The order of torch's own samplers is drawn as a tensor, which takes 8 bytes a sample. Other samplers are read
as the epoch proceeds. They draw from the same generators as the run, so the states are exchanged meanwhile.
"""

from __future__ import annotations

import array
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from argus_core.data.lost_workers import Sent
from argus_core.data.reading import Chosen
from argus_core.data.samplers import held, is_of_torch, order_of
from argus_core.data.slices import Share, slice_of
from argus_core.tensors.generators import global_sources, source_of
from argus_core.tensors.rng import kept_random_state, key_seed, seed_all, seeded

__all__ = ["EpochOrder"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # in the representation of an object, of this process only
_LONGEST_COUNT = 19  # digits, of batches; a checkpoint may say anything
_BATCHES = 32  # that are read from a sampler at once; exchanging generators takes 100 us


class EpochOrder:
    """A batch sampler that gives the samples of an epoch's batches, from any batch on.

    Args:
        batches: the batch sampler of a DataLoader.
        seed: of the order.
        as_tensors: give indices as tensors, where they are.
        waiting: how many batches workers may have before them.
        share: of this process in each batch, in a run of several.

    Attributes:
        epoch: the one whose batches an iteration gives.
        skip: how many of its batches it leaves out.
        sent: the indices of the last batches of the iteration that began last.
        cut: for each of its batches that is not read yet, the indices of all processes, and whether this one
            has a copied sample only.
    """

    def __init__(
        self, batches: Any, seed: int, as_tensors: bool, waiting: int = 0, share: Share | None = None
    ) -> None:
        self.epoch = self.skip = 0
        self.sent = Sent(waiting)
        self._waiting = waiting
        self._share = share
        self.cut: deque[tuple[Any, bool]] = deque()
        self._seed = seed
        self._batches = batches
        self._as_tensors = as_tensors
        self._is_of_torch = is_of_torch(batches)
        self._drawn: tuple[int, Tensor | range] | None = None
        self._read: tuple[int, _Fingerprint] | None = None

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Chosen]:
        self.sent, self.cut = Sent(self._waiting), deque()
        return self._chosen(self.epoch, self.skip, self.sent)

    def sampler_name(self) -> str:
        return " over ".join(type(sampler).__name__ for sampler in held(self._batches)[0])

    def fingerprint(self, epoch: int) -> str | None:
        """Return a fingerprint of the order, as far as it is known; ``None`` before the epoch has begun."""
        if self._is_of_torch:
            if self._drawn is None or self._drawn[0] != epoch:
                return None
            return str(_Fingerprint(self._indices(epoch)))
        return str(self._read[1]) if self._read is not None and self._read[0] == epoch else None

    def has(self, epoch: int, fingerprint: str) -> bool:
        """Return whether the order of an epoch has a fingerprint, which an earlier release may have taken.

        A sampler of another class is read twice: one that counts its epochs gives another order then.
        """
        return all(self._agrees(epoch, fingerprint) for _ in range(1 if self._is_of_torch else 2))

    def _agrees(self, epoch: int, fingerprint: str) -> bool:
        count, _, digest = fingerprint.rpartition(":")
        if count:
            is_number = count.isdecimal() and len(count) < _LONGEST_COUNT
            return is_number and str(_Fingerprint(islice(self._indices(epoch), int(count)))) == fingerprint
        if not hasattr(self._batches, "__len__"):  # it may have no end, and had no fingerprint then
            return False
        whole = blake2b(digest_size=16)
        for batch in self._indices(epoch):
            whole.update(repr(_listed(batch)).encode())
        return whole.hexdigest() == digest

    def _chosen(self, epoch: int, skip: int, sent: Sent) -> Iterator[Chosen]:
        if self._is_of_torch:
            position = skip * self._batches.batch_size
            batches = self._indices(epoch, skip)
        else:
            read = _Fingerprint()
            self._read = epoch, read
            batches = read.through(self._indices(epoch))
            position = sum(map(len, islice(batches, skip)))
        for batch in batches:
            own, start = batch, position
            if self._share is not None:
                first, end, is_silent = slice_of(len(batch), self._share)
                self.cut.append((batch, is_silent))
                own, start = batch[first:end], position + first
            sent.add(start, own)
            yield Chosen(epoch, start, own if self._as_tensors else _listed(own))
            position += len(batch)

    def _indices(self, epoch: int, skip: int = 0) -> Iterator[Sequence[Any] | Tensor]:
        if not self._is_of_torch:
            return _read_in_turn(self._batches, self._seed, epoch)
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = None  # the next one needs the memory
            with _seeded_samplers(self._batches, self._seed, epoch):
                self._drawn = epoch, order_of(self._batches.sampler)
        return self._cut(self._drawn[1], skip)

    def _cut(self, order: Tensor | range, skip: int) -> Iterator[Sequence[Any] | Tensor]:
        """Yield the batches of an order without the first ``skip``."""
        size = self._batches.batch_size
        end = len(order) - len(order) % size if self._batches.drop_last else len(order)
        own = getattr(self._batches.sampler, "indices", None)
        for start in range(skip * size, end, size):
            batch = order[start : min(start + size, end)]
            if own is not None:
                yield [own[place] for place in _listed(batch)]
            else:
                yield torch.arange(batch.start, batch.stop) if isinstance(batch, range) else batch


class _Fingerprint:
    """The digest of batches of indices, and their number."""

    def __init__(self, batches: Iterable[Any] = ()) -> None:
        self._digest = blake2b(digest_size=16)
        self._count = 0
        for _ in self.through(batches):
            pass

    def through(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches, each once it is in the digest."""
        for batch in batches:
            self._count += 1
            self._digest.update(len(batch).to_bytes(8, "little") + _bytes(batch))
            yield batch

    def __str__(self) -> str:
        return f"{self._count}:{self._digest.hexdigest()}"


def _bytes(batch: Any) -> bytes:
    if isinstance(batch, Tensor):
        return batch.numpy().tobytes()
    try:
        return array.array("q", batch).tobytes()
    except (TypeError, OverflowError):  # other keys than integers
        return _ADDRESS.sub("", repr(batch)).encode()


def _listed(batch: Any) -> Sequence[Any]:
    return batch.tolist() if isinstance(batch, Tensor) else list(batch)


@contextmanager
def _seeded_samplers(batches: Any, seed: int, epoch: int) -> Iterator[None]:
    """Seed what samplers draw from, and tell them the epoch; restore all generators when the block ends."""
    samplers, generators = held(batches)
    for sampler in samplers:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
    with ExitStack() as stack:
        stack.enter_context(kept_random_state())
        seed_all(key_seed(seed, epoch))
        for number, generator in enumerate(generators):
            # Generators after the first get different seeds, else their numbers would be correlated.
            key = (seed, epoch, number) if number else (seed, epoch)
            stack.enter_context(seeded(generator, key_seed(*key)))
        yield


def _read_in_turn(batches: Any, seed: int, epoch: int) -> Iterator[Any]:
    """Yield the batches of samplers, which may draw at any time from generators that other code uses too."""
    sources = [*global_sources(), *(source_of(each, 0) for each in held(batches)[1])]
    with _seeded_samplers(batches, seed, epoch):
        waiting = iter(batches)
        read = list(islice(waiting, _BATCHES))
        states = [source.get() for source in sources]
    while read:
        yield from read
        for source in sources:
            source.keep()
        try:
            for source, state in zip(sources, states, strict=True):
                source.put(state)
            read = list(islice(waiting, _BATCHES))
            states = [source.get() for source in sources]
        finally:
            for source in sources:
                source.restore()

"""Pieces of tensors: the part of a tensor that one process holds, and the places of parts in the whole.

A process that saves a folder of shards gives its own tensors by name. A plain tensor is one that every
process holds whole, and one of them writes it. A `Piece` is a part of a larger tensor: together, the pieces
of all processes make up the tensor, and none overlaps another. Every process gives the same names; a process
that holds nothing of a tensor gives a piece without elements.

This module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ALONE", "Box", "Group", "Piece", "even_part", "is_cover", "whole"]


@dataclass(frozen=True)
class Box:
    """A part of a tensor: where it begins in the whole in each dimension, and its shape."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def overlap(self, other: Box) -> Box | None:
        """Return the part that both have in common, or None."""
        begins = tuple(map(max, self.offset, other.offset))
        ends = tuple(map(min, self._ends, other._ends))
        shape = tuple(end - begin for begin, end in zip(begins, ends, strict=True))
        return Box(begins, shape) if all(length > 0 for length in shape) else None

    def inside(self, outer: Box) -> tuple[slice, ...]:
        """Return the slices of this part in a tensor that holds the part ``outer``."""
        return tuple(
            slice(begin - start, begin - start + length)
            for begin, start, length in zip(self.offset, outer.offset, self.shape, strict=True)
        )

    def fits(self, shape: Sequence[int]) -> bool:
        """Return whether the part lies in a tensor of this shape."""
        return len(self.shape) == len(self.offset) == len(shape) and all(
            begin >= 0 and length >= 0 and begin + length <= end
            for begin, length, end in zip(self.offset, self.shape, shape, strict=True)
        )

    @property
    def _ends(self) -> tuple[int, ...]:
        return tuple(begin + length for begin, length in zip(self.offset, self.shape, strict=True))


@dataclass(frozen=True)
class Piece:
    """The part of a larger tensor that this process holds.

    Attributes:
        tensor: the part itself, on any device; it may have no elements.
        shape: of the whole tensor.
        offset: where the part begins in the whole, in each dimension.
    """

    tensor: Tensor
    shape: tuple[int, ...]
    offset: tuple[int, ...]

    @property
    def box(self) -> Box:
        """The place of the part in the whole."""
        return Box(self.offset, tuple(self.tensor.shape))


@dataclass(frozen=True)
class Group:
    """The processes that write a folder together; see `argus_core.tensors.processes.saving_group`.

    Attributes:
        rank: of this process.
        count: of the processes.
        gather: returns the values of all processes, plain data, in the order of their ranks; each calls it.
    """

    rank: int
    count: int
    gather: Callable[[Mapping[str, Any]], list[Mapping[str, Any]]]


ALONE = Group(0, 1, lambda value: [value])
"""One process without others."""


def whole(shape: Sequence[int]) -> Box:
    """Return the whole of a tensor of this shape, as a part."""
    return Box((0,) * len(shape), tuple(shape))


def even_part(shape: Sequence[int], dimension: int, number: int, count: int) -> Box:
    """Return a process's part of a tensor that is split as `torch.chunk` does, as FSDP's are.

    Args:
        shape: of the whole tensor, of at least one dimension.
        dimension: the one that is split.
        number: of the process, from 0.
        count: of the processes.
    """
    length = shape[dimension]
    step = -(-length // count)
    begin = min(number * step, length)
    end = min(begin + step, length)
    offset, part = [0] * len(shape), [*shape]
    offset[dimension], part[dimension] = begin, end - begin
    return Box(tuple(offset), tuple(part))


def is_cover(shape: Sequence[int], parts: Sequence[Box]) -> bool:
    """Return whether parts make up a tensor of this shape, without holes and overlaps."""
    parts = [part for part in parts if part.count]
    if not all(part.fits(shape) for part in parts):
        return False
    if sum(part.count for part in parts) != math.prod(shape):
        return False
    return not _any_overlap(parts, len(shape))


def _any_overlap(parts: Sequence[Box], dimensions: int) -> bool:
    """Return whether two parts overlap: a sweep along the dimension that separates them best."""
    if len(parts) < 2 or not dimensions:
        return len(parts) > 1
    along = max(range(dimensions), key=lambda axis: len({part.offset[axis] for part in parts}))
    active: list[Box] = []
    for part in sorted(parts, key=lambda each: each.offset[along]):
        begin = part.offset[along]
        active = [each for each in active if each.offset[along] + each.shape[along] > begin]
        if any(part.overlap(each) for each in active):
            return True
        active.append(part)
    return False

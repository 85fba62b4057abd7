"""The layout of a folder of shards: which process writes what, agreed by all of them from one exchange."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from argus_core.errors import ParamsError
from argus_core.storage import payload
from argus_core.storage.entry import Entry
from argus_core.storage.folder_manifest import Place
from argus_core.storage.manifest import canonical
from argus_core.storage.pieces import Box, Group, Piece, even_part, is_cover

__all__ = ["Layout", "Plan"]

Described = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """The layout of a folder, as one process sees it.

    Attributes:
        own: the tensors that this process writes, wide dtypes first.
        offsets: where those of them that are pieces begin in the whole.
        entries: of all whole tensors, by name.
        places: of all tensors.
        aliases: the other names of tensors that are stored once.
    """

    own: dict[str, Tensor]
    offsets: dict[str, list[int]]
    entries: dict[str, Entry]
    places: dict[str, Place]
    aliases: dict[str, str]


class Plan:
    """The tensors of one process for a folder, and the layout that follows from those of all.

    Args:
        tensors: see `folder_writer.write_folder`.
        group: the processes.

    Raises:
        ParamsError: a tensor or its name cannot be stored, or a piece does not lie in its tensor.
    """

    def __init__(self, tensors: Mapping[str, Tensor | Piece], group: Group) -> None:
        self._group = group
        self._boxes: dict[str, Box] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        local: dict[str, Tensor] = {}
        for name, given in tensors.items():
            local[name] = _tensor(name, given)
            if isinstance(given, Piece):
                self._boxes[name], self._shapes[name] = _checked(name, given), tuple(given.shape)
        kept, aliases = payload.stored_once(local)
        self._tensors = {name: kept[aliases.get(name, name)] for name in local}
        # One memory may hold pieces of several tensors.
        self._aliases = {
            alias: name
            for alias, name in aliases.items()
            if (self._boxes.get(alias), self._shapes.get(alias))
            == (self._boxes.get(name), self._shapes.get(name))
        }
        self._owners = {name: self._aliases.get(name, name) for name in local}
        self._entries = {name: self._entry(name) for name in local}

    def description(self) -> dict[str, Any]:
        """Return what the other processes need to know; it does not grow with the number of tensors.

        Only tensors that are not evenly split in their first dimension are listed.
        """
        forms = [
            [name, entry.dtype, entry.shape, name in self._boxes]
            for name, entry in sorted(self._entries.items())
        ]
        return {
            "count": len(forms),
            "forms": zlib.crc32(canonical(forms)),
            "aliases": self._aliases if self._group.rank == 0 else {},
            "uneven": {
                name: [list(box.offset), list(box.shape)]
                for name, box in self._boxes.items()
                if not self._is_even(name, box, 0, self._group.rank)
            },
        }

    def layout(self, described: Sequence[Described]) -> Layout:
        """Return the layout that follows from the descriptions of all processes, in the order of their ranks.

        Raises:
            ParamsError: they do not fit together.
        """
        _check_same(described)
        aliases = dict(described[0]["aliases"])
        self._check_aliases(aliases)
        entries = {name: entry for name, entry in self._entries.items() if name not in aliases}
        places = dict(self._places(entries, described))
        rank = self._group.rank
        own = [
            name
            for name in entries
            if (name in self._boxes and self._boxes[name].count) or places[name].get("shard") == rank
        ]
        own.sort(key=lambda name: (-entries[name].alignment, name))
        return Layout(
            {name: self._tensors[name] for name in own},
            {name: list(self._boxes[name].offset) for name in own if name in self._boxes},
            {
                name: entries[name]
                for name in sorted(entries, key=lambda name: (-entries[name].alignment, name))
            },
            places,
            aliases,
        )

    def _entry(self, name: str) -> Entry:
        entry = payload.entry_of(self._tensors[name])
        return replace(entry, shape=self._shapes[name]) if name in self._shapes else entry

    def _is_even(self, name: str, box: Box, dimension: int, rank: int) -> bool:
        if not box.shape:
            return False
        part = even_part(self._shapes[name], dimension, rank, self._group.count)
        return box == part or box.count == part.count == 0

    def _check_aliases(self, aliases: Mapping[str, str]) -> None:
        """Check that names of one tensor in the first process are so here, lest a tensor be lost."""
        for alias, name in aliases.items():
            if self._owners[alias] != self._owners[name] and self._tensors[alias].numel():
                raise ParamsError(
                    f"{alias!r} and {name!r} are one tensor in the first process and two in process "
                    f"{self._group.rank}; tie them in all processes, or in none"
                )

    def _places(
        self, entries: Mapping[str, Entry], described: Sequence[Described]
    ) -> Iterator[tuple[str, Place]]:
        uneven = {name for each in described for name in each["uneven"]}
        for name in self._boxes.keys() & entries.keys():
            yield name, self._place_of_uneven(name, described) if name in uneven else {"split": 0}
        # The largest first, each to the process with the least so far.
        loads = [(0, rank) for rank in range(self._group.count)]
        whole = [name for name in entries if name not in self._boxes]
        for name in sorted(whole, key=lambda name: (-entries[name].size, name)):
            load, rank = loads[0]
            heapq.heapreplace(loads, (load + entries[name].size, rank))
            yield name, {"shard": rank}

    def _place_of_uneven(self, name: str, described: Sequence[Described]) -> Place:
        shape, count = self._shapes[name], self._group.count
        boxes = [
            Box(tuple(each["uneven"][name][0]), tuple(each["uneven"][name][1]))
            if name in each["uneven"]
            else even_part(shape, 0, rank, count)
            for rank, each in enumerate(described)
        ]
        for dimension in range(1, len(shape)):
            if all(self._is_even(name, box, dimension, rank) for rank, box in enumerate(boxes)):
                return {"split": dimension}
        if not is_cover(shape, boxes):
            raise ParamsError(
                f"the processes' pieces of {name!r} do not make up a tensor of the shape {list(shape)} "
                "without "
                "holes and overlaps; give each part of it once, in one process"
            )
        return {}


def _tensor(name: str, given: Tensor | Piece) -> Tensor:
    tensor: object = given.tensor if isinstance(given, Piece) else given
    if not isinstance(tensor, Tensor):
        raise ParamsError(
            f"{name!r} is of type {type(tensor).__name__}; give a tensor, and keep other data in the manifest"
        )
    return tensor


def _checked(name: str, piece: Piece) -> Box:
    box = piece.box
    if not box.fits(tuple(piece.shape)):
        raise ParamsError(
            f"the piece of {name!r} of the shape {list(box.shape)} at {list(box.offset)} does not lie in a "
            "tensor "
            f"of the shape {list(piece.shape)}; give the whole tensor's shape, and where the piece begins "
            "in it"
        )
    return box


def _check_same(described: Sequence[Described]) -> None:
    first = described[0]
    for rank, each in enumerate(described):
        if (each["count"], each["forms"]) != (first["count"], first["forms"]):
            raise ParamsError(
                f"process {rank} saves other tensors than the first one ({each['count']} and "
                f"{first['count']}, or "
                "others by name, dtype or shape); build the same model in all processes"
            )

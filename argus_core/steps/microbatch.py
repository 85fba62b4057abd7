"""Micro-batches: one loader batch goes through the network in parts, to fit the memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from argus_core.batch import deep_chunk, deep_split
from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl

__all__ = ["Microbatch"]


class Microbatch:
    """Cuts each loader batch into micro-batches whose weighted gradients add up to those of the whole.

    Args:
        chunks: into how many nearly equal parts; or
        size: how many samples to a part.
    """

    def __init__(self, chunks: int | None = None, size: int | None = None) -> None:
        given = {"chunks": chunks, "size": size}
        chosen = {name: value for name, value in given.items() if value is not None}
        if len(chosen) != 1 or any(type(value) is not int or value < 1 for value in chosen.values()):
            raise ParamsError(f"microbatch takes either chunks >= 1 or size >= 1, not {given}")
        self.chunks = chunks
        self.size = size

    @hookimpl
    def split_window(self, window: Sequence[Any]) -> Sequence[Any]:
        return [part for batch in window for part in self._split(batch)]

    def _split(self, batch: Any) -> list[Any]:
        if self.chunks is not None:
            return deep_chunk(batch, self.chunks)
        assert self.size is not None
        return deep_split(batch, self.size)

"""Micro-batches: a loader batch goes through the network in parts, so that it fits into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl
from argus_core.steps.numbers import is_count
from argus_core.steps.weights import method_of
from argus_core.storage.stored import Rule, check_fits
from argus_core.tensors.batch import deep_split
from argus_core.tensors.dimensions import BatchDim
from argus_core.tensors.samples import batch_size

__all__ = ["Microbatch"]

_SIZE = Rule(lambda value: value is None or is_count(value), "an integer from 1 up, or None")
_RULES = {
    "given": Rule(
        lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(_SIZE.holds, value)),
        "a pair of integers from 1 up, or None",
    ),
    "chunks": _SIZE,
    "size": _SIZE,
}


class Microbatch:
    """Micro-batches: parts of a loader batch whose weighted gradients add up to those of the whole batch.

    Args:
        chunks: the number of nearly equal parts; or
        size: the number of samples in a part.
        halve_on_oom: whether to halve the parts for the rest of the run, and log it, each time the device
            runs out of memory; the update then starts over. ``chunks=1`` starts with whole batches.
    """

    def __init__(
        self, chunks: int | None = None, size: int | None = None, halve_on_oom: bool = False
    ) -> None:
        given = [value for value in (chunks, size) if value is not None]
        if len(given) != 1 or not is_count(given[0]):
            raise ParamsError(
                f"step 'microbatch': chunks is {chunks!r} and size is {size!r}; give one of them, an integer "
                "of at least 1 (parts, or samples in each)"
            )
        self.chunks = chunks
        self.size = size
        if type(halve_on_oom) is not bool:
            raise ParamsError(f"step 'microbatch': halve_on_oom is {halve_on_oom!r}; give True or False")
        self.halve_on_oom = halve_on_oom
        self._given = (chunks, size)
        self._largest = 0  # samples in the largest micro-batch of this window
        self._logger = logging.getLogger(__name__)
        self._batch_size: Callable[[Any], int] = batch_size
        self._batch_dim: BatchDim = None

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        self._logger = model.logger
        self._batch_size, self._batch_dim = method_of(model, "batch_size"), model.batch_dim

    def traits(self, model: AbstractModel) -> set[str]:
        """Return ``{"halve_on_oom"}`` if an update may start over in one process alone."""
        return {"halve_on_oom"} if self.halve_on_oom else set()

    @hookimpl
    def split_window(self, window: Sequence[Any]) -> Sequence[Any]:
        parts: list[Any] = []
        if self.size is not None and not self.halve_on_oom:
            for batch in window:
                parts += deep_split(batch, self.size, self._batch_dim, self._batch_size)
            return parts
        self._largest = 0
        for batch in window:
            samples = self._batch_size(batch)
            size = self.size if self.size is not None else -(-samples // (self.chunks or 1)) or 1
            parts += deep_split(batch, size, self._batch_dim, self._batch_size)
            self._largest = max(self._largest, min(size, samples))
        return parts

    @hookimpl
    def out_of_memory(self) -> bool:
        if not self.halve_on_oom or self._largest <= 1:
            return False
        self.chunks, self.size = None, (self._largest + 1) // 2
        self._logger.warning(
            "the device ran out of memory with micro-batches of %d samples; they have %d from now on",
            self._largest,
            self.size,
        )
        return True

    @hookimpl
    def state_dict(self) -> dict[str, Any]:
        kept = {"given": self._given, "chunks": self.chunks, "size": self.size}
        return kept if self.halve_on_oom else {}

    @hookimpl
    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_fits(state, _RULES)
        if self.halve_on_oom and state["given"] == self._given:  # else the options have changed since
            self.chunks, self.size = state["chunks"], state["size"]

"""The engine of one process, which adds nothing to an update; every model imports it, so it is small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from argus_core.tensors.single_process import started_processes

__all__ = ["Single", "alike_in_all"]


class Single:
    """One process trains the model; a run of several refuses it, and every engine is this one otherwise."""

    name: ClassVar[str] = "single"
    conflicts: ClassVar[Mapping[str, str]] = {}
    several = builds_on_meta = equal_forwards = is_sharded = sharded_already = False
    timeout = 30.0
    exchange: Any = None
    silent = ()

    def wrap(self, model: Any) -> None:
        """Leave the network as it is."""

    def reduce_gradients(self, model: Any) -> None:
        """Leave the gradients as they are."""

    def traits(self, model: Any) -> set[str]:
        """Return no traits."""
        return set()

    def local(self, tensor: Any) -> Any:
        """Return the tensor itself."""
        return tensor

    def place(self, target: Any, value: Any) -> Any:
        """Return the value itself."""
        return value

    def whole(self, tensor: Any) -> Any:
        """Return the tensor itself."""
        return tensor

    def holding(self, tensors: Any, values: Any) -> Any:
        """Let tensors hold other values for a while; see `AbstractParallel.holding`."""
        from argus_core.tensors.swapped import swapped  # lazy: this module is in every import of a model

        return swapped(tensors, values)

    def notes(self, model: Any) -> Iterator[str]:
        """Yield no lines."""
        return iter(())


def alike_in_all() -> AbstractContextManager[None]:
    """Return a context that ends all processes of a run if it fails in some, and not if it fails in all."""
    if started_processes() == 1:
        return nullcontext()
    from argus_core.parallel.ending import ending_unless_alike  # lazy: most runs have one process

    return ending_unless_alike()

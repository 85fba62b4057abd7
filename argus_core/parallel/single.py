"""The engine of one process, which adds nothing to an update."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from argus_core.parallel.engine import AbstractParallel

if TYPE_CHECKING:
    from argus_core.abstract_model import AbstractModel

__all__ = ["Single"]


class Single(AbstractParallel):
    """One process trains the model; a run of several refuses it, and every engine is this one otherwise."""

    name: ClassVar[str] = "single"

    def __init__(self) -> None:
        super().__init__()

    @property
    def several(self) -> bool:
        return False

    def wrap(self, model: AbstractModel) -> None:
        pass

    def reduce_gradients(self, model: AbstractModel) -> None:
        pass

    def traits(self, model: AbstractModel) -> set[str]:
        return set()

    def notes(self, model: AbstractModel) -> Iterator[str]:
        return iter(())

"""The interface of a step strategy that keeps parameters frozen for a part of the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from typing import Any

from argus_core.abstract_model import AbstractModel

__all__ = ["AbstractUnfreezing"]


class AbstractUnfreezing(ABC):
    """Abstract: a step strategy that keeps parameters frozen for a part of the run, and then trains them.

    The optimizer has them from the beginning. `Model` asks it while the model is built.
    """

    unfreezes = True

    @abstractmethod
    def covers(self, name: str) -> bool:
        """Return whether it is this strategy that freezes a parameter or buffer of that name."""

    @abstractmethod
    def held(self) -> Collection[str]:
        """Return the names of the parameters that are frozen now, and trained later."""

    @abstractmethod
    def hold(self, model: AbstractModel) -> None:
        """Freeze the parameters of a model whose optimizer has been built, as far as they are not due."""

    @abstractmethod
    def notes(self) -> Iterator[str]:
        """Yield lines that say which parameters are frozen, and how long."""

    @abstractmethod
    def run_callback(self, updates: int | None, epochs: int | None) -> Any:
        """Return a callback that tells the strategy of the epochs and of the length of a run, if known."""

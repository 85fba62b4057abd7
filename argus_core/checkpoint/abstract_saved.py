"""What a checkpoint holds, whatever its format: what those who restore from it may ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

__all__ = ["AbstractSaved"]


class AbstractSaved(ABC):
    """What a checkpoint holds, whatever its format; tensors are read when they are asked for."""

    model: Mapping[str, Any]
    components: Mapping[str, Any]

    @abstractmethod
    def params(self) -> dict[str, Any]:
        """Return the model's params."""

    @abstractmethod
    def size(self) -> int:
        """Return the bytes that the file, or the network's state, has: of what it claims, what is there."""

    @abstractmethod
    def module_state(
        self,
        slot: str,
        into: Mapping[str, Tensor] | None = None,
        check: Callable[[Mapping[str, str]], None] | None = None,
    ) -> dict[str, Any]:
        """Return the state dict of a part, empty where it has none.

        Args:
            slot: the part's.
            into: tensors that may take the values of those of the same name and form, and stand for them.
            check: called with the forms of all values (see `forms.form_of`) before they are read; may raise.
        """

    @abstractmethod
    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the state of those step strategies among ``names`` that had some."""

    @abstractmethod
    def optimizer_state(
        self, check: Callable[[dict[str, Any], list[str] | None], object] | None = None
    ) -> tuple[dict[str, Any] | None, list[str] | None]:
        """Return the optimizer's numbered state dict, if any, and the parameters' names by number.

        Args:
            check: called with both before the tensors are read: in their place are some of the same shapes
                that take no memory; may raise.
        """

    @abstractmethod
    def extra_state(self) -> dict[str, Any]:
        """Return the state that the model's class keeps beside its parts, empty where there is none."""

    @abstractmethod
    def modes(self) -> Mapping[str, list[str]]:
        """Return which submodules stay in evaluation mode in training (see `Model.module_modes`), by slot."""

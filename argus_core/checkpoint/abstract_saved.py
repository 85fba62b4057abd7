"""The interface of a checkpoint's contents, independent of the file format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

__all__ = ["AbstractSaved"]


class AbstractSaved(ABC):
    """Abstract contents of a checkpoint in any format; tensors are read on request."""

    model: Mapping[str, Any]
    components: Mapping[str, Any]

    @abstractmethod
    def params(self) -> dict[str, Any]:
        """Return the model's params."""

    @abstractmethod
    def size(self) -> int:
        """Return the real size of the file, or of the network's state, in bytes; a file may claim more."""

    @abstractmethod
    def module_state(
        self,
        slot: str,
        into: Mapping[str, Tensor] | None = None,
        check: Callable[[Mapping[str, str]], None] | None = None,
    ) -> dict[str, Any]:
        """Return the state dict of a part; empty if the part has no state.

        Args:
            slot: the part's.
            into: tensors to read values of the same name and form into; they are returned then.
            check: called with the forms of all values (see `forms.form_of`) before they are read; may raise.
        """

    @abstractmethod
    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the state of each step strategy among ``names`` that has state, by name."""

    @abstractmethod
    def optimizer_state(
        self, check: Callable[[dict[str, Any], list[str] | None], object] | None = None
    ) -> tuple[dict[str, Any] | None, list[str] | None]:
        """Return the optimizer's numbered state dict, if any, and the parameters' names by number.

        Args:
            check: called with both before the tensors are read, with tensors of the same shapes that take no
                memory in their place; may raise.
        """

    @abstractmethod
    def extra_state(self) -> dict[str, Any]:
        """Return the model class's own state beside its parts; empty if it has none."""

    @abstractmethod
    def modes(self) -> Mapping[str, list[str]]:
        """Return, by slot, the submodules that stay in evaluation mode; see `Model.module_modes`."""

"""One chosen part of a model, before it is built."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from argus_core.errors import ArgusError
from argus_core.registry.component import Component

__all__ = ["KIND_OF_PART", "Part", "load_all"]

KIND_OF_PART = {
    "nn_module": "nn_module",
    "loss": "loss",
    "optimizer": "optimizer",
    "prediction_transform": "transform",
}
"""The kind of each part of a model."""


@dataclass(frozen=True)
class Part:
    """One chosen part of a model, not yet built.

    Attributes:
        kind: ``"loss"``, ``"transform"`` and so on.
        name: as it was chosen: ``"focal"``, ``"medseg/focal"``, or the name of a fixed class.
        params: what its factory gets.
        component: where the registry has it, or ``None`` for an unregistered class.
        fixed: the factory that the model class fixes; ``None`` where the component decides.
    """

    kind: str
    name: str
    params: Mapping[str, Any]
    component: Component | None = None
    fixed: Callable[..., Any] | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """How messages call it: ``loss 'focal'``."""
        return f"{self.kind} {self.name!r}"

    @property
    def shown(self) -> str:
        """The part as a spec chooses it, on one line: ``('focal', {'gamma': 2.0})``."""
        return reprlib.repr((self.name, dict(self.params)) if self.params else self.name)

    @property
    def factory(self) -> Callable[..., Any]:
        """The callable that builds the part; imports its provider when asked first."""
        if self.fixed is not None:
            return self.fixed
        assert self.component is not None
        factory: Callable[..., Any] = self.component.load()
        return factory


def load_all(parts: Iterable[Part | None]) -> None:
    """Import every part's provider; one error names all that fail, before anything is built."""
    errors: list[ArgusError] = []
    for part in filter(None, parts):
        try:
            _ = part.factory
        except ArgusError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise type(errors[0])("; ".join(map(str, errors))) from errors[0]

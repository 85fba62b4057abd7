"""A chosen part of a model (network, loss, optimizer or transform) before it is built."""

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
    """A chosen part of a model, not yet built.

    Attributes:
        kind: its kind, such as ``"loss"`` or ``"transform"``.
        name: the chosen name: ``"focal"``, ``"medseg/focal"``, or the name of a fixed class.
        params: the parameters for its factory.
        component: its component in the registry, or ``None`` for an unregistered class.
        fixed: the factory that the model class fixes, or ``None`` if the component has the factory.
    """

    kind: str
    name: str
    params: Mapping[str, Any]
    component: Component | None = None
    fixed: Callable[..., Any] | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """Its name in messages: ``loss 'focal'``."""
        return f"{self.kind} {self.name!r}"

    @property
    def shown(self) -> str:
        """The spec that chooses it, on one line: ``('focal', {'gamma': 2.0})``."""
        return reprlib.repr((self.name, dict(self.params)) if self.params else self.name)

    @property
    def factory(self) -> Callable[..., Any]:
        """The callable that builds the part; the first access imports its module."""
        if self.fixed is not None:
            return self.fixed
        assert self.component is not None
        factory: Callable[..., Any] = self.component.load()
        return factory


def load_all(parts: Iterable[Part | None]) -> None:
    """Import the factory of every part before any is built; one error lists all failures."""
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

"""The options of building a model whose params come from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from argus_core.abstract_model import AbstractModel
from argus_core.model.choice import given_by_class
from argus_core.registry import registry
from argus_core.registry.file_params import Source, taken_from
from argus_core.registry.part import Part

__all__ = ["USUAL", "BuildOptions"]

_Made = TypeVar("_Made", bound=AbstractModel)


@dataclass(frozen=True)
class BuildOptions:
    """The options of building a model whose params come from a file.

    Attributes:
        source: the file, which must not set all params.
        bindings: the components that load_model has looked up, by kind and name, so that later registrations
            do not replace them.
        overwritten: the parts whose initial values are overwritten, or not used, once the model is built.
        restore_network: builds the network with its saved state; called with build_nn_module and the part.
        limit: returns the context that limits the memory of a part; called with its name and label.
    """

    source: Source | None = None
    bindings: Mapping[tuple[str, str], registry.Component] = field(default_factory=dict)
    overwritten: frozenset[str] = frozenset()
    restore_network: Callable[[Callable[..., Any], Part], Any] | None = None
    limit: Callable[[str, str], AbstractContextManager[None]] | None = None

    def build(self, cls: type[_Made], params: Mapping[str, Any]) -> _Made:
        """Return ``cls(params)``, built with these options; models that its parts build have none."""
        source = self.source and self.source.with_given(given_by_class(cls, params))
        token = _next.set(self)
        try:
            with taken_from(source):
                made: Any = cls
                model: _Made = made(params)
        finally:
            _next.reset(token)
        vars(model)["_build_options"] = BuildOptions(bindings=self.bindings)  # closes the file
        return model

    @classmethod
    def take(cls) -> BuildOptions:
        """Return the options of the model whose instance is being made, once."""
        options = _next.get()
        if options is not USUAL:
            _next.set(USUAL)
        return options


USUAL = BuildOptions()

_next: ContextVar[BuildOptions] = ContextVar("the options of the next model that is made", default=USUAL)

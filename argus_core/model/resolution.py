"""Resolution of the names in a checkpoint to installed components.

Names are looked up among the installed plugins, never imported; one error lists all missing components.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, cast

from argus_core.checkpoint.abstract_saved import AbstractSaved
from argus_core.checkpoint.records import drift, find, missing
from argus_core.errors import MissingPluginError, ProviderDriftWarning, SpecError
from argus_core.model.model import Model
from argus_core.registry import registry
from argus_core.registry.component import BUILTIN
from argus_core.registry.diagnosis import Missing, missing_message
from argus_core.registry.part import KIND_OF_PART
from argus_core.registry.spec import parse_spec, parse_specs

__all__ = ["Bindings", "Names"]

Bindings = dict[tuple[str, str], registry.Component]
"""Components by kind and by name in a model's params."""

_MOST_WARNINGS = 10  # per checkpoint, which may name thousands of steps


class Names:
    """The lookup of the components that a checkpoint names, with a record of the missing ones."""

    def __init__(self, saved: AbstractSaved) -> None:
        self._saved = saved
        self._missing: list[Missing] = []
        self._drifted: list[str] = []

    def model_class(self, model_name: str | None) -> type[Model]:
        """Return the model's class; for a missing one the plain `Model`, until `bind` raises."""
        record = self._saved.model
        if model_name is not None:
            component = registry.resolve("model", model_name)
        else:
            component = self._find("model", record) or registry.resolve("model", f"{BUILTIN}/Model")
        found = component.load()
        if not isinstance(found, type) or not hasattr(found, "build_nn_module"):
            raise SpecError(
                f"model {component.name!r} is {component.target}, which is not a subclass of "
                "argus_core.Model; register it as one, or give load_model another model_name"
            )
        return cast(type[Model], found)

    def bind(self, cls: type[Model], params: dict[str, Any]) -> Bindings:
        """Return the components by kind and by name in ``params``; adds missing names to ``params``.

        Raises:
            MissingPluginError: no installed package provides some of them.
        """
        bindings: Bindings = {}
        for kind, name, record in self._records(cls, params):
            found = self._find(kind, record)
            if found is not None:
                bindings[kind, name] = found
        for drifted in self._drifted[:_MOST_WARNINGS]:
            warnings.warn(drifted, ProviderDriftWarning, stacklevel=2)
        more = len(self._drifted) - _MOST_WARNINGS
        if more > 0:
            warnings.warn(
                f"{more:,} more components are of other providers or versions than in the checkpoint",
                ProviderDriftWarning,
                stacklevel=2,
            )
        if self._missing:
            raise MissingPluginError(missing_message(self._missing))
        return bindings

    def _records(
        self, cls: type[Model], params: dict[str, Any]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for part, kind in KIND_OF_PART.items():
            record = self._saved.components.get(part)
            if record is None:
                continue
            offered, value = getattr(cls, part), params.get(part)
            if offered is None and (isinstance(value, Mapping) or part not in params):
                # The saved class fixed a part that this class does not fix.
                params[part] = value = (record["as"], dict(value or {}))
            if value is None or isinstance(value, Mapping) or callable(offered):
                continue
            name = parse_spec(kind, value, f"params[{part!r}]").name
            if name == record["as"] and not (isinstance(offered, Mapping) and name in offered):
                yield kind, name, record
        steps = {record["as"]: record for record in self._saved.components.get("step", ())}
        chosen = params.get("step")  # change_params_func may return any value: an array has no truth value
        for spec in parse_specs("step", [] if chosen is None else chosen, "params['step']"):
            if spec.name in steps:
                yield "step", spec.name, steps[spec.name]

    def _find(self, kind: str, record: Mapping[str, Any]) -> registry.Component | None:
        component = find(kind, record)
        if component is None:
            self._missing.append(missing(kind, record))
            return None
        drifted = drift(kind, record, component)
        if drifted and drifted not in self._drifted:
            self._drifted.append(drifted)
        return component

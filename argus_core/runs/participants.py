"""The components of a run, the versions of the packages that provide them, and the choice of its data."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import torch

from argus_core.checkpoint.records import record_of
from argus_core.config import Config
from argus_core.model.model import Model
from argus_core.registry.component import BUILTIN, Component
from argus_core.registry.distributions import version_of
from argus_core.registry.registry import resolve

__all__ = ["components_in", "data_choices", "versions"]

_OF_DATA = ("dataset", "sampler", "collate", "metric")


def versions(model: Model, config: Config) -> dict[str, Any]:
    """Return the versions of all packages that take part in a run."""
    components = [*_components_of(model), *components_in(config)]
    providers = {each.provider: each.version for each in components if each.provider not in (None, BUILTIN)}
    return {
        BUILTIN: version_of(BUILTIN),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "providers": dict(sorted(providers.items(), key=str)),
    }


def data_choices(config: Config) -> dict[str, Any]:
    """Return what a checkpoint keeps of the data that a configuration chooses, and of their metrics."""
    components: dict[str, list[Any]] = {}
    for kind, _, spec in config.specs("data", "fit"):
        if kind in _OF_DATA:
            records = components.setdefault(kind, [])
            record = record_of(spec.name, resolve(kind, spec.name))
            records += [] if record in records else [record]
    return {
        "specs": dict(config.data),
        "metrics": tuple(config.fit.get("metrics", ())),
        "seed": config.fit["seed"],
        "components": components,
    }


def components_in(config: Config) -> Iterator[Component]:
    """Yield the components that a configuration names outside the model."""
    yield resolve("model", config.model["name"])
    yield from (resolve(kind, spec.name) for kind, _, spec in config.specs("data", "fit"))


def _components_of(model: Model) -> Iterator[Component]:
    yield from (
        part.component for part in [*model.parts.values(), *model.step_parts] if part and part.component
    )

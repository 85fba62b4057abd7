"""The components of a run, and the versions of the packages that provide them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import torch

from argus_core.config import Config
from argus_core.model.model import Model
from argus_core.registry.component import BUILTIN, Component
from argus_core.registry.distributions import version_of
from argus_core.registry.registry import resolve

__all__ = ["components_in", "versions"]


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


def components_in(config: Config) -> Iterator[Component]:
    """Yield the components that a configuration names outside the model."""
    yield resolve("model", config.model["name"])
    yield from (resolve(kind, spec.name) for kind, _, spec in config.specs("data", "fit"))


def _components_of(model: Model) -> Iterator[Component]:
    yield from (
        part.component for part in [*model.parts.values(), *model.step_parts] if part and part.component
    )

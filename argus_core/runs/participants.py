"""What takes part in a run: its components, and the versions of everything that provides them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import torch

from argus_core.config import SECTIONS, Config
from argus_core.model.model import Model
from argus_core.registry.component import BUILTIN, Component
from argus_core.registry.distributions import version_of
from argus_core.registry.registry import resolve
from argus_core.registry.spec import Spec, parse_specs

__all__ = ["components_in", "versions"]


def versions(model: Model, config: Config) -> dict[str, Any]:
    """Return the versions of everything that takes part in a run."""
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
    """Yield the components that a configuration names outside the model's parts."""
    yield resolve("model", config.model["name"])
    for section, values in (("data", config.data), ("fit", config.fit)):
        for key, known in SECTIONS[section].items():
            if known.kind and key in values:
                specs: list[Spec] = parse_specs(known.kind, values[key], f"[{section}] {key}")
                yield from (resolve(known.kind, spec.name) for spec in specs)


def _components_of(model: Model) -> Iterator[Component]:
    yield from (
        part.component for part in [*model.parts.values(), *model.step_parts] if part and part.component
    )

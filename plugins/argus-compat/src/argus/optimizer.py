"""torch's optimizers by name."""

from __future__ import annotations

from typing import Any

from argus_core.authors import components

__all__ = ["get_pytorch_optimizers", "pytorch_optimizers"]


def get_pytorch_optimizers() -> dict[str, Any]:
    """Return torch's optimizer classes in the registry, by name."""
    return {each.name: each.load() for each in components("optimizer") if each.provider == "argus-torch"}


pytorch_optimizers = get_pytorch_optimizers()

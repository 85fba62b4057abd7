"""torch's losses by name."""

from __future__ import annotations

from typing import Any

from argus_core.authors import components

__all__ = ["get_pytorch_losses", "pytorch_losses"]


def get_pytorch_losses() -> dict[str, Any]:
    """Return torch's loss classes in the registry, by name."""
    return {each.name: each.load() for each in components("loss") if each.provider == "argus-torch"}


pytorch_losses = get_pytorch_losses()

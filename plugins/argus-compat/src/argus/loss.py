"""torch's losses by name."""

from __future__ import annotations

from typing import Any

from argus_core.registry.component import BUILTIN
from argus_core.registry.registry import components

__all__ = ["get_pytorch_losses", "pytorch_losses"]


def get_pytorch_losses() -> dict[str, Any]:
    """Return torch's loss classes by their names, as the registry has them."""
    return {each.name: each.load() for each in components("loss") if each.provider == BUILTIN}


pytorch_losses = get_pytorch_losses()

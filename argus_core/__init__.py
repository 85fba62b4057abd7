"""Train, save and load PyTorch models whose every part is chosen by name.

Names are looked up when they are first used, so importing this package imports neither torch nor a
plugin.
"""

from __future__ import annotations

import importlib
from typing import Any

from argus_core.lazy import lazy_names

_get, __dir__, __all__ = lazy_names(__name__)


def __getattr__(name: str) -> Any:
    if name in ("callbacks", "metrics"):  # whose classes are to derive from: argus_core.metrics.Accuracy
        return importlib.import_module(f"argus_core.{name}")
    return _get(name)

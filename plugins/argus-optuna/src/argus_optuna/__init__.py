"""``argus sweep``: search for the best hyperparameters of a configuration, with optuna.

torch and optuna are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argus_optuna.pruning import Pruning
    from argus_optuna.result import SweepResult, TrialRecord
    from argus_optuna.search import sweep

__all__ = ["Pruning", "SweepResult", "TrialRecord", "sweep"]

_MODULES = {"Pruning": "pruning", "SweepResult": "result", "TrialRecord": "result", "sweep": "search"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

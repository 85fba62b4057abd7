"""Train, save and load PyTorch models whose every part is chosen by name.

Names are looked up when they are first used, so importing this package imports neither torch nor a
plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; at run time __getattr__ imports on first use
    from argus_core.callbacks import Callback as Callback
    from argus_core.callbacks import on_catch_exception as on_catch_exception
    from argus_core.callbacks import on_complete as on_complete
    from argus_core.callbacks import on_epoch_complete as on_epoch_complete
    from argus_core.callbacks import on_epoch_start as on_epoch_start
    from argus_core.callbacks import on_event as on_event
    from argus_core.callbacks import on_iteration_complete as on_iteration_complete
    from argus_core.callbacks import on_iteration_start as on_iteration_start
    from argus_core.callbacks import on_start as on_start
    from argus_core.callbacks.state import State as State
    from argus_core.errors import AmbiguousNameError as AmbiguousNameError
    from argus_core.errors import ArgusError as ArgusError
    from argus_core.errors import ArgusWarning as ArgusWarning
    from argus_core.errors import BlockedPluginError as BlockedPluginError
    from argus_core.errors import BrokenPluginError as BrokenPluginError
    from argus_core.errors import BuildError as BuildError
    from argus_core.errors import CheckpointError as CheckpointError
    from argus_core.errors import ConfigError as ConfigError
    from argus_core.errors import ConflictError as ConflictError
    from argus_core.errors import CorruptCheckpointError as CorruptCheckpointError
    from argus_core.errors import MissingPluginError as MissingPluginError
    from argus_core.errors import NewerCheckpointError as NewerCheckpointError
    from argus_core.errors import ParamsError as ParamsError
    from argus_core.errors import SpecError as SpecError
    from argus_core.errors import StateMismatchError as StateMismatchError
    from argus_core.errors import UnknownNameError as UnknownNameError
    from argus_core.errors import UnsafeCheckpointError as UnsafeCheckpointError
    from argus_core.hooks import hookimpl as hookimpl
    from argus_core.metrics.metric import Metric as Metric
    from argus_core.model.loading import load_model as load_model
    from argus_core.model.model import Model as Model
    from argus_core.registry.factory import initial_values_wanted as initial_values_wanted
    from argus_core.registry.registry import Component as Component
    from argus_core.registry.registry import isolated_registry as isolated_registry
    from argus_core.registry.registry import names as names
    from argus_core.registry.registry import register as register
    from argus_core.registry.registry import resolve as resolve
    from argus_core.steps.output import StepOutput as StepOutput
    from argus_core.tensors.batch import deep_chunk as deep_chunk
    from argus_core.tensors.batch import deep_detach as deep_detach
    from argus_core.tensors.batch import deep_to as deep_to
    from argus_core.training.engine import Engine as Engine

_EXPORTS = {
    "callbacks": (
        "Callback on_catch_exception on_complete on_epoch_complete on_epoch_start on_event "
        "on_iteration_complete on_iteration_start on_start"
    ),
    "callbacks.state": "State",
    "errors": (
        "AmbiguousNameError ArgusError ArgusWarning BlockedPluginError BrokenPluginError BuildError "
        "CheckpointError ConfigError ConflictError CorruptCheckpointError MissingPluginError "
        "NewerCheckpointError ParamsError SpecError StateMismatchError UnknownNameError UnsafeCheckpointError"
    ),
    "hooks": "hookimpl",
    "metrics.metric": "Metric",
    "model.loading": "load_model",
    "model.model": "Model",
    "registry.factory": "initial_values_wanted",
    "registry.registry": "Component isolated_registry names register resolve",
    "steps.output": "StepOutput",
    "tensors.batch": "deep_chunk deep_detach deep_to",
    "training.engine": "Engine",
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in ("callbacks", "metrics"):  # whose classes are to derive from: argus_core.metrics.Accuracy
        return importlib.import_module(f"argus_core.{name}")
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module 'argus_core' has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f"argus_core.{module}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return __all__

"""Saving a model by names: names, plain parameters and tensors, in one file, whole or not at all.

The file itself is `argus_core.storage`'s, the plain-data part `argus_core.storage.manifest`'s; loading is
`argus_core.model.loading`'s.
"""

from __future__ import annotations

import platform
import reprlib
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

from argus_core.abstract_model import AbstractModel
from argus_core.checkpoint.optimizer_state import name_optimizer_state
from argus_core.errors import ArgusWarning, ParamsError
from argus_core.registry import registry
from argus_core.registry.distributions import own_version
from argus_core.registry.factory import name_of
from argus_core.registry.part import Part
from argus_core.steps.parameters import named_parameters
from argus_core.storage import write
from argus_core.storage.encoding import encode
from argus_core.storage.manifest import SCHEMA

__all__ = ["PREFIXES", "Write", "save_model"]

Write = Callable[[Path, Mapping[str, torch.Tensor], dict[str, Any]], None]
"""What puts tensors and a manifest into a file."""

PREFIXES = {"nn_module": "nn", "loss": "loss", "prediction_transform": "transform"}
"""Where the state of each stateful part stands among the file's tensors."""

_TAKEN = {*PREFIXES.values(), "optimizer", "optimizer_groups", "params", "run", "extra", "extra_state", "rng"}
_TAKEN |= {"callback", "running", "step"}


def save_model(
    model: AbstractModel,
    file_path: Path,
    *,
    optimizer_state: bool,
    run: Mapping[str, Any] | None = None,
    progress: Mapping[str, Any] | None = None,
    write: Write = write,
) -> None:
    """Write ``model`` to ``file_path``; see `Model.save`."""
    _warn_unregistered(model)
    tensors: dict[str, torch.Tensor] = {}
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "argus": own_version(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "model": _model_record(model),
        "params": encode(model.params, "params", tensors),
        "components": {slot: _record(part) for slot, part in model.parts.items()}
        | {"step": [_record(part) for part in model.step_parts]},
        "run": encode(dict(run or {}), "run", tensors),
        "extra": {},
    }
    for slot, prefix in PREFIXES.items():
        module = model.get_nn_module() if slot == "nn_module" else getattr(model, slot)
        if isinstance(module, nn.Module):
            _put_state(module.state_dict(), prefix, tensors, manifest["extra"])
    if optimizer_state and model.optimizer is not None:
        named = name_optimizer_state(model.optimizer, named_parameters(model))
        manifest["optimizer"] = {
            "state": encode(named["state"], "optimizer", tensors),
            "param_groups": encode(named["param_groups"], "optimizer_groups", tensors),
        }
    extra_state = _extra_state(model) if optimizer_state else {}
    if extra_state:
        manifest["extra_state"] = encode(extra_state, "extra_state", tensors)
    manifest["modes"] = model.module_modes()
    manifest["step_state"] = {
        name: encode(state, _step_prefix(name), tensors) for name, state in model.step_state().items()
    }
    if evaluated := model.evaluated_state():
        manifest["evaluated"] = evaluated
    if progress is not None:
        manifest["progress"] = {key: encode(value, key, tensors) for key, value in progress.items()}
    write(file_path, tensors, manifest)


def _extra_state(model: AbstractModel) -> dict[str, Any]:
    state: Any = model.extra_state()
    if not isinstance(state, dict):
        raise ParamsError(
            f"{type(model).__name__}.extra_state returned {reprlib.repr(state)}; return a dict of plain data "
            "and tensors"
        )
    return state


def _step_prefix(name: str) -> str:
    """Return where a strategy's tensors stand: ``ema/``, but never where a part's stand."""
    return f"step/{name}" if name in _TAKEN else name


def _put_state(
    state: Mapping[str, Any], prefix: str, tensors: dict[str, torch.Tensor], extra: dict[str, Any]
) -> None:
    """Put a module's tensors among ``tensors`` and what else its state has into ``extra``."""
    tensors.update(
        {f"{prefix}/{name}": value for name, value in state.items() if isinstance(value, torch.Tensor)}
    )
    others = {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}
    if others:
        extra[prefix] = encode(others, f"extra/{prefix}", tensors)


def _model_record(model: AbstractModel) -> dict[str, Any]:
    component = registry.component_of("model", type(model))
    return _component_record(component, type(model).__name__, type(model))


def _record(part: Part | None) -> dict[str, Any] | None:
    return None if part is None else _component_record(part.component, part.name, part.factory)


def _component_record(
    component: registry.Component | None, name: str, factory: Callable[..., Any]
) -> dict[str, Any]:
    """Return what says later which component this was; the entry point is for messages only."""
    if component is None:
        target = f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__qualname__)}"
        return {"as": name, "name": None, "provider": None, "version": None, "entry_point": target}
    return {
        "as": name,
        "name": component.qualified_name,
        "provider": component.provider,
        "version": component.version,
        "entry_point": component.target,
    }


def _warn_unregistered(model: AbstractModel) -> None:
    unregistered = {
        slot: part for slot, part in model.parts.items() if part is not None and part.component is None
    }
    if unregistered and not model.warned_unregistered:
        model.warned_unregistered = True
        listed = ", ".join(f"{slot} {part.name!r}" for slot, part in unregistered.items())
        part = next(iter(unregistered.values()))
        warnings.warn(
            f"{listed} will not load by name elsewhere, because no registered component built it; register "
            f"the class by argus_core.register({part.kind!r}, {part.name!r}, {name_of(part.factory)}), or "
            "publish it as a plugin",
            ArgusWarning,
            stacklevel=4,
        )

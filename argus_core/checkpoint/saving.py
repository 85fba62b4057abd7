"""Saving a model: component names, plain parameters and tensors, written atomically.

`argus_core.storage` writes the file or the folder of shards, `argus_core.storage.manifest` its plain-data
part; `argus_core.model.loading` loads it.
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
from argus_core.checkpoint.records import Record, record_of
from argus_core.checkpoint.sections import PREFIXES
from argus_core.errors import ArgusWarning, ParamsError
from argus_core.registry import registry
from argus_core.registry.distributions import own_version
from argus_core.registry.factory import name_of
from argus_core.registry.part import Part
from argus_core.steps.parameters import named_parameters
from argus_core.storage.encoding import encode
from argus_core.storage.manifest import SCHEMA

__all__ = ["Write", "save_model", "write_together"]

Write = Callable[[Path, Mapping[str, Any], dict[str, Any]], None]
"""A function that writes tensors, or pieces of them, and a manifest to a file or a folder of shards."""

_TAKEN = {*PREFIXES.values(), "optimizer", "optimizer_groups", "params", "run", "extra", "extra_state", "rng"}
_TAKEN |= {"callback", "running", "step"}


def write_together(path: Path, tensors: Mapping[str, Any], manifest: dict[str, Any]) -> None:
    """Write a checkpoint: a folder of shards by all processes of the run, each of which calls this."""
    from argus_core.storage.forms import is_folder, write  # lazy: not every model is saved

    if not is_folder(path):
        write(path, tensors, manifest)
        return
    from argus_core.tensors.processes import group_for  # lazy: most checkpoints are files

    write(path, tensors, manifest, group_for(path))


def save_model(
    model: AbstractModel,
    file_path: Path,
    *,
    optimizer_state: bool,
    run: Mapping[str, Any] | None = None,
    progress: Mapping[str, Any] | None = None,
    write: Write = write_together,
) -> None:
    """Write ``model`` to ``file_path``; see `Model.save`."""
    _warn_unregistered(model)
    tensors: dict[str, torch.Tensor] = {}
    parts = _Parts(model.parallel)
    manifest = _described(model, run, tensors)
    manifest["extra"] = {}
    for part, prefix in PREFIXES.items():
        module = model.get_nn_module() if part == "nn_module" else getattr(model, part)
        if isinstance(module, nn.Module):
            _put_state(module.state_dict(), prefix, tensors, manifest["extra"])
    if optimizer_state and model.optimizer is not None:
        named = name_optimizer_state(model.optimizer, named_parameters(model))
        manifest["optimizer"] = {
            "state": encode(parts.of(named.pop("state")), "optimizer", tensors),
            "param_groups": encode(named.pop("param_groups"), "optimizer_groups", tensors),
        }
        _warn_left_out(type(model.optimizer).__name__, named)
    extra_state = _extra_state(model) if optimizer_state else {}
    if extra_state:
        manifest["extra_state"] = encode(parts.of(extra_state), "extra_state", tensors)
    manifest["modes"] = model.module_modes()
    manifest["step_state"] = {
        name: encode(parts.of(state), _step_prefix(name), tensors)
        for name, state in model.step_state().items()
    }
    if evaluated := model.evaluated_state():
        manifest["evaluated"] = evaluated
    if progress is not None:
        manifest["progress"] = {key: encode(value, key, tensors) for key, value in progress.items()}
    if not model.parallel.several:
        write(file_path, tensors, manifest)
        return
    from argus_core.checkpoint.shared_tensors import tensors_for  # lazy: most runs have one process

    own = tensors_for(file_path, model, parts.shards_in(tensors))
    if own is not None:
        write(file_path, own, manifest)


class _Parts:
    """The parts of shards, in their place: a manifest refers to plain tensors only."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._shards: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, value: Any) -> Any:
        """Return a value with the parts in place of its shards, which may be nested at any depth."""
        if not self._engine.is_sharded:
            return value
        if isinstance(value, torch.Tensor):
            own = self._engine.local(value)
            if own is not value:
                self._shards[id(own)] = own, value
            return own
        if type(value) is dict:
            return {key: self.of(item) for key, item in value.items()}
        return type(value)(map(self.of, value)) if type(value) in (list, tuple) else value

    def shards_in(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return named tensors with the shards whose parts are among them."""
        return {name: self._shards.get(id(each), (each, each))[1] for name, each in tensors.items()}


def _described(
    model: AbstractModel, run: Mapping[str, Any] | None, tensors: dict[str, torch.Tensor]
) -> dict[str, Any]:
    """Return the sections that say what a model is made of."""
    cls = type(model)
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "argus": own_version(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "model": record_of(cls.__name__, registry.component_of("model", cls), cls),
        "params": encode(model.params, "params", tensors),
        "components": {name: part and _record(part) for name, part in model.parts.items()}
        | {"step": [_record(part) for part in model.step_parts]},
        "run": encode(dict(run or {}), "run", tensors),
    }
    if model.data:
        from argus_core.checkpoint.data_section import data_section  # lazy: not every model has data

        manifest["data"] = data_section(model.data)
    return manifest


def _warn_left_out(optimizer: str, others: Mapping[str, Any]) -> None:
    if others:
        warnings.warn(
            f"the checkpoint lacks {', '.join(map(repr, others))} of {optimizer}.state_dict(), because "
            "it holds only state and param_groups; override Model.extra_state to keep the rest",
            ArgusWarning,
            stacklevel=4,
        )


def _extra_state(model: AbstractModel) -> dict[str, Any]:
    state: Any = model.extra_state()
    if not isinstance(state, dict):
        raise ParamsError(
            f"{type(model).__name__}.extra_state returned {reprlib.repr(state)}; return a dict of plain data "
            "and tensors"
        )
    return state


def _step_prefix(name: str) -> str:
    """Return the prefix of a strategy's tensors, such as ``ema/``, which no part's tensors have."""
    return f"step/{name}" if name in _TAKEN else name


def _put_state(
    state: Mapping[str, Any], prefix: str, tensors: dict[str, torch.Tensor], extra: dict[str, Any]
) -> None:
    """Add a module's tensors to ``tensors`` and the other values of its state to ``extra``."""
    tensors.update(
        {f"{prefix}/{name}": value for name, value in state.items() if isinstance(value, torch.Tensor)}
    )
    others = {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}
    if others:
        extra[prefix] = encode(others, f"extra/{prefix}", tensors)


def _record(part: Part) -> Record:
    return record_of(part.name, part.component, part.factory)


def _warn_unregistered(model: AbstractModel) -> None:
    unregistered = {
        name: part for name, part in model.parts.items() if part is not None and part.component is None
    }
    if unregistered and not model.warned_unregistered:
        model.warned_unregistered = True
        listed = ", ".join(f"{name} {part.name!r}" for name, part in unregistered.items())
        part = next(iter(unregistered.values()))
        warnings.warn(
            f"{listed} will not load by name elsewhere, because no registered component built it; register "
            f"the class by argus_core.register({part.kind!r}, {part.name!r}, {name_of(part.factory)}), or "
            "publish it as a plugin",
            ArgusWarning,
            stacklevel=4,
        )

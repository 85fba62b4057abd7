"""Loading a model by names, on a machine that may never have seen the code that made it.

The names in the file are looked up among the installed plugins, never imported; all are found before
anything is built; then the model is built the way any model is built, and its state put in.
"""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from argus_core import registry
from argus_core.components import BUILTIN
from argus_core.diagnosis import Missing, missing_message
from argus_core.errors import (
    MissingPluginError,
    ProviderDriftWarning,
    SpecError,
    UnknownNameError,
)
from argus_core.legacy import is_legacy, read_legacy
from argus_core.parts import KIND_OF_PART
from argus_core.saved import AbstractSaved, SavedFile, SavedState
from argus_core.spec import parse_spec, parse_specs
from argus_core.state import load_extra_state, load_module_state, load_optimizer_state
from argus_core.storage import CheckpointFile, check_sha256

if TYPE_CHECKING:
    from argus_core.model import Model

__all__ = ["load_model"]

Bindings = dict[tuple[str, str], registry.Component]


class _AsSaved(Enum):
    AS_SAVED = "as saved"

    def __repr__(self) -> str:
        return "<as saved>"


AS_SAVED = _AsSaved.AS_SAVED


def load_model(
    file_path: str | Path,
    nn_module: Any = AS_SAVED,
    optimizer: Any = AS_SAVED,
    loss: Any = AS_SAVED,
    prediction_transform: Any = AS_SAVED,
    step: Any = AS_SAVED,
    device: Any = AS_SAVED,
    model_name: str | None = None,
    state_load_func: Callable[[Path], Mapping[str, Any]] | None = None,
    change_params_func: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    change_state_dict_func: Callable[..., Any] | None = None,
    verify: bool = True,
    sha256: str | None = None,
    **params: Any,
) -> Model:
    """Return the model that `Model.save` wrote, in evaluation mode.

    Nothing that the file names is imported: names are looked up among the installed plugins.

    Args:
        file_path: a ``*.safetensors`` checkpoint, or a ``*.pth`` of pytorch-argus.
        nn_module, optimizer, loss, prediction_transform, step: left out, the part is as saved; ``None``
            leaves it out of the model, and its provider need not even be installed (not for nn_module);
            a dict updates the saved parameters; a name or ``(name, {params})`` takes another component.
        device: left out, as saved; else any device that `Model` takes.
        model_name: another registered model class; ``"Model"`` is the plain one.
        state_load_func: called with the path in place of our own reading; returns ``model_name``,
            ``params``, ``nn_state_dict`` and perhaps ``optimizer_state_dict``.
        change_params_func: called with the saved params; returns those to use.
        change_state_dict_func: called with the network's state dict and the optimizer's (or ``None``);
            returns both.
        verify: whether to check every byte that is read of a safetensors file against its checksum.
        sha256: the hexadecimal digest that the whole file must have.
        **params: replace top-level params of the same name.

    Raises:
        MissingPluginError: components are not installed; names every missing one and what to install.
        CheckpointError: the file is missing, damaged, unsafe, newer, or does not fit the model.
    """
    if nn_module is None:
        raise SpecError(
            "load_model cannot leave nn_module out; give its parameters as a dict, or another network"
        )
    parts = {"nn_module": nn_module, "optimizer": optimizer, "loss": loss, "step": step}
    parts["prediction_transform"] = prediction_transform
    changes = {slot: change for slot, change in parts.items() if change is not AS_SAVED}
    if device is not AS_SAVED:
        params["device"] = device
    path = Path(file_path)
    if state_load_func is not None or is_legacy(path):
        if sha256 is not None:
            check_sha256(path, sha256)
        saved: AbstractSaved = SavedState(state_load_func(path) if state_load_func else read_legacy(path))
        return _load(saved, changes, params, model_name, change_params_func, change_state_dict_func)
    with CheckpointFile(path, sha256=sha256) as file:
        saved = SavedFile(file, verify)
        return _load(saved, changes, params, model_name, change_params_func, change_state_dict_func)


def _load(
    saved: AbstractSaved,
    changes: Mapping[str, Any],
    new_params: Mapping[str, Any],
    model_name: str | None,
    change_params_func: Callable[[dict[str, Any]], dict[str, Any]] | None,
    change_state_dict_func: Callable[..., Any] | None,
) -> Model:
    params = saved.params()
    if change_params_func is not None:
        params = change_params_func(params)
        if not isinstance(params, Mapping):
            raise SpecError(f"change_params_func returned {reprlib.repr(params)}; return the params to use")
    params = {**params, **new_params}
    names = _Names(saved)
    cls = names.model_class(model_name)
    for slot, change in changes.items():
        params[slot] = _changed(slot, params.get(slot), change, saved)
    bindings = names.bind(cls, params)
    # The class's own __init__ finds the components that were found here.
    model = cls.__new__(cls)
    model.bindings = bindings
    model.__init__(params)  # type: ignore[misc]
    _load_states(model, saved, changes, change_state_dict_func)
    model.eval()
    return model


def _changed(slot: str, value: Any, change: Any, saved: AbstractSaved) -> Any:
    """Return what ``params[slot]`` becomes by an argument of `load_model`."""
    if not isinstance(change, Mapping):
        return change
    if value is None or isinstance(value, Mapping):
        if value is None and saved.components.get(slot, True) is None:
            raise SpecError(
                f"the model was saved without {slot}; give a name or (name, {{params}}), not only params"
            )
        return {**(value or {}), **change}
    specs = parse_specs("step", value, "step") if slot == "step" else [parse_spec(slot, value, slot)]
    if len(specs) != 1:
        raise SpecError(
            f"a dict updates the parameters of one component, and {slot} has {len(specs)}; give them all"
        )
    return (specs[0].name, {**specs[0].params, **change})


class _Names:
    """Finds the components that a checkpoint names, and keeps those that nobody provides."""

    def __init__(self, saved: AbstractSaved) -> None:
        self._saved = saved
        self._missing: list[Missing] = []

    def model_class(self, model_name: str | None) -> type[Model]:
        """Return the model's class; the plain model stands in for one that is missing, until `bind`."""
        record = self._saved.model
        if model_name is not None:
            component = registry.resolve("model", model_name)
        else:
            component = self._find("model", record) or registry.resolve("model", f"{BUILTIN}/Model")
        found = component.load()
        if not isinstance(found, type) or not hasattr(found, "build_nn_module"):
            raise SpecError(
                f"model {component.name!r} is {component.target}, which is no subclass of argus_core.Model; "
                "register it as one, or give load_model another model_name"
            )
        return cast("type[Model]", found)

    def bind(self, cls: type[Model], params: dict[str, Any]) -> Bindings:
        """Return the components by kind and name as ``params`` has it; completes ``params`` by names.

        Raises:
            MissingPluginError: some are not provided by anything installed.
        """
        bindings: Bindings = {}
        for kind, name, record in self._records(cls, params):
            found = self._find(kind, record)
            if found is not None:
                bindings[kind, name] = found
        if self._missing:
            raise MissingPluginError(missing_message(self._missing))
        return bindings

    def _records(
        self, cls: type[Model], params: dict[str, Any]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for slot, kind in KIND_OF_PART.items():
            record = self._saved.components.get(slot)
            if record is None:
                continue
            offered, value = getattr(cls, slot), params.get(slot)
            if offered is None and (isinstance(value, Mapping) or slot not in params):
                params[slot] = value = (
                    record["as"],
                    dict(value or {}),
                )  # its class fixed what this one leaves open
            if value is None or isinstance(value, Mapping) or callable(offered):
                continue
            name = parse_spec(kind, value, f"params[{slot!r}]").name
            if name == record["as"] and not (isinstance(offered, Mapping) and name in offered):
                yield kind, name, record
        steps = {record["as"]: record for record in self._saved.components.get("step", ())}
        for spec in parse_specs("step", params.get("step") or [], "params['step']"):
            if spec.name in steps:
                yield "step", spec.name, steps[spec.name]

    def _find(self, kind: str, record: Mapping[str, Any]) -> registry.Component | None:
        for name in dict.fromkeys([record["name"] or record["as"], record["as"]]):
            try:
                component = registry.resolve(kind, name)
            except UnknownNameError:
                continue
            _warn_drift(kind, record, component)
            return component
        why = f"it was {record['entry_point']}" if record["entry_point"] else "named in the file"
        qualified = record["name"] or record["as"]
        self._missing.append((kind, qualified, record["version"], why))
        return None


def _warn_drift(kind: str, record: Mapping[str, Any], component: registry.Component) -> None:
    saved, now = (record["provider"], record["version"]), (component.provider, component.version)
    if record["name"] is None or saved == now or saved[0] == now[0] == BUILTIN:
        return
    was, is_now = (" ".join(filter(None, owner)) or "code in the process" for owner in (saved, now))
    warnings.warn(
        f"{kind} {record['as']!r} was provided by {was} when the checkpoint was saved and is "
        f"by {is_now} now; install what it was if results differ",
        ProviderDriftWarning,
        stacklevel=2,
    )


def _load_states(
    model: Model,
    saved: AbstractSaved,
    changes: Mapping[str, Any],
    change_state_dict_func: Callable[..., Any] | None,
) -> None:
    """Put the saved state into the parts that are still those that were saved."""
    nn_state = saved.module_state("nn_module")
    optimizer_state, names = None, None
    if model.optimizer is not None and _is_kept("optimizer", changes):
        optimizer_state, names = saved.optimizer_state()
    if change_state_dict_func is not None:
        changed = change_state_dict_func(nn_state, optimizer_state)
        if not isinstance(changed, tuple | list) or len(changed) != 2 or not isinstance(changed[0], Mapping):
            raise SpecError(
                f"change_state_dict_func returned {reprlib.repr(changed)}; return the network's state dict "
                "and the optimizer's, or None for it"
            )
        nn_state, optimizer_state = changed
        names = None
    load_module_state(model.get_nn_module(), nn_state, _title(model, "nn_module"))
    for slot in ("loss", "prediction_transform"):
        module = getattr(model, slot)
        if isinstance(module, nn.Module) and _is_kept(slot, changes):
            load_module_state(module, saved.module_state(slot), _title(model, slot))
    model.load_step_state(
        saved.step_state(part.component.name for part in model.step_parts if part.component)
    )
    if optimizer_state is not None:
        load_optimizer_state(model.optimizer, optimizer_state, names, model.get_nn_module())
        _set_options(model.optimizer, changes.get("optimizer", {}))

    if changes.get("optimizer", AS_SAVED) is not None:
        load_extra_state(model, saved.extra_state())


def _is_kept(slot: str, changes: Mapping[str, Any]) -> bool:
    return isinstance(changes.get(slot, {}), Mapping)


def _set_options(optimizer: Any, options: Mapping[str, Any]) -> None:
    """Let options given to `load_model` win over those in the stored parameter groups."""
    for group in optimizer.param_groups:
        group.update({name: value for name, value in options.items() if name in group})


def _title(model: Model, slot: str) -> str:
    part = model.parts[slot]
    return slot if part is None else f"{slot} {part.name!r}"

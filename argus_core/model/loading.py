"""Loading a model from a checkpoint, whose component names are looked up among the installed plugins.

No name in the file is imported. First all names are looked up, then the model is built like any other, and
then its state is loaded.
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from argus_core.checkpoint.abstract_saved import AbstractSaved
from argus_core.checkpoint.contents import SavedFile, SavedState
from argus_core.checkpoint.legacy import is_legacy, read_legacy
from argus_core.checkpoint.restoring import Numbered, load_saved, saved_optimizer
from argus_core.checkpoint.saving import PREFIXES
from argus_core.errors import ArgusError, BuildError, SpecError
from argus_core.files.output_files import checked_path
from argus_core.model.assembly import Assembly
from argus_core.model.choice import given_by_class
from argus_core.model.model import Model
from argus_core.model.resolution import Names
from argus_core.model.restoration import Allowance, leaves_network_alone, restore_network
from argus_core.registry.file_params import Source, taken_from
from argus_core.registry.part import KIND_OF_PART
from argus_core.registry.spec import parse_spec, parse_specs
from argus_core.storage import CheckpointFile, check_sha256
from argus_core.tensors.device import resolve_devices
from argus_core.training.changes import OptimizerDrift

__all__ = ["load_model"]


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
        nn_module, optimizer, loss, prediction_transform, step: by default the saved part; ``None``
            omits the part, whose provider need not be installed then (not for nn_module); a dict updates
            the saved parameters; a name or ``(name, {params})`` chooses another component.
        device: by default the saved device; else any device that `Model` takes.
        model_name: another registered model class; ``"Model"`` is the plain one.
        state_load_func: called with the path in place of our own reader; returns ``model_name``,
            ``params``, ``nn_state_dict`` and perhaps ``optimizer_state_dict``.
        change_params_func: called with the saved params; returns the params to use.
        change_state_dict_func: called with the network's state dict and the optimizer's (or ``None``);
            returns both.
        verify: whether to check every byte that is read from a safetensors file against its checksum.
        sha256: the expected SHA-256 of the whole file, in hexadecimal.
        **params: replace top-level params of the same name.

    Raises:
        MissingPluginError: components are not installed; the message names each and the package to install.
        UnsafeCheckpointError: the file sets a parameter that only the caller may set, such as a program to
            run.
        CheckpointError: the file is missing, damaged, unsafe, newer, or does not fit the model.
    """
    if nn_module is None:
        raise SpecError(
            "load_model cannot leave nn_module out; give its parameters as a dict, or another network"
        )
    _check_callables(
        state_load_func=state_load_func,
        change_params_func=change_params_func,
        change_state_dict_func=change_state_dict_func,
    )
    parts = {"nn_module": nn_module, "optimizer": optimizer, "loss": loss, "step": step}
    parts["prediction_transform"] = prediction_transform
    changes = {slot: change for slot, change in parts.items() if change is not AS_SAVED}
    if device is not AS_SAVED:
        params["device"] = device
    path = checked_path("load_model", "file_path", file_path)
    source = Source(str(path), is_checkpoint=True, given=_given(changes))
    if state_load_func is not None or is_legacy(path):
        if state_load_func is None:
            state: Mapping[str, Any] = read_legacy(path, sha256)
        else:
            if sha256 is not None:
                check_sha256(path, sha256)
            state = state_load_func(path)
        saved: AbstractSaved = SavedState(state)
        return _load(saved, source, changes, params, model_name, change_params_func, change_state_dict_func)
    with CheckpointFile(path, sha256=sha256) as file:
        saved = SavedFile(file, verify)
        return _load(saved, source, changes, params, model_name, change_params_func, change_state_dict_func)


def _check_callables(**functions: Any) -> None:
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise SpecError(f"{name} is {reprlib.repr(function)}; give a function, or leave it out")


def _given(changes: Mapping[str, Any]) -> frozenset[tuple[str, str | None]]:
    """Return the parameters that the caller has set, by the kind of their part; ``None`` for a whole part."""
    return frozenset(
        (KIND_OF_PART.get(slot, slot), parameter)
        for slot, change in changes.items()
        for parameter in (change if isinstance(change, Mapping) else (None,))
    )


def _load(
    saved: AbstractSaved,
    source: Source,
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
    names = Names(saved)
    cls = names.model_class(model_name)
    for slot, change in changes.items():
        params[slot] = _changed(slot, params.get(slot), change, saved)
    bindings = names.bind(cls, params)
    if "device" not in new_params:
        _check_device(cls, params.get("device", "auto"), source.path)
    # The class's own __init__ uses the components that were found here.
    model = cls.__new__(cls)
    model.bindings = bindings
    model.overwritten = frozenset(slot for slot in PREFIXES if slot == "nn_module" or _is_kept(slot, changes))
    chosen = {slot for slot in (*KIND_OF_PART, "step") if not _is_kept(slot, changes)}
    allowance = Allowance(source.path, saved.size(), chosen)
    at_once = change_state_dict_func is None and leaves_network_alone(cls)
    if at_once:
        model.restore_network = functools.partial(restore_network, saved, allowance)
    model.allowance = allowance.keep
    source = source.with_given(given_by_class(cls, params))
    with taken_from(source):
        model.__init__(params)  # type: ignore[misc]
    model.restore_network = model.allowance = None
    _load_states(model, saved, changes, change_state_dict_func, at_once)
    model.eval()
    return model


def _check_device(cls: type[Model], device: Any, path: str) -> None:
    """Check that the device of a file exists here, unless the model's class overrides the device.

    Raises:
        BuildError, SpecError: it does not, or it is torch's meta device, which has no values.
    """
    if cls.build_device is not Assembly.build_device:
        return
    act = "choose one with load_model(..., device=...)"
    try:
        devices = resolve_devices(device)
    except ArgusError as error:
        raise type(error)(f"{path}: {error}; {act}") from error
    if any(each.type == "meta" for each in devices):
        raise BuildError(f"{path}: device is 'meta', on which tensors have no values; {act}")


def _changed(slot: str, value: Any, change: Any, saved: AbstractSaved) -> Any:
    """Return the value of ``params[slot]`` that an argument of `load_model` results in."""
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


def _load_states(
    model: Model,
    saved: AbstractSaved,
    changes: Mapping[str, Any],
    change_state_dict_func: Callable[..., Any] | None,
    network_is_loaded: bool,
) -> None:
    """Load the saved state into the parts that are still the saved components."""
    network: Mapping[str, Any] | None = None
    optimizer: Callable[[], Numbered] | None = None
    keeps_optimizer = model.optimizer is not None and _is_kept("optimizer", changes)
    if keeps_optimizer:
        optimizer = functools.partial(saved_optimizer, model, saved, same_loss=_is_kept("loss", changes))
        options = OptimizerDrift(saved.params(), model, asked=changes.get("optimizer", ()))
    if change_state_dict_func is not None:
        state = saved.optimizer_state()[0] if keeps_optimizer else None
        changed = change_state_dict_func(saved.module_state("nn_module"), state)
        if not isinstance(changed, tuple | list) or len(changed) != 2 or not isinstance(changed[0], Mapping):
            raise SpecError(
                f"change_state_dict_func returned {reprlib.repr(changed)}; return the network's state dict "
                "and the optimizer's, or None for it"
            )
        network = changed[0]
        if model.optimizer is not None:
            optimizer = functools.partial(tuple, (changed[1], None))
    slots = [] if network_is_loaded else ["nn_module"]
    slots += [slot for slot in ("loss", "prediction_transform") if _is_kept(slot, changes)]
    takes_extra = changes.get("optimizer", AS_SAVED) is not None
    if load_saved(model, saved, modules=slots, network=network, optimizer=optimizer, extra=takes_extra):
        options.apply(model.optimizer)


def _is_kept(slot: str, changes: Mapping[str, Any]) -> bool:
    return isinstance(changes.get(slot, {}), Mapping)

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
from argus_core.checkpoint.formats import open_checkpoint
from argus_core.checkpoint.legacy import SavedState
from argus_core.checkpoint.restoring import Changed, load_saved
from argus_core.checkpoint.sections import PREFIXES
from argus_core.errors import ArgusError, BuildError, SpecError
from argus_core.files.output_files import checked_path
from argus_core.model.assembly import Assembly
from argus_core.model.build_options import BuildOptions
from argus_core.model.model import Model
from argus_core.model.resolution import Bindings, Names
from argus_core.model.restoration import Allowance, leaves_network_alone, restore_network
from argus_core.parallel.single import alike_in_all
from argus_core.registry.file_params import Source
from argus_core.registry.part import KIND_OF_PART
from argus_core.registry.spec import parse_spec, parse_specs
from argus_core.storage import verify_sha256
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
        file_path: a ``*.safetensors`` checkpoint, a ``*.sharded`` folder of one, or a ``*.pth`` of
            pytorch-argus.
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
        verify: whether to check every byte that is read against its checksum, where the format has them.
        sha256: the expected SHA-256 of the whole file, in hexadecimal; not for a folder.
        **params: replace top-level params of the same name.

    Raises:
        MissingPluginError: components are not installed; the message names each and the package to install.
        UnsafeCheckpointError: the file sets a parameter that only the caller may set, such as a program to
            run.
        CheckpointError: the file is missing, damaged, unsafe, newer, or does not fit the model.
    """
    if nn_module is None:
        raise SpecError(
            "nn_module is None, and a model needs a network; omit the argument for the saved one, or give "
            "its parameters as a dict, or another network"
        )
    if params.get("init_from") is not None:
        raise SpecError(
            "load_model got init_from, and its weights are those of the checkpoint; for those of another "
            "file build argus_core.Model with init_from"
        )
    _check_callables(
        state_load_func=state_load_func,
        change_params_func=change_params_func,
        change_state_dict_func=change_state_dict_func,
    )
    parts = {"nn_module": nn_module, "optimizer": optimizer, "loss": loss, "step": step}
    parts["prediction_transform"] = prediction_transform
    changes = {part: change for part, change in parts.items() if change is not AS_SAVED}
    if device is not AS_SAVED:
        params["device"] = device
    path = checked_path("load_model", "file_path", file_path)
    with alike_in_all(), _opened(path, state_load_func, verify, sha256) as saved:
        values = _changed_params(saved, change_params_func) | params
        names = Names(saved)
        cls = names.model_class(model_name)
        for part, change in changes.items():
            values[part] = _changed(part, values.get(part), change, saved)
        bindings = names.bind(cls, values)
        if "device" not in params:
            _check_device(cls, values.get("device", "auto"), path)
        at_once = change_state_dict_func is None and leaves_network_alone(cls)
        model = _options(path, saved, changes, bindings, at_once).build(cls, values)
        _load_states(model, saved, changes, change_state_dict_func, at_once)
        model.data = saved.data()
    model.eval()
    return model


def _opened(
    path: Path, state_load_func: Callable[[Path], Mapping[str, Any]] | None, verify: bool, sha256: str | None
) -> AbstractSaved:
    if state_load_func is None:
        return open_checkpoint(path, verify, sha256)
    if sha256 is not None:
        verify_sha256(path, sha256)
    return SavedState(state_load_func(path))


def _check_callables(**functions: Any) -> None:
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise SpecError(f"{name} is {reprlib.repr(function)}; give a function, or leave it out")


def _given(changes: Mapping[str, Any]) -> frozenset[tuple[str, str | None]]:
    """Return the parameters that the caller has set, by the kind of their part; ``None`` for a whole part."""
    return frozenset(
        (KIND_OF_PART.get(part, part), parameter)
        for part, change in changes.items()
        for parameter in (change if isinstance(change, Mapping) else (None,))
    )


def _changed_params(
    saved: AbstractSaved, change: Callable[[dict[str, Any]], dict[str, Any]] | None
) -> dict[str, Any]:
    params = saved.params()
    if change is None:
        return params
    params = change(params)
    if not isinstance(params, Mapping):
        raise SpecError(f"change_params_func returned {reprlib.repr(params)}; return the params to use")
    return dict(params)


def _options(
    path: Path, saved: AbstractSaved, changes: Mapping[str, Any], bindings: Bindings, at_once: bool
) -> BuildOptions:
    """Return the options for a model of a checkpoint; ``at_once`` restores the network when it is built."""
    chosen = {part for part in (*KIND_OF_PART, "step") if not _is_kept(part, changes)}
    allowance = Allowance(path, saved.size(), chosen)
    return BuildOptions(
        source=Source(str(path), is_checkpoint=True, given=_given(changes)),
        bindings=bindings,
        overwritten=frozenset({"nn_module"} | PREFIXES.keys() - chosen),
        restore_network=functools.partial(restore_network, saved, allowance) if at_once else None,
        limit=allowance.keep,
    )


def _check_device(cls: type[Model], device: Any, path: Path) -> None:
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


def _changed(part: str, value: Any, change: Any, saved: AbstractSaved) -> Any:
    """Return the value of ``params[part]`` that an argument of `load_model` results in."""
    if not isinstance(change, Mapping):
        return change
    if value is None or isinstance(value, Mapping):
        if value is None and saved.components.get(part, True) is None:
            raise SpecError(
                f"the model was saved without {part}; give a name or (name, {{params}}), not only params"
            )
        return {**(value or {}), **change}
    specs = parse_specs("step", value, "step") if part == "step" else [parse_spec(part, value, part)]
    if len(specs) != 1:
        raise SpecError(
            f"a dict updates the parameters of one component, and {part} has {len(specs)}; give them all"
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
    is_same = model.optimizer is not None and _is_kept("optimizer", changes)
    options = OptimizerDrift(saved.params(), model, changes.get("optimizer", ())) if is_same else None
    changed = None
    if change_state_dict_func is not None:
        changed = _changed_states(change_state_dict_func, saved, with_optimizer=is_same)
    parts = [] if network_is_loaded and not model.parallel.is_sharded else ["nn_module"]
    parts += [part for part in ("loss", "prediction_transform") if _is_kept(part, changes)]
    has_state = load_saved(
        model,
        saved,
        parts=parts,
        optimizer=is_same or (changed is not None and model.optimizer is not None),
        extra=changes.get("optimizer", AS_SAVED) is not None,
        changed=changed,
    )
    if has_state and options is not None:
        options.apply(model.optimizer)


def _changed_states(change: Callable[..., Any], saved: AbstractSaved, with_optimizer: bool) -> Changed:
    """Return the states of network and optimizer that ``change_state_dict_func`` makes of the saved ones."""
    state = saved.optimizer_state()[0] if with_optimizer else None
    changed = change(saved.module_state("nn_module"), state)
    if not isinstance(changed, tuple | list) or len(changed) != 2 or not isinstance(changed[0], Mapping):
        raise SpecError(
            f"change_state_dict_func returned {reprlib.repr(changed)}; return the network's state dict "
            "and the optimizer's, or None for it"
        )
    return changed[0], changed[1]


def _is_kept(part: str, changes: Mapping[str, Any]) -> bool:
    return isinstance(changes.get(part, {}), Mapping)

"""Loading a model from a file of pytorch-argus, or of argus_core."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import argus_core
from argus import types
from argus.errors import CheckpointNotFoundError, ModelNotFoundError, also
from argus.model.build import cast_device
from argus.utils import Default, default, device_to_str, identity
from argus_core import CheckpointError, SpecError, UnknownNameError, resolve
from argus_core.authors import check_legacy_state, open_checkpoint

if TYPE_CHECKING:
    from argus.model.model import Model

__all__ = ["default_change_state_dict_func", "default_state_load_func", "load_model"]

State = Mapping[str, Any]
Part = Default | dict[str, Any] | tuple[str, dict[str, Any]] | str | None


def default_state_load_func(file_path: types.Path) -> dict[str, Any]:
    """Return the contents of a file of pytorch-argus, without running or importing anything from it."""
    state = _legacy_state(Path(file_path))
    if state is None:
        raise CheckpointError(
            f"{file_path} is a checkpoint of argus_core; load it with load_model, without state_load_func"
        )
    return dict(state)


def _legacy_state(path: Path) -> State | None:
    with open_checkpoint(path) as saved:
        return saved.legacy_state


def default_change_state_dict_func(
    nn_state_dict: dict[str, Any], optimizer_state_dict: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return both unchanged."""
    return nn_state_dict, optimizer_state_dict


@also(ValueError, TypeError, KeyError)
def load_model(
    file_path: types.Path,
    nn_module: Part = default,
    optimizer: Part = default,
    loss: Part = default,
    prediction_transform: Part = default,
    device: Default | types.InputDevices = default,
    state_load_func: Callable[[Any], State] = default_state_load_func,
    change_params_func: Callable[[dict[str, Any]], dict[str, Any]] = identity,
    change_state_dict_func: Callable[..., Any] = default_change_state_dict_func,
    model_name: Default | str = default,
    **kwargs: Any,
) -> Model:
    """Load a saved model, in evaluation mode.

    Its class must be defined or imported before. As in `argus_core.load_model`, no code in the file is run.

    Args:
        file_path: a file of pytorch-argus, or a ``*.safetensors`` checkpoint of argus_core.
        nn_module, optimizer, loss, prediction_transform: replace the params of that name; ``None`` leaves
            the part out (not nn_module).
        device: a device, or a list of CUDA devices, instead of the saved one.
        state_load_func: called with the path to read the file; returns ``model_name``,
            ``params``, ``nn_state_dict`` and perhaps ``optimizer_state_dict``.
        change_params_func: called with the params after the replacements above; returns the params to use.
        change_state_dict_func: called with the network's state dict and the optimizer's (or ``None``);
            returns both.
        model_name: another class.
        **kwargs: replace params of the same name.

    Raises:
        CheckpointNotFoundError: the file does not exist.
        ModelNotFoundError: the model's class is neither defined nor imported.
    """
    changes: dict[str, Any] = {"nn_module": nn_module, "optimizer": optimizer, "loss": loss}
    changes |= {"prediction_transform": prediction_transform}
    changes = {slot: change for slot, change in changes.items() if change is not default}
    if nn_module is None:
        raise SpecError("load_model cannot leave nn_module out; give its parameters")
    if device is not default:
        kwargs["device"] = device_to_str(cast_device(cast(types.InputDevices, device)))
    name = None if model_name is default else cast(str, model_name)
    path = Path(file_path)
    if not path.is_file() and state_load_func is default_state_load_func:
        raise CheckpointNotFoundError(f"there is no file {str(file_path)!r}; give the path of a saved model")
    if state_load_func is default_state_load_func:
        found = _legacy_state(path)
        if found is None:
            return _load_ours(path, name, change_params_func, change_state_dict_func, {**changes, **kwargs})
        state = found
    else:
        state = state_load_func(file_path)
        check_legacy_state(state)
    name = state["model_name"] if name is None else name
    _check_class(name, path)
    params = change_params_func({**state["params"], **changes, **kwargs})
    states = change_state_dict_func(dict(state["nn_state_dict"]), state.get("optimizer_state_dict"))
    if not isinstance(states, tuple | list) or len(states) != 2:
        raise SpecError(
            f"change_state_dict_func returned {reprlib.repr(states)}; return the network's state dict and "
            "the optimizer's, or None for it"
        )
    changed = {"model_name": name, "params": params}
    changed |= zip(("nn_state_dict", "optimizer_state_dict"), states, strict=True)
    return cast("Model", argus_core.load_model(path, state_load_func=lambda _: changed))


def _load_ours(
    path: Path,
    name: str | None,
    change_params_func: Callable[[dict[str, Any]], dict[str, Any]],
    change_state_dict_func: Callable[..., Any],
    changes: dict[str, Any],
) -> Model:
    """Load a checkpoint of argus_core by its rules."""
    if change_state_dict_func is not default_change_state_dict_func:
        changes["change_state_dict_func"] = change_state_dict_func
    model = argus_core.load_model(path, model_name=name, change_params_func=change_params_func, **changes)
    return cast("Model", model)


def _check_class(name: str, path: Path) -> None:
    try:
        resolve("model", name)
    except UnknownNameError as error:
        raise ModelNotFoundError(
            f"{path} needs the model class {name!r}, which is not defined; define or import it first, or "
            f"give another by model_name ({error})"
        ) from error

"""Conversion of checkpoints: from pytorch-argus to our format, and export of networks' state dicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from argus_core.checkpoint.contents import SavedFile
from argus_core.checkpoint.formats import open_checkpoint
from argus_core.checkpoint.weights import AVERAGE, TRAINED, chosen_weights
from argus_core.errors import (
    ArgusError,
    CheckpointError,
    MissingPluginError,
    ParamsError,
    SpecError,
    UnknownNameError,
)
from argus_core.model.loading import load_model
from argus_core.model.model import Model
from argus_core.model.restoration import Allowance
from argus_core.registry import registry
from argus_core.registry.part import KIND_OF_PART
from argus_core.storage.forms import FOLDER, is_folder
from argus_core.storage.replacement import replacement
from argus_core.storage.writer import write_plain
from argus_core.text import shown

__all__ = ["AVERAGE", "EXPORTED", "NONE", "TRAINED", "change_form", "convert", "export"]

EXPORTED = (".safetensors", ".pt", ".pth")
"""The suffixes of the export formats of a network's state."""

NONE = "none"
"""The value that omits a part, in place of a component's name."""

_KNOWN = (*KIND_OF_PART, "step", "device")


def convert(
    source: Path,
    target: Path,
    model_name: str | None = None,
    names: Mapping[str, str] | None = None,
    check: Callable[[], None] = lambda: None,
) -> tuple[Model, list[str]]:
    """Convert a ``.pth`` of pytorch-argus to our checkpoint format, including any optimizer state.

    The model is built and its state loaded before writing, so the result fits the installed components.

    Args:
        source: read by `argus_core.checkpoint.legacy`, which runs and imports nothing in the file.
        target: a ``.safetensors`` file or ``.sharded`` folder, written atomically.
        model_name: a registered model class in place of the one that the file names; ``"Model"`` is the
            plain one.
        names: a component for each of ``nn_module``, ``loss``, ``optimizer`` and
            ``prediction_transform`` whose class the file's model class fixed, or `NONE` to omit it.
        check: called once the model is loaded; raises if ``target`` must not be written.

    Returns:
        The model, and the keys of its params that were omitted since the plain `Model` does not take them.

    Raises:
        MissingPluginError: no installed package provides the model's class.
        SpecError: a part has parameters and no name.
        CheckpointError: the file is not from pytorch-argus, damaged, unsafe, or does not fit the model.
    """
    with open_checkpoint(source) as saved:
        if saved.legacy_state is None:
            raise CheckpointError(
                f"{source} is a checkpoint of argus_core already; load it with load_model, or convert it to "
                f"a name that ends in {'.safetensors' if is_folder(source) else FOLDER}, without options"
            )
        state, params = saved.legacy_state, saved.params()
    cls = _model_class(source, state["model_name"] if model_name is None else model_name)
    left_out = [str(key) for key in params if cls is Model and key not in _KNOWN]

    def changed(saved: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in saved.items() if str(key) not in left_out}
        return _named(kept, names or {}, cls) | {"device": "cpu"}

    model = load_model(
        source, model_name=model_name, state_load_func=lambda _: state, change_params_func=changed
    )
    if "device" in params:
        model.params["device"] = params["device"]  # the saved device, even if this machine lacks it
    check()
    model.save(target, optimizer_state=bool(state.get("optimizer_state_dict")))
    return model, left_out


def change_form(source: Path, target: Path, check: Callable[[], None] = lambda: None) -> bool:
    """Write our checkpoint in its other form: a file as a folder of shards, or a folder as one file.

    Nothing is looked up or built, and every byte is compared with its checksum.

    Args:
        source: a checkpoint.
        target: the file or folder, written atomically.
        check: called once the source is open; raises if ``target`` must not be written.

    Returns whether ``source`` is ours and in the other form; if not, nothing is written.

    Raises:
        CheckpointError: the checkpoint is damaged or unsafe, or writing failed.
    """
    with open_checkpoint(source) as saved:
        if not isinstance(saved, SavedFile) or is_folder(source) == is_folder(target):
            return False
        check()
        saved.copy_to(target)
    return True


def export(
    source: Path, target: Path, weights: str | None = None, check: Callable[[], None] = lambda: None
) -> tuple[int, str | None]:
    """Export the state dict of a checkpoint's network to a plain file.

    The names are those of the network's state dict. No component is looked up or built.

    Args:
        source: our checkpoint, or a ``.pth`` of pytorch-argus.
        target: its suffix selects the format, see `EXPORTED`; written atomically.
        weights: ``"average"`` for those that a step strategy uses in validation and prediction,
            ``"trained"`` for those that training resumes with; by default the average if there is one.
        check: called once the state is read; raises if ``target`` must not be written.

    Returns:
        The number of tensors, and the strategy whose average they are, if any.

    Raises:
        ArgusError: the suffix is unknown, the format cannot hold the state, or there is no average.
        CheckpointError: the checkpoint is damaged or unsafe, or writing failed.
    """
    if target.suffix.lower() not in EXPORTED:
        raise ArgusError(f"cannot export to {str(target)!r}; give a name that ends in {', '.join(EXPORTED)}")
    state, strategy, most = _network_state(source, weights)
    check()
    if target.suffix.lower() == ".safetensors":
        _write_safetensors(target, state, source, most)
    else:
        with replacement(target, "file") as file:
            torch.save(state, file)
    return sum(isinstance(value, Tensor) for value in state.values()), strategy


def _model_class(source: Path, name: str) -> Any:
    try:
        return registry.resolve("model", name).load()
    except UnknownNameError as error:
        raise MissingPluginError(
            f"{source} needs the model class {name!r}, which nothing here provides; install the package that "
            "registers it, or give another by --model NAME: with --model Model --nn-module NAME the plain "
            "one takes a registered network"
        ) from error


def _named(params: dict[str, Any], names: Mapping[str, str], cls: Any) -> dict[str, Any]:
    """Return params whose parts have the given names and keep their parameters."""
    for part, name in names.items():
        value = params.get(part)
        options = value[1] if isinstance(value, tuple | list) and len(value) == 2 else value
        named = (name, dict(options) if isinstance(options, Mapping) else {})
        params[part] = None if name == NONE else named
    for part in KIND_OF_PART:
        if isinstance(params.get(part), Mapping) and getattr(cls, part, None) is None:
            option = "--" + part.replace("_", "-")
            raise SpecError(
                f"params[{part!r}] is {params[part]!r}, parameters of what the file's model class fixed; "
                f"name a registered component by {option} NAME, or leave the part out by {option} {NONE}"
            )
    return params


def _network_state(source: Path, weights: str | None) -> tuple[dict[str, Any], str | None, float]:
    """Return a network's state dict, the strategy whose average it is, and its allowed bytes."""
    with open_checkpoint(source) as saved:
        size = saved.size()
        state, strategy = chosen_weights(saved, source, weights)
    return state, strategy, Allowance(source, size).most("nn_module")


def _write_safetensors(target: Path, state: Mapping[str, Any], source: Path, most: float) -> None:
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ArgusError(
            f"{source} holds state that is not a tensor ({shown(others)}), which a plain safetensors file "
            "cannot hold; export to a .pt file"
        )
    size = sum(tensor.nbytes for tensor in state.values())
    if size > most:
        raise ArgusError(
            f"{source} has tensors of many names, which would take {size:,} bytes in a plain safetensors "
            f"file, and {int(most):,} is the most for this one; export to a .pt file, which holds each once"
        )
    try:
        write_plain(target, state)
    except ParamsError as error:
        raise ArgusError(
            f"{source} holds a tensor that a plain safetensors file cannot ({error}); export to a .pt file"
        ) from error

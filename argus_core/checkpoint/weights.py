"""The weights of a network in a file of any format: our checkpoints, safetensors, and what torch saves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from argus_core.checkpoint.abstract_saved import AbstractSaved
from argus_core.checkpoint.formats import open_checkpoint
from argus_core.checkpoint.legacy import SavedState, read_pickled
from argus_core.checkpoint.sections import has_names
from argus_core.errors import ArgusError, CheckpointError, UnsafeCheckpointError
from argus_core.storage.plain_file import is_plain_file, read_plain
from argus_core.text import shown

__all__ = ["AVERAGE", "TRAINED", "chosen_weights", "read_weights"]

AVERAGE, TRAINED = "average", "trained"
"""The sets of weights that a checkpoint may have."""

# The keys under which programs that train save the network's state, those of its averages first.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
_WRAPPED = ("nn_state_dict", "state_dict", "model_state_dict", "model", "module", "net", "network")


def read_weights(path: Path, weights: str | None = None) -> tuple[dict[str, Any], str | None]:
    """Return the state dict of the network in a file, and the name of the average that it is, if it is one.

    No component is looked up or built.

    Args:
        path: our checkpoint, a safetensors file, or a state dict as `torch.save` writes it, perhaps inside a
            dict under a usual key such as ``state_dict``.
        weights: `AVERAGE` or `TRAINED`; by default the average if there is one.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, or holds no network's state.
        ArgusError: it holds no average, or several.
    """
    if is_plain_file(path):
        return _without_average(read_plain(path), path, weights), None
    if SavedState.is_format_of(path):
        return _pickled(read_pickled(path), path, weights)
    with open_checkpoint(path) as saved:
        return chosen_weights(saved, path, weights)


def chosen_weights(
    saved: AbstractSaved, path: Path, weights: str | None
) -> tuple[dict[str, Any], str | None]:
    """Return a network's state dict from a checkpoint, and the step strategy whose average it is, if any.

    Args:
        saved: the checkpoint.
        path: of its file, for messages.
        weights: as in `read_weights`.

    Raises:
        ArgusError: it holds no average, or several.
        CheckpointError: the state is damaged or unsafe.
    """
    state = saved.module_state("nn_module")
    averages = {} if weights == TRAINED else saved.evaluated()
    if len(averages) > 1:
        raise ArgusError(
            f"{path} holds the averages of several step strategies ({', '.join(averages)}); choose the "
            f"{TRAINED!r} weights"
        )
    for strategy, tensors in averages.items():
        return _averaged(state, tensors, path), strategy
    return _without_average(state, path, weights), None


def _without_average(state: dict[str, Any], path: Path, weights: str | None) -> dict[str, Any]:
    if weights == AVERAGE:
        raise ArgusError(
            f"{path} holds no average of its weights; leave weights out, or train with step 'ema'"
        )
    return state


def _averaged(state: Mapping[str, Any], averages: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Return a state dict with weights replaced by their averages, in the dtypes of the weights."""
    # A tied weight is one tensor with several names; its average has one of them.
    by_weight = {}
    for name, average in averages.items():
        weight = state.get(name)
        if weight is None:
            continue
        if not isinstance(weight, Tensor) or average.shape != weight.shape:
            raise UnsafeCheckpointError(
                f"{path}: the average of {name!r} has the shape {list(average.shape)}, not that of the "
                "weight; do not trust this file"
            )
        by_weight[id(weight)] = average.to(weight.dtype)
    return {name: by_weight.get(id(value), value) for name, value in state.items()}


def _pickled(content: Any, path: Path, weights: str | None) -> tuple[dict[str, Any], str | None]:
    """Return the state dict in the content of a file that torch saved."""
    if _is_state(content):
        return _without_average(dict(content), path, weights), None
    content = content if isinstance(content, dict) else {}
    for key in () if weights == TRAINED else _AVERAGED:
        if _is_state(content.get(key)):
            return dict(content[key]), key
    found = [key for key in _WRAPPED if _is_state(content.get(key))]
    found = found or [key for key, value in content.items() if isinstance(key, str) and _is_state(value)]
    if not found or (len(found) > 1 and found[0] not in _WRAPPED):
        has = shown([*content]) if content else "something else"
        raise CheckpointError(
            f"{path} holds {has}, and not one network's state dict; save that alone with torch.save, from "
            "code that you trust"
        )
    return _without_average(dict(content[found[0]]), path, weights), None


def _is_state(value: Any) -> bool:
    """Return whether a value may be a network's state dict: strings for keys, and mostly tensors."""
    if not isinstance(value, dict) or not value or not has_names(value):
        return False
    return 2 * sum(isinstance(each, Tensor) for each in value.values()) > len(value)

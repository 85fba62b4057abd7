"""An optimizer's state by the names of its parameters, for checkpoints, and by their numbers, for torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

__all__ = ["name_optimizer_state", "number_optimizer_state", "parameter_names", "parameters_of", "renumbered"]


def name_optimizer_state(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the optimizer's state dict with each parameter's name in the place of its number.

    A parameter that is not among ``parameters`` is called ``#<number>``.
    """
    numbered = optimizer.state_dict()
    names = parameter_names(optimizer, parameters)
    groups = [
        {**group, "params": [names[number] for number in group["params"]]}
        for group in numbered["param_groups"]
    ]
    state = {names[number]: dict(slots) for number, slots in numbered["state"].items()}
    return {"state": state, "param_groups": groups}


def number_optimizer_state(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict as torch has it: with parameters numbered in the order of their groups."""
    names = [name for group in named["param_groups"] for name in group["params"]]
    number = {name: index for index, name in enumerate(names)}
    groups = [
        {**group, "params": [number[name] for name in group["params"]]} for group in named["param_groups"]
    ]
    return {"state": {number[name]: slots for name, slots in named["state"].items()}, "param_groups": groups}


def renumbered(state: Mapping[str, Any], old_numbers: list[int]) -> dict[str, Any]:
    """Return ``state`` with its slots under new numbers; the groups stay as long as they were."""
    slots = state["state"]
    moved = {new: slots[old] for new, old in enumerate(old_numbers) if old in slots}
    return {"state": moved, "param_groups": state["param_groups"]}


def parameter_names(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the optimizer's parameters by number; ``#<number>`` for an unknown one."""
    known = {id(parameter): name for name, parameter in parameters.items()}
    return [known.get(id(each), f"#{number}") for number, each in enumerate(parameters_of(optimizer))]


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the optimizer's parameters by number: in the order of its groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

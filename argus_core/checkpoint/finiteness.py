"""The check that a model's numbers are finite: parameters, optimizer state and buffers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from argus_core.abstract_model import AbstractModel
from argus_core.steps.parameters import module_parts, named_parameters
from argus_core.steps.sparse import entries
from argus_core.tensors.listing import tensors_in
from argus_core.tensors.processes import all_agree

__all__ = ["Finiteness"]


class Finiteness:
    """A repeatable check of a model; buffers that are not finite at first, such as masks, never count."""

    def __init__(self) -> None:
        self._at_first: dict[str, bool] = {}

    def holds(self, model: AbstractModel, optimizer_state: bool) -> bool:
        """Return whether the model's numbers contain neither nan nor inf; waits for the device."""
        counting = [*named_parameters(model).values(), *_averages(model)]
        if optimizer_state and model.optimizer is not None:
            counting += tensors_in(model.optimizer.state)
        is_finite = _are_finite(map(model.parallel.local, counting))
        for name, buffer in _buffers(model):
            now = _are_finite([buffer])
            if self._at_first.setdefault(name, now) and not now:
                is_finite = False
        return all_agree(is_finite, model.device) if model.parallel.several else is_finite


def _averages(model: AbstractModel) -> Iterator[Tensor]:
    """Yield the tensors of step strategies that replace parameters in evaluation, such as averages."""
    names = named_parameters(model)
    for state in model.step_state().values():
        for kept in state.values():
            if isinstance(kept, dict):
                yield from (each for name, each in kept.items() if name in names and isinstance(each, Tensor))


def _buffers(model: AbstractModel) -> Iterator[tuple[str, Tensor]]:
    """Yield the other tensors in the state dicts that a checkpoint keeps, by name."""
    for part, module in module_parts(model):
        parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
        for name, value in module.state_dict().items():
            if name not in parameters and isinstance(value, Tensor):
                yield f"{part}/{name}", value


def _are_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether all numbers are finite, with one wait per device."""
    found: dict[torch.device, list[Tensor]] = {}
    for each in tensors:
        if is_lazy(each) or not (each.is_floating_point() or each.is_complex()):
            continue
        values = entries(each.detach())
        # torch.isfinite does not take 8-bit floats.
        finite = torch.isfinite(values.float() if values.itemsize == 1 else values).all()
        found.setdefault(finite.device, []).append(finite)
    return all(bool(torch.stack(flags).all()) for flags in found.values())

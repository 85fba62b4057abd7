"""The layout of a model at the start of a run: a checkpoint fits only a model with the same layout."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from argus_core.errors import ArgusWarning

if TYPE_CHECKING:
    from argus_core.abstract_model import AbstractModel

__all__ = ["Layout"]

_SHOWN = 3


class Layout:
    """The names in a model's state, the parameters of its optimizer, and which of them are frozen."""

    def __init__(self, model: AbstractModel) -> None:
        self._state = _shapes(model)
        self._optimizer = type(model.optimizer)
        self._groups = _groups(model)
        self._frozen = _frozen(model)
        self._told = False

    def tell_changes(self, model: AbstractModel, callback: str, optimizer_state: bool) -> None:
        """Warn, once, about changes after which the run's checkpoints cannot be resumed or loaded."""
        if self._told:
            return
        changes = [*self._changes(model, optimizer_state)]
        if changes:
            self._told = True
            warnings.warn(f"{callback}: {'; '.join(changes)}", ArgusWarning, stacklevel=5)

    def _changes(self, model: AbstractModel, optimizer_state: bool) -> Iterator[str]:
        differing = _differing(self._state, _shapes(model))
        if differing:
            yield (
                f"the network has changed since the run began ({_shown(differing)}), so load_model and "
                "resume, which build it from its params, cannot use the checkpoint; build the whole "
                "network before fit"
            )
        if optimizer_state and model.optimizer is not None:
            yield from self._changes_of_optimizer(model)

    def _changes_of_optimizer(self, model: AbstractModel) -> Iterator[str]:
        kind, groups, frozen = type(model.optimizer), _groups(model), _frozen(model)
        if kind is not self._optimizer:
            yield (
                f"the run has replaced its optimizer {self._optimizer.__name__} with {kind.__name__}, so the "
                "checkpoint cannot be resumed; choose it in params, or train with each in its own run"
            )
        elif groups != self._groups:
            names = {name for group in self._groups for name in group}
            others = sorted(names ^ {name for group in groups for name in group})
            what = _shown(others) or f"{len(self._groups)} groups were {len(groups)}"
            yield (
                f"the optimizer has other parameters than when the run began ({what}), so the checkpoint "
                "cannot be resumed, and load_model needs optimizer=None; give the optimizer all of them "
                "before fit (override build_optimizer), with lr 0 for those that train later"
            )
        elif frozen != self._frozen:
            yield (
                f"requires_grad of {_shown(sorted(frozen ^ self._frozen))} has changed since the run "
                "began, and a checkpoint does not keep it, so a resumed run trains other parameters; "
                "set it in the event resumed, as well"
            )


def _shapes(model: AbstractModel) -> dict[str, Any]:
    """Return the shapes in the network's state by name; ``None`` for values without a shape."""
    state = model.get_nn_module().state_dict()
    return {
        name: None if hasattr(value, "materialize") else getattr(value, "shape", None)
        for name, value in state.items()
    }


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return sorted(
        name
        for name in {**before, **now}
        if (name in before) != (name in now) or (before[name] is not None and before[name] != now[name])
    )


def _groups(model: AbstractModel) -> list[list[str]]:
    """Return the names of the optimizer's parameters by group."""
    known = {id(parameter): name for name, parameter in model.get_nn_module().named_parameters()}
    groups = getattr(model.optimizer, "param_groups", [])
    return [[known.get(id(each), "another parameter") for each in group["params"]] for group in groups]


def _frozen(model: AbstractModel) -> set[str]:
    """Return the names of the parameters that are frozen, without those that a step strategy trains later."""
    named = model.get_nn_module().named_parameters()
    return {name for name, each in named if not each.requires_grad} - model.held_parameters()


def _shown(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more

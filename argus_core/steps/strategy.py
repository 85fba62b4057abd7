"""A chosen step strategy: its declarations, and the checks of its methods against the slots of an update."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pluggy

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError, near
from argus_core.hooks import PROJECT
from argus_core.steps.hooks import StepHooks

__all__ = ["SLOTS", "Strategy", "check_hooks", "registered"]

SLOTS: tuple[str, ...] = tuple(name for name in vars(StepHooks) if not name.startswith("_"))


@dataclass(frozen=True)
class Strategy:
    """A built step strategy with the name it was chosen by and its provider (for messages)."""

    name: str
    instance: Any
    provider: str

    @property
    def label(self) -> str:
        """The strategy's name in messages: ``step strategy 'sam' (medseg 2.1)``."""
        return f"step strategy {self.name!r} ({self.provider})"

    @property
    def runs_before(self) -> tuple[str, ...]:
        """Names of strategies that run after this one in every slot that both implement."""
        return _names(getattr(self.instance, "runs_before", ()))

    @property
    def runs_after(self) -> tuple[str, ...]:
        """Names of strategies that run before this one in every slot that both implement."""
        return _names(getattr(self.instance, "runs_after", ()))

    @property
    def conflicts(self) -> Mapping[str, str]:
        """Traits of other strategies or of the model that this one conflicts with, each with the reason.

        Where leaving one of them out is not the action, the reason gives it after a semicolon.
        """
        return dict(getattr(self.instance, "conflicts", {}))

    @property
    def requires(self) -> Mapping[str, str]:
        """Traits that another strategy or the model must have, each with the reason."""
        return dict(getattr(self.instance, "requires", {}))

    @property
    def evaluates_with(self) -> str | None:
        """The key in its state of the tensors that replace the network's, by their names, in evaluation."""
        key: str | None = getattr(self.instance, "evaluates_with", None)
        return key

    @property
    def unfreezes(self) -> bool:
        """True for an `AbstractUnfreezing`."""
        return getattr(self.instance, "unfreezes", False) is True

    def traits(self, model: AbstractModel) -> set[str]:
        """Return the traits that others may conflict with or require: its name, and those it declares."""
        declared = getattr(self.instance, "traits", None)
        return {self.name} | (set(declared(model)) if declared is not None else set())

    def acts_in(self, slot: str, model: AbstractModel) -> bool:
        """Return whether the strategy uses a slot that it implements; ``idle_slots`` names the others."""
        declared = getattr(self.instance, "idle_slots", None)
        return declared is None or slot not in _names(declared(model))


def check_hooks(strategy: Strategy) -> None:
    """Raise where a strategy's hooks are misspelled, unmarked or take arguments that their slots lack.

    Raises:
        BuildError: a hook is wrong; the message contains the right form.
    """
    registered((strategy,))


def registered(strategies: Iterable[Strategy]) -> pluggy.PluginManager:
    """Return a pluggy manager with the strategies registered, each checked as by `check_hooks`."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(StepHooks)
    for strategy in strategies:
        _register(manager, strategy)
    return manager


def _register(manager: pluggy.PluginManager, strategy: Strategy) -> None:
    marked = [_check_method(manager, strategy, name) for name in dir(strategy.instance)]
    if not any(marked):
        raise BuildError(
            f"{strategy.label} implements no slot{_nearly(strategy)}; mark a method named after one with "
            f"hookimpl ({', '.join(SLOTS)})"
        )
    try:
        manager.register(strategy.instance)
    except pluggy.PluginValidationError as error:
        raise BuildError(_wrong_arguments(strategy, error)) from error


def _nearly(strategy: Strategy) -> str:
    """Return the method of a strategy without slots whose name is close to a slot's, or ``""``."""
    for name, method in vars(type(strategy.instance)).items():
        hint = "" if name.startswith("_") or not inspect.isfunction(method) else near(name, SLOTS)
        if hint:
            return f": {name!r} is none{hint}"
    return ""


def _check_method(manager: pluggy.PluginManager, strategy: Strategy, name: str) -> bool:
    """Return whether the strategy's method of that name implements a slot; raise if it is misdeclared."""
    options = manager.parse_hookimpl_opts(strategy.instance, name)
    if options is None:
        if name in SLOTS:
            raise BuildError(
                f"{strategy.label} has a method {name!r} without hookimpl, so it would never be called; "
                "mark it with hookimpl or rename it"
            )
        return False
    slot = options.get("specname") or name
    if slot not in SLOTS:
        raise BuildError(
            f"{strategy.label} implements {slot!r}, which is not a slot{near(slot, SLOTS)}; "
            f"the slots are {', '.join(SLOTS)}"
        )
    if options.get("wrapper") or options.get("hookwrapper"):
        raise BuildError(
            f"{strategy.label} wraps slot {slot!r}; slots take plain implementations: "
            "return a context manager from a slot that wraps"
        )
    return True


def _wrong_arguments(strategy: Strategy, error: pluggy.PluginValidationError) -> str:
    slot = next(slot for slot in SLOTS if repr(slot) in str(error))
    return (
        f"{strategy.label} implements {slot!r} with arguments that the slot does not have; "
        f"the slot is {slot}{inspect.signature(getattr(StepHooks, slot))}"
    )


def _names(declared: str | Iterable[str]) -> tuple[str, ...]:
    return (declared,) if isinstance(declared, str) else tuple(declared)

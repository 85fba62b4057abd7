"""Composition of step strategies: their order in each hook of the update, and their conflicts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import pluggy

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError, ConflictError
from argus_core.registry.component import BUILTIN
from argus_core.registry.distributions import version_of
from argus_core.steps.default import Default
from argus_core.steps.hooks import Composition, StepHooks, composition_of
from argus_core.steps.strategy import SLOTS, Strategy, registered
from argus_core.storage.mismatch import fitting

if TYPE_CHECKING:  # few models have one
    from argus_core.steps.unfreezing import AbstractUnfreezing

__all__ = ["SLOTS", "Composed"]

Implementation = Callable[..., Any]

_MODEL = "the model"
_WITH_AMP = " and give amp dtype='bfloat16'"


class Composed:
    """The step strategies of one model, sorted into slots (the hooks of `StepHooks`).

    Slots run in the order of `StepHooks`. Inside a slot ``tryfirst``/``trylast`` decide, then
    ``runs_before``/``runs_after``, then the name; the order in which the user listed strategies does not.

    Raises:
        ConflictError: one strategy twice, two owners for a slot, a declared conflict, or a circle.
        BuildError: a misspelled or wrongly declared hook, or a requirement that no strategy meets.
    """

    def __init__(self, strategies: Iterable[Strategy], default: Strategy | None = None) -> None:
        strategies = tuple(strategies)
        _check_twice(strategies)
        self._default = default or _built_in()
        chosen = [strategy for strategy in strategies if type(strategy.instance) is not Default]
        self.strategies: tuple[Strategy, ...] = (self._default, *_ordered(chosen))
        slots = _slots_of_default() if self.strategies == (_built_in(),) else _fill_slots(self.strategies)
        self._slots = {slot: _owned(slot, members, self._default) for slot, members in slots.items()}

    def implementations(self, slot: str, model: AbstractModel) -> tuple[Implementation, ...]:
        """Return the bound methods to call for ``slot`` of ``model``, in order.

        A slot with one owner has one, or none where `Update` contains the default's code.
        """
        return tuple(function for strategy, function in self._slots[slot] if strategy.acts_in(slot, model))

    def members(self, slot: str, model: AbstractModel) -> tuple[Strategy, ...]:
        """Return the strategies that act in ``slot``, in order; the default unless another one owns it."""
        members = tuple(strategy for strategy, _ in self._slots[slot] if strategy.acts_in(slot, model))
        return members or ((self._default,) if composition_of(slot) is Composition.OWNER else ())

    def check(self, model: AbstractModel) -> None:
        """Raise where strategies conflict with each other or with ``model``."""
        traits = {**self.traits(model), _MODEL: model.traits()}
        conflicts = [*_missing_closure(model, traits), *self._conflicts(traits), *_refused(model, traits)]
        if conflicts:
            raise ConflictError("; ".join(conflicts))
        for strategy in self.strategies:
            for trait, reason in strategy.requires.items():
                if not any(trait in owned for owned in traits.values()):
                    raise BuildError(f"step strategy {strategy.name!r} needs {trait!r}: {reason}; add it")

    def traits(self, model: AbstractModel) -> dict[str, set[str]]:
        """Return each strategy's traits by its name; other strategies may conflict with or require them."""
        traits = {strategy.name: strategy.traits(model) for strategy in self.strategies}
        for strategy, function in self._slots["apply_update"]:
            if strategy.acts_in("apply_update", model) and not _takes(function, "apply_update", "closure"):
                traits[strategy.name].add("ignores_closure")
        return traits

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the state of each strategy that has some, by its name."""
        states = {strategy.name: function() for strategy, function in self._slots["state_dict"]}
        return {name: state for name, state in states.items() if state}

    def evaluated(self) -> dict[str, str]:
        """Return, by strategy, the key in its state of the tensors that evaluation uses, such as averages."""
        return {each.name: each.evaluates_with for each in self.strategies if each.evaluates_with}

    def load_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore the state of each strategy that `state` returned.

        Raises:
            StateMismatchError: a state does not fit its strategy.
        """
        for strategy, function in self._slots["load_state_dict"]:
            if strategy.name in state:
                advice = "install the version that it was saved with, or load with step=None"
                with fitting(strategy.label, advice):
                    function(dict(state[strategy.name]))

    def unfreezing(self) -> list[AbstractUnfreezing]:
        """Return the strategies that keep parameters frozen for a part of the run."""
        return [each.instance for each in self.strategies if each.unfreezes]

    def _conflicts(self, traits: Mapping[str, set[str]]) -> Iterator[str]:
        for strategy in self.strategies:
            for trait, reason in strategy.conflicts.items():
                for other in traits:
                    if trait in traits[other] and other != strategy.name:
                        action = "" if "; " in reason else f"; {_left_out(strategy.name, trait, other)}"
                        yield (
                            f"step strategy {strategy.name!r} does not go with {_owner_of(trait, other)}: "
                            f"{reason}{action}"
                        )


# Shared: every model has this strategy, it keeps no state, and looking up its provider takes time.
@functools.cache
def _built_in() -> Strategy:
    return Strategy("default", Default(), f"{BUILTIN} {version_of(BUILTIN)}")


@functools.cache
def _slots_of_default() -> dict[str, list[tuple[Strategy, Implementation]]]:
    return _fill_slots((_built_in(),))


def _missing_closure(model: AbstractModel, traits: Mapping[str, set[str]]) -> Iterator[str]:
    if "needs_closure" in traits[_MODEL] and not any("gives_closure" in owned for owned in traits.values()):
        scaled = any("grad_scaler" in owned for owned in traits.values())
        yield (
            f"optimizer {type(model.optimizer).__name__!r} asks for gradients several times in one step, "
            f"and no step strategy hands it a closure; add 'closure' to step{_WITH_AMP * scaled}, or choose "
            "another optimizer"
        )


def _left_out(strategy: str, trait: str, other: str) -> str:
    if other != _MODEL:
        return "leave one of them out"
    return f"leave {strategy!r} out" + ", or choose another optimizer" * trait.startswith("optimizer:")


def _refused(model: AbstractModel, traits: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield what the engine of several processes does not go with."""
    engine = model.parallel
    for trait, reason in engine.conflicts.items() if engine.several else ():
        for owner in traits:
            if trait in traits[owner]:
                yield (
                    f"parallel {engine.name!r} does not go with {_owner_of(trait, owner)}: {reason}; choose "
                    "another one, or start one process"
                )


def _owner_of(trait: str, owner: str) -> str:
    return repr(trait) if owner in (trait, _MODEL) else f"{owner!r} ({trait})"


def _check_twice(strategies: Sequence[Strategy]) -> None:
    seen: set[str] = set()
    for strategy in strategies:
        if strategy.name in seen:
            raise ConflictError(f"step strategy {strategy.name!r} is listed twice; list it once")
        seen.add(strategy.name)


def _ordered(strategies: Sequence[Strategy]) -> list[Strategy]:
    by_name = {strategy.name: strategy for strategy in strategies}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for strategy in sorted(strategies, key=lambda strategy: strategy.name):
        sorter.add(strategy.name, *(name for name in strategy.runs_after if name in by_name))
        for later in strategy.runs_before:
            if later in by_name:
                sorter.add(later, strategy.name)
    ordered: list[str] = []
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ConflictError(
            f"step strategies run before each other in a circle: {circle}; leave one out"
        ) from error
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += ready
        sorter.done(*ready)
    return [by_name[name] for name in ordered]


def _fill_slots(strategies: Sequence[Strategy]) -> dict[str, list[tuple[Strategy, Implementation]]]:
    manager = registered(strategies)
    position = {id(strategy.instance): index for index, strategy in enumerate(strategies)}
    slots: dict[str, list[tuple[Strategy, Implementation]]] = {}
    for slot in SLOTS:
        implementations = sorted(
            getattr(manager.hook, slot).get_hookimpls(),
            key=lambda implementation: (
                bool(implementation.trylast) - bool(implementation.tryfirst),
                position[id(implementation.plugin)],
            ),
        )
        slots[slot] = [
            (strategies[position[id(implementation.plugin)]], _positional(slot, implementation))
            for implementation in implementations
        ]
    return slots


def _positional(slot: str, implementation: pluggy.HookImpl) -> Implementation:
    """Return a callable that takes all of the slot's arguments by position: the bound method if possible."""
    function: Implementation = implementation.function
    expected = _arguments(slot)
    if implementation.argnames == expected:
        return function
    return _Positional(function, tuple(expected.index(name) for name in implementation.argnames))


@dataclass(frozen=True)
class _Positional:
    """A call of ``function`` with the arguments that it declares; unlike a lambda, it can be deep-copied."""

    function: Implementation
    positions: tuple[int, ...]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*map(arguments.__getitem__, self.positions))


def _arguments(slot: str) -> tuple[str, ...]:
    return tuple(inspect.signature(getattr(StepHooks, slot)).parameters)[1:]


def _takes(function: Implementation, slot: str, argument: str) -> bool:
    """Return whether an implementation of the slot declares that argument."""
    return not isinstance(function, _Positional) or _arguments(slot).index(argument) in function.positions


def _owned(
    slot: str, members: list[tuple[Strategy, Implementation]], default: Strategy
) -> list[tuple[Strategy, Implementation]]:
    """Return a slot's members; in a slot with one owner, a strategy's method replaces the default's."""
    owners = [member for member in members if member[0] is not default]
    if composition_of(slot) is not Composition.OWNER or not owners:
        return members
    if len(owners) > 1:
        first, second = (strategy for strategy, _ in owners[:2])
        raise ConflictError(
            f"{first.label} and {second.label} both own the slot {slot!r}, which takes one; "
            "leave one of them out"
        )
    return owners

"""What of a run is another than when its checkpoint was written, and what that means for going on."""

from __future__ import annotations

import copy
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.audience import named
from argus_core.callbacks.lr_schedule import LRSchedule
from argus_core.errors import StateMismatchError
from argus_core.registry.component import BUILTIN
from argus_core.registry.distributions import version_of
from argus_core.training.engine import Engine

__all__ = ["OptimizerDrift", "ScheduleDrift", "param_differences", "version_differences"]

# What the state of an optimizer of torch must hold once an option is on: without it the update would fail.
_NEEDED = {
    "amsgrad": ("max_exp_avg_sq", ("Adam", "AdamW")),
    "centered": ("grad_avg", ("RMSprop",)),
    "momentum": ("momentum_buffer", ("RMSprop",)),
}


class OptimizerDrift:
    """The optimizer's options that have changed since a checkpoint was written.

    Args:
        before: the params then.
        model: as it was built, before its optimizer takes any state.
        asked: options that are to hold though they are what they were when the model was built.
    """

    def __init__(self, before: Mapping[str, Any], model: AbstractModel, asked: Iterable[str] = ()) -> None:
        was, now = before.get("optimizer"), model.params.get("optimizer")
        asked = {*asked, *_differing(_options(was), _options(now))}
        self._was: dict[str, Any] = {}
        self._groups: list[dict[str, Any]] = [{} for _ in model.optimizer.param_groups]
        if not asked or _name(was) != _name(now):
            return
        # Only the class knows how params become options: a group may have a multiple of the rate.
        for fresh, (old, new) in zip(self._groups, _built_groups(model, before), strict=False):
            changed = {*_differing(old, new), *asked} & new.keys()
            fresh.update({name: new[name] for name in new if name in changed})
            self._was |= {name: old.get(name) for name in fresh}

    @property
    def names(self) -> list[str]:
        """The options that change in some group."""
        return list(self._was)

    def apply(self, optimizer: Any, schedules: list[LRSchedule]) -> list[float]:
        """Let the new options hold in an optimizer that has its old state back.

        A learning rate is where schedules begin, so those that are on go on with all rates scaled.

        Returns:
            What the schedules are to be scaled by, for each parameter group.

        Raises:
            StateMismatchError: the optimizer cannot go on with them.
        """
        self._check(optimizer)
        pairs = list(zip(optimizer.param_groups, self._groups, strict=True))
        for group, fresh in pairs:
            group.update({name: value for name, value in fresh.items() if name != "lr" or not schedules})
            if "lr" in fresh and "initial_lr" in group and not schedules:  # where a new schedule begins
                group["initial_lr"] = fresh["lr"]
        if "lr" not in self.names or not schedules or _without_effect(schedules):
            return [1.0] * len(pairs)
        ratios = [_ratio(group, fresh["lr"]) if "lr" in fresh else 1.0 for group, fresh in pairs]
        for (group, _), ratio in zip(pairs, ratios, strict=True):
            for name in {"lr", "initial_lr"} & group.keys():
                group[name] = group[name] * ratio
        return ratios

    def meaning(self, schedules: list[LRSchedule]) -> str:
        """Return what the change means, for the sentence that tells of it."""
        owner = _without_effect(schedules)
        if "lr" not in self.names or not schedules:
            return "which holds from here on"
        others = "" if self.names == ["lr"] else "which holds from here on, but for "
        if owner:
            return f"{others or 'where '}lr has no effect: {owner.name} sets the rate by its own options"
        return f"{others or 'where '}lr scales what is left of the schedule"

    def _check(self, optimizer: Any) -> None:
        kind = type(optimizer).__name__
        for name in self.names:
            slot, kinds = _NEEDED.get(name, ("", ()))
            is_on = any(fresh.get(name) for fresh in self._groups)
            if kind in kinds and is_on and any(slot not in slots for slots in optimizer.state.values()):
                raise StateMismatchError(
                    f"the run trained {kind} with {name}={self._was.get(name)!r}, and its state lacks the "
                    f"{slot!r} that {name} needs; leave {name} as it was, or take the weights with "
                    "load_model and train anew"
                )


class ScheduleDrift:
    """The learning-rate schedules of a run, beside those that a checkpoint has the state of.

    Args:
        engine: whose callbacks are the schedules.
        stored: the callbacks' states.
    """

    def __init__(self, engine: Engine, stored: Mapping[str, Any]) -> None:
        self._now = {name: each for name, each in named(engine.callbacks) if isinstance(each, LRSchedule)}
        self._stored = {
            name: state
            for name, state in stored.items()
            if {"scheduler", "stepped"} <= state.keys() and not name.startswith("val/")
        }
        for name, schedule in self._now.items():
            if name in self._stored:
                schedule.check_state(self._stored[name])

    @property
    def continued(self) -> list[LRSchedule]:
        """The schedules that have had a part of their curve."""
        return [schedule for name, schedule in self._now.items() if name in self._stored]

    @property
    def new(self) -> list[LRSchedule]:
        """The schedules that begin."""
        return [schedule for name, schedule in self._now.items() if name not in self._stored]

    def __iter__(self) -> Iterator[str]:
        for name in self._stored:
            if name in self._now:
                yield from self._now[name].changes(self._stored[name])
            else:
                yield f"lr_scheduler {name!r} is no more, so the learning rate stays where it was"
        for schedule in self.new:
            yield f"lr_scheduler {schedule.name!r} is new and begins from the present learning rate"


def param_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, old and new value of the params that have changed, but for the device."""
    for name in dict.fromkeys([*before, *now]):
        if name != "device" and repr(before.get(name)) != repr(now.get(name)):
            yield name, before.get(name), now.get(name)


def version_differences(before: Mapping[str, Any]) -> Iterator[tuple[str, Any, str | None]]:
    """Yield name, old and new version of what wrote a checkpoint, where it is another now."""
    now = {"argus": version_of(BUILTIN), "torch": str(torch.__version__), "python": platform.python_version()}
    for name, version in now.items():
        if name in before and before[name] != version:
            yield name, before[name], version


def _name(spec: Any) -> str | None:
    """Return the short name in a spec, if it has one."""
    name = next(iter(spec), None) if isinstance(spec, tuple | list) else spec
    return name.rpartition("/")[2] if isinstance(name, str) else None


def _options(spec: Any) -> Mapping[str, Any]:
    if isinstance(spec, tuple | list) and len(spec) == 2:
        spec = spec[1]
    return spec if isinstance(spec, Mapping) else {}


def _differing(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    return (name for name in {**was, **now} if repr(was.get(name)) != repr(now.get(name)))


def _built_groups(
    model: AbstractModel, before: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each parameter group's options by the params of before, and by those of now."""
    return zip(
        _groups(model, before), _groups(model, model.params), strict=False
    )  # else the state is refused


def _groups(model: AbstractModel, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the options of each parameter group of the optimizer that params give a model, as it is new.

    It is built by a copy, so that what a `build_optimizer` keeps in the model stays there.
    """
    copied = copy.copy(model)
    vars(copied)["params"] = {**model.params, "optimizer": params.get("optimizer")}
    if "optimizer" not in params:
        del copied.params["optimizer"]
    part = copied.choose_parts()["optimizer"]
    built = None if part is None else copied.build_part("optimizer", part)
    groups = [] if built is None else built.param_groups
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


def _without_effect(schedules: list[LRSchedule]) -> LRSchedule | None:
    """Return the schedule beside which the optimizer's learning rate plays no part, if there is one."""
    return next((schedule for schedule in schedules if schedule.sets_own_rates()), None)


def _ratio(group: Mapping[str, Any], lr: Any) -> float:
    before, now = float(group.get("initial_lr", group["lr"])), float(lr)
    if before == 0:
        raise StateMismatchError(
            f"the schedule began from a learning rate of 0, which cannot be scaled to {now!r}; leave lr as "
            "it was, or take the weights with load_model and train anew"
        )
    return now / before

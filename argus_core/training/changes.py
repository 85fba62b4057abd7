"""The changes of a run since its checkpoint was written, and their effects."""

from __future__ import annotations

import copy
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.audience import named
from argus_core.callbacks.lr_schedule import LRSchedule
from argus_core.checkpoint.contents import SavedFile
from argus_core.data.order import OrderedLoader, can_skip, changed_numbers, loader_length
from argus_core.data.streams import StreamLoader
from argus_core.errors import StateMismatchError
from argus_core.registry.component import BUILTIN
from argus_core.registry.distributions import version_of
from argus_core.steps.parameters import loss_parameters
from argus_core.training.engine import Engine

__all__ = ["DataDrift", "OptimizerDrift", "ScheduleDrift", "model_changes"]

# What the state of an optimizer of torch must hold once an option is on: without it the update would fail.
_NEEDED = {
    "amsgrad": ("max_exp_avg_sq", ("Adam", "AdamW")),
    "centered": ("grad_avg", ("RMSprop",)),
    "momentum": ("momentum_buffer", ("RMSprop",)),
}

_OF_VALIDATION = re.compile(r"val(_\w+)?/")  # a callback's name


class OptimizerDrift:
    """The optimizer's options that have changed since a checkpoint was written.

    Args:
        before: the params then.
        model: as it was built, before its optimizer takes any state.
        asked: options to set even if the params give them the value of before.
    """

    def __init__(self, before: Mapping[str, Any], model: AbstractModel, asked: Iterable[str] = ()) -> None:
        was, now = before.get("optimizer"), model.params.get("optimizer")
        asked = {*asked, *_differing(_options(was), _options(now))}
        self._was: dict[str, Any] = {}
        self._groups: list[dict[str, Any]] = [{} for _ in model.optimizer.param_groups]
        if not asked or _name(was) != _name(now):
            return
        # Only the class knows how params become options: a group may have a multiple of the rate.
        olds, news = _groups(model, before), _groups(model, model.params)
        for fresh, old, new in zip(self._groups, olds, news, strict=False):  # else the state is refused
            changed = {*_differing(old, new), *asked} & new.keys()
            fresh.update({name: new[name] for name in new if name in changed})
            self._was |= {name: old.get(name) for name in fresh}

    def apply(self, optimizer: Any) -> None:
        """Set the new options in an optimizer whose old state is restored.

        Raises:
            StateMismatchError: the optimizer lacks the state that an option needs.
        """
        self._check(optimizer)
        for group, fresh in zip(optimizer.param_groups, self._groups, strict=True):
            group.update(fresh)
            if "lr" in fresh and "initial_lr" in group:  # where a new schedule starts
                group["initial_lr"] = fresh["lr"]

    def _check(self, optimizer: Any) -> None:
        kind = type(optimizer).__name__
        for name in self._was:
            slot, kinds = _NEEDED.get(name, ("", ()))
            is_on = any(fresh.get(name) for fresh in self._groups)
            if kind in kinds and is_on and any(slot not in slots for slots in optimizer.state.values()):
                raise StateMismatchError(
                    f"the run trained {kind} with {name}={self._was.get(name)!r}, and its state lacks the "
                    f"{slot!r} that {name} needs; leave {name} as it was, or start a new run without the "
                    f"state: load_model takes the optimizer as a spec, ({kind!r}, {{params}})"
                )


class ScheduleDrift:
    """The learning-rate schedules of a run, compared with those whose state a checkpoint holds.

    Args:
        engine: its callbacks include the schedules.
        stored: the callbacks' states.

    Attributes:
        continued: the schedules that continue.
        new: the schedules that start.
    """

    def __init__(self, engine: Engine, stored: Mapping[str, Any]) -> None:
        self._stored = {
            name: state
            for name, state in stored.items()
            if {"scheduler", "stepped"} <= state.keys() and not _OF_VALIDATION.match(name)
        }
        self._now = {name: each for name, each in named(engine.callbacks) if isinstance(each, LRSchedule)}
        self.continued = [each for name, each in self._now.items() if name in self._stored]
        self.new = [each for name, each in self._now.items() if name not in self._stored]
        for name, schedule in self._now.items():
            if name in self._stored:
                schedule.check_state(self._stored[name])

    def __iter__(self) -> Iterator[str]:
        for name in self._stored:
            if name in self._now:
                yield from self._now[name].changes(self._stored[name])
            else:
                yield f"lr_scheduler {name!r} is no more, so the learning rate no longer changes"
        for schedule in self.new:
            yield f"lr_scheduler {schedule.name!r} is new and starts from the present learning rate"


class DataDrift:
    """The train loader of a run, compared with the one that a checkpoint records.

    Args:
        loader: as it is now.
        progress: the position in the checkpoint.
        is_midway: whether that is in the middle of an epoch.

    Attributes:
        starts_over: whether that epoch does, since the loader cannot continue it.
    """

    def __init__(self, loader: Iterable[Any], progress: Mapping[str, Any], is_midway: bool) -> None:
        self._loader = loader
        self._epoch = progress["counters"]["epoch"]
        self._batches = progress["loader"]["batches"]
        self._order = order = progress["loader"].get("order")
        self._has_order = True  # as far as that is known
        if order is not None and isinstance(loader, OrderedLoader | StreamLoader):
            self._has_order = loader.has_order(self._epoch, order)
        self.starts_over = is_midway and not (can_skip(loader) and self._has_order)

    def __iter__(self) -> Iterator[str]:
        loader, length = self._loader, loader_length(self._loader)
        reason = loader.changed_order() if isinstance(loader, OrderedLoader | StreamLoader) else ""
        another = f"gives another order of batches ({reason})"
        if self._batches != length:
            yield f"an epoch had {self._batches} batches and has {length}, so samples come in another order"
        elif not self._has_order and not self.starts_over:
            yield f"the train loader {another}, so samples come in another order from here on"
        if self.starts_over:
            why = "cannot continue in the middle of an epoch" if self._has_order else another
            yield (
                f"the train loader ({type(loader).__name__}) {why}, so epoch {self._epoch + 1} starts over "
                "with the weights of its middle"
            )
        yield from changed_numbers(loader, self._order)


def model_changes(
    saved: SavedFile, device: str, model: AbstractModel, schedules: ScheduleDrift
) -> Iterator[str]:
    """Yield the changes of a model's device and params and of versions, and their effects."""
    if device != model.device.type:
        yield (
            f"it trained on {device} and trains on {model.device.type}, so results differ in rounding and "
            "random numbers"
        )
    before = saved.params()
    for name in dict.fromkeys([*before, *model.params]):
        was, new = before.get(name), model.params.get(name)
        if name == "device" or repr(was) == repr(new) or (name == "init_from" and new is None):
            continue
        meaning = "which holds from now on"
        if name == "optimizer" and schedules.continued:
            names = ", ".join(repr(schedule.name) for schedule in schedules.continued)
            meaning = f"which has no effect: with lr_scheduler {names}, the saved options hold"
        elif name == "init_from":
            meaning = "which has no effect: the weights are those of the checkpoint"
        elif name == "loss" and loss_parameters(model):
            meaning = "which begins with the parameters that the loss before it had"
        yield f"params[{name!r}] was {was!r} and is {new!r}, {meaning}"
    trained = saved.trained()
    untrained = [
        name for name, each in loss_parameters(model).items() if each.requires_grad and name not in trained
    ]
    if trained and untrained:
        shown = ", ".join(untrained)
        yield f"the loss's parameters ({shown}) were not trained before and are from here on"
    now = {"argus": version_of(BUILTIN), "torch": str(torch.__version__), "python": platform.python_version()}
    for name, version in now.items():
        if name in saved.versions and saved.versions[name] != version:
            yield f"{name} was {saved.versions[name]} and is {version}, so results may differ in rounding"


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


def _groups(model: AbstractModel, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the options of each parameter group of a newly built optimizer.

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

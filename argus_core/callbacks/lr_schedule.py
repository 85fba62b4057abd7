"""Learning-rate schedules: torch's schedulers by name, stepped once an epoch or once an update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from argus_core.callbacks.built_scheduler import BuiltScheduler, build_scheduler
from argus_core.callbacks.cadence import DURATIONS, Due, is_cadence, parse_cadence
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.monitor import NewValues, check_monitor, monitored_value
from argus_core.callbacks.run_length import UNKNOWN, RunLength
from argus_core.callbacks.schedule_lengths import Span
from argus_core.callbacks.scheduler_state import (
    check_scheduler_state,
    load_scheduler_state,
    plain_state,
    shown_option,
)
from argus_core.callbacks.state import State
from argus_core.callbacks.warmup import AbstractWarmup
from argus_core.errors import ArgusError, SpecError
from argus_core.registry.registry import resolve
from argus_core.registry.spec import parse_specs
from argus_core.storage.stored import FLAG, Rule, check_state

if TYPE_CHECKING:
    from argus_core.abstract_model import AbstractModel

__all__ = ["LRSchedule", "build_schedules"]

_Build = Callable[[int, int], BuiltScheduler]

_NO_EFFECT = (
    "which has no effect, as the schedule continues with its saved state; for another schedule, load the "
    "weights with load_model and start a new run"
)
_CADENCES = {"epoch": "1ep", "update": "1up"}
_SUCH_AS = "('StepLR', {'step_size': 10})"
_RULES = {
    "scheduler": Rule(lambda value: isinstance(value, Mapping), "a dict"),
    "stepped": FLAG,
    "chosen": Rule(
        lambda value: isinstance(value, Mapping) and shown_option(value) == value, "a dict of options", True
    ),
}


class LRSchedule(Callback):
    """Steps a scheduler after each epoch or each update that moved the weights.

    Args:
        built: a scheduler of the model's optimizer.
        interval: ``"epoch"``, ``"update"`` or a cadence such as ``"500up"``.
        monitor: the metric that `ReduceLROnPlateau` follows.
        build: builds it again for the rest of a run, after some epochs and updates.
    """

    reads_predictions = False
    computes = ()

    def __init__(
        self,
        built: BuiltScheduler,
        interval: str = "epoch",
        monitor: str | None = None,
        build: _Build | None = None,
    ) -> None:
        self.built = built
        self._build = build
        self.interval = interval
        self.monitor = monitor
        self._stepped = False
        self._new = NewValues(monitor or "")
        self.due = Due(parse_cadence("lr_scheduler", _CADENCES.get(interval, interval), "interval"))

    @property
    def scheduler(self) -> LRScheduler:
        """The scheduler that it steps."""
        return self.built.scheduler

    @property
    def name(self) -> str:
        """The name of the scheduler's class, the key of its state."""
        return type(self.scheduler).__name__

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's state and options as plain data."""
        return {
            "scheduler": plain_state(self.scheduler),
            "stepped": self._stepped,
            "chosen": self._chosen(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; options that have changed since have no effect.

        Raises:
            StateMismatchError: it is not the state of such a schedule.
        """
        self.check_state(state_dict)
        load_scheduler_state(self.scheduler, state_dict["scheduler"])
        self._stepped = state_dict["stepped"]
        # torch warns of schedulers that step first, and counts the optimizer's steps in this process only.
        self.scheduler.optimizer._opt_called = True  # type: ignore[attr-defined]

    def check_state(self, state_dict: Mapping[str, Any]) -> None:
        """Check a stored state.

        Raises:
            StateMismatchError: it is not the state of such a scheduler.
            UnsafeCheckpointError: argus_core does not write such a state.
        """
        check_state(f"lr_scheduler {self.name!r}", state_dict, _RULES)
        check_scheduler_state(self.name, self.scheduler, state_dict["scheduler"])

    def changes(self, state_dict: Mapping[str, Any]) -> Iterator[str]:
        """Yield the options that differ from those in a state, and the effect."""
        before, now = state_dict.get("chosen"), self._chosen()
        options = self.built.options
        if not isinstance(before, Mapping) or options is None:
            return
        # A state holds neither these two, which say when to step, nor functions.
        held = {"interval", "monitor"} | {name for name, value in options.items() if _has_function(value)}
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        lengths = [name for name in changed if name in self.built.of_run and name in before]
        if lengths:
            yield self._kept_lengths(lengths, before, now, state_dict["scheduler"])
        for name in changed:
            if name not in lengths:
                meaning = "which holds from now on" if name in held else _NO_EFFECT
                yield (
                    f"{name} of lr_scheduler {self.name!r} was {before.get(name)!r} and is "
                    f"{now.get(name)!r}, {meaning}"
                )

    def _kept_lengths(
        self, names: list[str], before: Mapping[str, Any], now: Mapping[str, Any], stored: Mapping[str, Any]
    ) -> str:
        """Return the words for a schedule over the length of a run that has another length now."""
        was, is_now = (", ".join(f"{name} {each[name]!r}" for name in names) for each in (before, now))
        is_longer = "total_steps" in names and now["total_steps"] > before["total_steps"]
        scheduler, then = self.scheduler, ""
        if is_longer and isinstance(scheduler, AbstractWarmup):
            then = f", and {scheduler.after_end(stored)}"
        return (
            f"lr_scheduler {self.name!r} follows the curve that the run began with ({was}) and not one over "
            f"the present length ({is_now}){then}; for another curve, start a new run from the weights, by "
            "init_from"
        )

    def restart(self, alone: bool, epochs: int, updates: int) -> None:
        """Start from the optimizer's present rates, those of a checkpoint, for the rest of the run.

        Args:
            alone: whether no other schedule continues, which may need the rates that it started with.
            epochs: that the run has made.
            updates: that it has made.
        """
        if self._build is not None:
            for group in self.scheduler.optimizer.param_groups if alone else ():
                group.pop("initial_lr", None)
            self.built = self._build(epochs, updates)
        else:  # an instance, which was built for the rates of before
            self.scheduler.base_lrs = [group["lr"] for group in self.scheduler.optimizer.param_groups]

    def _chosen(self) -> dict[str, Any]:
        chosen = {"interval": self.interval, "monitor": self.monitor}
        return chosen | {name: shown_option(value) for name, value in (self.built.options or {}).items()}

    def start(self, state: State) -> None:
        self.due.start(state.global_step)
        if self.monitor is not None:
            check_monitor("lr_scheduler", self.monitor, state)
            self._new = NewValues(self.monitor)

    def iteration_complete(self, state: State) -> None:
        if getattr(state.step_output, "stepped", True):
            self._stepped = True
        # Skipped updates do not count: a scheduler that runs ahead would be out of step for the whole run.
        if self.due.after_update(state.global_step):
            self._step()

    def epoch_complete(self, state: State) -> None:
        if not state.engine.position.trained:  # a run that resumes makes the rest of the epoch first
            return
        if self.due.after_epoch(state.epoch) and self._stepped:
            if self.monitor is None:
                self._step()
            elif self._new.at_epoch(state):
                self._step(monitored_value("lr_scheduler", self.monitor, state))
        self._stepped = False

    def measured_midway(self, state: State) -> None:
        # After the last epoch there is nothing left to train.
        if self.monitor is not None and not state.engine.position.done and self._new.midway(state):
            self._step(monitored_value("lr_scheduler", self.monitor, state))

    def _step(self, *metric: Any) -> None:
        try:
            self.scheduler.step(*metric)
        except Exception as error:  # of whatever a plugin's scheduler or a user's function does
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ArgusError(
                f"lr_scheduler {self.name!r} cannot make its next step ({reason}); give it options that last "
                "for the whole run, or a shorter run"
            ) from error


def build_schedules(value: Any, model: AbstractModel, length: RunLength = UNKNOWN) -> list[LRSchedule]:
    """Build the callbacks that step the schedulers chosen by one spec or several.

    Besides the scheduler's own parameters a spec takes ``interval`` and ``monitor``. Lengths that it leaves
    out, and those that are a part of the run, follow from ``length``.

    Raises:
        SpecError: an unknown interval, `ReduceLROnPlateau` without a metric to monitor, or a scheduler that
            was built for another optimizer than the model's.
    """
    if value is None:
        return []
    if isinstance(value, ReduceLROnPlateau):
        raise SpecError(
            "lr_scheduler is a ReduceLROnPlateau, which needs a metric to follow; "
            "give ('ReduceLROnPlateau', {'monitor': 'val_loss'})"
        )
    if isinstance(value, LRScheduler):
        if value.optimizer is not model.optimizer:
            raise SpecError(
                f"lr_scheduler is a scheduler ({type(value).__name__}) of another model's optimizer; "
                f"build it with model.optimizer, or give a name or (name, {{params}}), such as {_SUCH_AS}"
            )
        return [LRSchedule(BuiltScheduler(value))]
    if model.optimizer is None:
        raise SpecError("lr_scheduler needs the model to have an optimizer; name one in params")
    specs = parse_specs("lr_scheduler", value, "lr_scheduler")
    if not any("last_epoch" in spec.params for spec in specs):
        # An earlier run's schedule left its first rate there, and torch would take it for the current one.
        for group in model.optimizer.param_groups:
            group.pop("initial_lr", None)
    return [_build_schedule(spec.name, dict(spec.params), model.optimizer, length) for spec in specs]


def _has_function(value: Any) -> bool:
    return any(map(callable, value if isinstance(value, list | tuple) else [value]))


def _build_schedule(name: str, params: dict[str, Any], optimizer: Optimizer, length: RunLength) -> LRSchedule:
    usual = getattr(resolve("lr_scheduler", name).load(), "default_interval", "epoch")
    interval = params.pop("interval", usual)
    monitor = params.pop("monitor", None)
    if interval not in _CADENCES and not is_cadence(interval):
        raise SpecError(
            f"lr_scheduler {name!r} has interval {interval!r}; give 'epoch' or 'update', or {DURATIONS}"
        )
    if not isinstance(monitor, str | None):
        raise SpecError(
            f"lr_scheduler {name!r} has monitor {monitor!r}; give the name of a metric, such as 'val_loss'"
        )
    cadence = parse_cadence("lr_scheduler", _CADENCES.get(interval, interval), "interval")

    def build(epochs: int = 0, updates: int = 0) -> BuiltScheduler:
        return build_scheduler(name, params, optimizer, Span.of(length.after(epochs, updates), cadence))

    built = build()
    if isinstance(built.scheduler, ReduceLROnPlateau):
        if monitor is None:
            raise SpecError(f"lr_scheduler {name!r} needs a metric to follow; give monitor='val_loss'")
        if interval != "epoch":
            raise SpecError(f"lr_scheduler {name!r} follows a metric of the epoch; leave interval out")
    elif monitor is not None:
        raise SpecError(f"lr_scheduler {name!r} follows no metric; leave monitor={monitor!r} out")
    return LRSchedule(built, interval, monitor, build)

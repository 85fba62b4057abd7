"""Learning-rate schedulers: any of torch's by name, stepped once an epoch or once an update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from argus_core.build import build_component
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.monitor import check_monitor, monitored_value
from argus_core.errors import BuildError, SpecError
from argus_core.spec import parse_spec, parse_specs

if TYPE_CHECKING:
    from argus_core.engine import State
    from argus_core.model import Model

__all__ = ["LRSchedule", "build_schedules"]

_INTERVALS = ("epoch", "update")

# Options that may change in the middle of a schedule: the next rate follows from the present one and from
# them. Any other option bends the whole curve, of which a run that goes on has had a part. Attributes that
# are called otherwise than their option are beside it.
_CHANGEABLE: Mapping[str, Mapping[str, str]] = {
    "StepLR": {"step_size": "step_size", "gamma": "gamma"},
    "MultiStepLR": {"milestones": "milestones", "gamma": "gamma"},
    "ExponentialLR": {"gamma": "gamma"},
    "ReduceLROnPlateau": {
        **{name: name for name in ("factor", "patience", "threshold", "cooldown", "eps")},
        "min_lr": "min_lrs",
    },
}
_NO_EFFECT = (
    "which has no effect, as the schedule follows the curve that it began with; for another one take the "
    "weights with load_model and train anew"
)
_OWN_RATES = ("CyclicLR", "OneCycleLR")  # set rates from their own options alone


class LRSchedule(Callback):
    """Steps a scheduler after each epoch or each update that moved the weights.

    Args:
        scheduler: built for the model's optimizer.
        interval: ``"epoch"`` or ``"update"``.
        monitor: the metric that `ReduceLROnPlateau` follows.
        options: what the scheduler was built with, where that is known.
    """

    catches_up = True
    reads_predictions = False

    def __init__(
        self,
        scheduler: LRScheduler,
        interval: str = "epoch",
        monitor: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.interval = interval
        self.monitor = monitor
        self.options = options
        self._stepped = False

    @property
    def name(self) -> str:
        """The scheduler's class, to find its state by."""
        return type(self.scheduler).__name__

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's state as plain data, and what it was built with."""
        return {
            "scheduler": _plain(self.scheduler.state_dict()),
            "stepped": self._stepped,
            "chosen": self._chosen(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` returned, but for options that have changed and may."""
        attributes = self._changeable()
        new = [attributes[name] for name, _, _ in self._differences(state_dict) if name in attributes]
        kept = {name: getattr(self.scheduler, name) for name in new}
        _load_scheduler(self.scheduler, state_dict["scheduler"])
        vars(self.scheduler).update(kept)
        self._stepped = state_dict["stepped"]
        # torch warns of schedulers that step first, and counts the optimizer's steps in this process only.
        self.scheduler.optimizer._opt_called = True  # type: ignore[attr-defined]

    def changes(self, state_dict: Mapping[str, Any]) -> Iterator[str]:
        """Yield what has been chosen otherwise than when `state_dict` was made, and what that means."""
        held = {*self._changeable(), "interval", "monitor"}
        for name, was, now in self._differences(state_dict):
            meaning = "which holds from here on" if name in held else _NO_EFFECT
            yield f"{name} of lr_scheduler {self.name!r} was {was!r} and is {now!r}, {meaning}"

    def begin_anew(self, alone: bool) -> None:
        """Begin from the optimizer's present rates, which a checkpoint has brought.

        Args:
            alone: whether no other schedule goes on, which may look at the rates that it began with.
        """
        if self.options is not None:
            for group in self.scheduler.optimizer.param_groups if alone else ():
                group.pop("initial_lr", None)
            self.scheduler = _build_scheduler(self.name, self.options, self.scheduler.optimizer)
        else:  # an instance, which was built for the rates of before
            self.scheduler.base_lrs = [group["lr"] for group in self.scheduler.optimizer.param_groups]

    def sets_own_rates(self) -> bool:
        """Return whether the optimizer's own learning rate plays no part."""
        return any(type(each).__name__ in _OWN_RATES for each in _all_of(self.scheduler))

    def scale(self, ratios: list[float]) -> None:
        """Go on with all rates multiplied by a number for each parameter group."""
        for scheduler in _all_of(self.scheduler):
            for name in {"base_lrs", "_last_lr"} & vars(scheduler).keys():
                rates = [rate * ratio for rate, ratio in zip(getattr(scheduler, name), ratios, strict=True)]
                setattr(scheduler, name, rates)

    def _chosen(self) -> dict[str, Any]:
        chosen = {"interval": self.interval, "monitor": self.monitor}
        return chosen | {name: _shown(value) for name, value in (self.options or {}).items()}

    def _differences(self, state_dict: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
        before, now = state_dict.get("chosen"), self._chosen()
        if not isinstance(before, Mapping) or self.options is None:
            return []
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        return [(name, before.get(name), now.get(name)) for name in names]

    def _changeable(self) -> Mapping[str, str]:
        return _CHANGEABLE.get(self.name, {}) if type(self.scheduler).__module__.startswith("torch.") else {}

    def start(self, state: State) -> None:
        if self.monitor is not None:
            check_monitor("lr_scheduler", self.monitor, state)

    def iteration_complete(self, state: State) -> None:
        # A scheduler that runs ahead of a skipped update would be out of step for the rest of the run.
        if getattr(state.step_output, "stepped", True):
            self._stepped = True
            if self.interval == "update":
                self.scheduler.step()

    def epoch_complete(self, state: State) -> None:
        if state.engine.stopped_midway:  # a run that goes on from here makes the rest of the epoch first
            return
        if self.interval == "epoch" and self._stepped:
            if self.monitor is None:
                self.scheduler.step()
            else:
                self.scheduler.step(monitored_value("lr_scheduler", self.monitor, state))  # type: ignore[arg-type]
        self._stepped = False


def build_schedules(value: Any, model: Model) -> list[LRSchedule]:
    """Return the callbacks that step the schedulers which ``value`` chooses: a spec or several.

    Besides the scheduler's own parameters a spec takes ``interval`` and ``monitor``.

    Raises:
        SpecError: an unknown interval, or `ReduceLROnPlateau` without a metric to monitor.
    """
    if value is None:
        return []
    if isinstance(value, ReduceLROnPlateau):
        raise SpecError(
            "lr_scheduler is a ReduceLROnPlateau, which needs a metric to follow; "
            "give ('ReduceLROnPlateau', {'monitor': 'val_loss'})"
        )
    if isinstance(value, LRScheduler):
        return [LRSchedule(value)]
    if model.optimizer is None:
        raise SpecError("lr_scheduler needs the model to have an optimizer; name one in params")
    specs = parse_specs("lr_scheduler", value, "lr_scheduler")
    if not any("last_epoch" in spec.params for spec in specs):
        # An earlier run's schedule left its first rate there, and torch would take it for the present one.
        for group in model.optimizer.param_groups:
            group.pop("initial_lr", None)
    return [_build_schedule(spec.name, dict(spec.params), model.optimizer) for spec in specs]


def _build_schedule(name: str, params: dict[str, Any], optimizer: Optimizer) -> LRSchedule:
    interval = params.pop("interval", "epoch")
    monitor = params.pop("monitor", None)
    if interval not in _INTERVALS:
        raise SpecError(f"lr_scheduler {name!r} has interval {interval!r}; give 'epoch' or 'update'")
    if not isinstance(monitor, str | None):
        raise SpecError(
            f"lr_scheduler {name!r} has monitor {monitor!r}; give the name of a metric, such as 'val_loss'"
        )
    scheduler = _build_scheduler(name, params, optimizer)
    if isinstance(scheduler, ReduceLROnPlateau):
        if monitor is None:
            raise SpecError(f"lr_scheduler {name!r} needs a metric to follow; give monitor='val_loss'")
        if interval != "epoch":
            raise SpecError(f"lr_scheduler {name!r} follows a metric of the epoch; leave interval out")
    elif monitor is not None:
        raise SpecError(f"lr_scheduler {name!r} follows no metric; leave monitor={monitor!r} out")
    return LRSchedule(scheduler, interval, monitor, params)


def _build_scheduler(name: str, params: Mapping[str, Any], optimizer: Optimizer) -> LRScheduler:
    """Build one scheduler; those of `SequentialLR` and `ChainedScheduler` are specs themselves."""
    params = dict(params)
    nested = params.pop("schedulers", None)
    if nested is None:
        scheduler: LRScheduler = build_component("lr_scheduler", (name, params), "lr_scheduler", optimizer)
        if not callable(getattr(scheduler, "step", None)):
            raise BuildError(
                f"lr_scheduler {name!r} built {scheduler!r}, which has no step(); its factory must return a "
                "scheduler like those of torch.optim.lr_scheduler"
            )
        return scheduler
    if not isinstance(nested, list | tuple):
        raise SpecError(f"lr_scheduler {name!r} has schedulers {nested!r}; give a list of specs")
    specs = [parse_spec("lr_scheduler", item, "lr_scheduler schedulers") for item in nested]
    schedulers = [_build_scheduler(spec.name, spec.params, optimizer) for spec in specs]
    params |= {"optimizer": optimizer, "schedulers": schedulers}
    scheduler = build_component("lr_scheduler", (name, params), "lr_scheduler")
    return scheduler


def _all_of(scheduler: Any) -> Iterator[Any]:
    """Yield a scheduler and those that it is made of, such as SequentialLR's."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from _all_of(part)


def _shown(value: Any) -> Any:
    """Return an option as plain data that stay the same from process to process, whatever it is."""
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _shown(item) for name, item in value.items()}
    plain = value is None or type(value) in (str, int, float, bool)
    return value if plain else getattr(value, "__qualname__", type(value).__name__)


def _plain(value: Any) -> Any:
    """Return a scheduler's state without subclasses of dict, which a checkpoint does not keep."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if type(value) is list else value


def _load_scheduler(scheduler: Any, state: Mapping[str, Any]) -> None:
    """Give a scheduler its state back, what was a subclass of dict, such as MultiStepLR's, as one."""
    scheduler.load_state_dict(_like(scheduler.state_dict(), state))


def _like(own: Any, stored: Any) -> Any:
    """Return a stored state with dicts of the types that a scheduler's own has, at any depth."""
    if isinstance(own, dict) and isinstance(stored, Mapping):
        return type(own)({name: _like(own.get(name), value) for name, value in stored.items()})
    if type(own) is type(stored) is list and len(own) == len(stored):
        return list(map(_like, own, stored))
    return stored

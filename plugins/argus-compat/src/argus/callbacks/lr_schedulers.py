"""torch's learning-rate schedulers as callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer, lr_scheduler

from argus.callbacks.callback import Callback
from argus.errors import also
from argus.metrics.metric import check_better, init_better
from argus_core.authors import monitored_value

if TYPE_CHECKING:
    import argus_core

__all__ = [
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "StepLR",
]

Lambda = Callable[[int], float] | list[Callable[[int], float]]


class LRScheduler(Callback):
    """Builds a scheduler when its first run starts, and steps it after each epoch or each iteration.

    Another run with the same optimizer continues the schedule.

    Args:
        scheduler_factory: called with the model's optimizer; returns a scheduler of torch.
        step_on_iteration: whether to step after each iteration.

    Attributes:
        scheduler: ``None`` before the first run.
    """

    monitor: str | None = None  # the metric for the step of a scheduler

    def __init__(
        self, scheduler_factory: Callable[[Optimizer], Any], step_on_iteration: bool = False
    ) -> None:
        self.scheduler_factory = scheduler_factory
        self.step_on_iteration = step_on_iteration
        self.scheduler: Any = None

    def start(self, state: argus_core.State) -> None:
        """Build the scheduler, unless it exists for this optimizer."""
        optimizer = state.model.optimizer
        if self.scheduler is not None and self.scheduler.optimizer is optimizer:
            return
        self.scheduler = self.scheduler_factory(optimizer)

    def iteration_complete(self, state: argus_core.State) -> None:
        """Step, if the scheduler steps after each iteration."""
        if self.step_on_iteration:
            self._step(state)

    def epoch_complete(self, state: argus_core.State) -> None:
        """Step, if the scheduler steps after each epoch."""
        if not self.step_on_iteration:
            self._step(state)

    def _step(self, state: argus_core.State) -> None:
        if self.scheduler is None:
            return
        if self.monitor is None:
            self.scheduler.step()
        else:
            with also(KeyError):
                value = monitored_value(type(self).__name__, self.monitor, state)
            self.scheduler.step(value)


class LambdaLR(LRScheduler):
    """torch's `LambdaLR`: the initial rate times what a function of the epoch returns."""

    def __init__(self, lr_lambda: Lambda, last_epoch: int = -1, step_on_iteration: bool = False) -> None:
        super().__init__(
            partial(lr_scheduler.LambdaLR, lr_lambda=lr_lambda, last_epoch=last_epoch), step_on_iteration
        )


class MultiplicativeLR(LRScheduler):
    """torch's `MultiplicativeLR`: the rate times what a function of the epoch returns."""

    def __init__(self, lr_lambda: Lambda, last_epoch: int = -1, step_on_iteration: bool = False) -> None:
        super().__init__(
            partial(lr_scheduler.MultiplicativeLR, lr_lambda=lr_lambda, last_epoch=last_epoch),
            step_on_iteration,
        )


class StepLR(LRScheduler):
    """torch's `StepLR`: the rate times ``gamma`` after every ``step_size`` epochs."""

    def __init__(
        self, step_size: int, gamma: float = 0.1, last_epoch: int = -1, step_on_iteration: bool = False
    ) -> None:
        super().__init__(
            partial(lr_scheduler.StepLR, step_size=step_size, gamma=gamma, last_epoch=last_epoch),
            step_on_iteration,
        )


class MultiStepLR(LRScheduler):
    """torch's `MultiStepLR`: the rate times ``gamma`` at each milestone."""

    def __init__(
        self,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
        step_on_iteration: bool = False,
    ) -> None:
        super().__init__(
            partial(
                lr_scheduler.MultiStepLR, milestones=list(milestones), gamma=gamma, last_epoch=last_epoch
            ),
            step_on_iteration,
        )


class ExponentialLR(LRScheduler):
    """torch's `ExponentialLR`: the rate times ``gamma`` after every epoch."""

    def __init__(self, gamma: float, last_epoch: int = -1, step_on_iteration: bool = False) -> None:
        super().__init__(
            partial(lr_scheduler.ExponentialLR, gamma=gamma, last_epoch=last_epoch), step_on_iteration
        )


class CosineAnnealingLR(LRScheduler):
    """torch's `CosineAnnealingLR`: down to ``eta_min`` in ``T_max`` epochs along a cosine."""

    def __init__(
        self, T_max: int, eta_min: float = 0, last_epoch: int = -1, step_on_iteration: bool = False
    ) -> None:
        super().__init__(
            partial(lr_scheduler.CosineAnnealingLR, T_max=T_max, eta_min=eta_min, last_epoch=last_epoch),
            step_on_iteration,
        )


class CosineAnnealingWarmRestarts(LRScheduler):
    """torch's `CosineAnnealingWarmRestarts`: cosines of ``T_0`` epochs, each ``T_mult`` times as long."""

    def __init__(
        self,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0,
        last_epoch: int = -1,
        step_on_iteration: bool = False,
    ) -> None:
        super().__init__(
            partial(
                lr_scheduler.CosineAnnealingWarmRestarts,
                T_0=T_0,
                T_mult=T_mult,
                eta_min=eta_min,
                last_epoch=last_epoch,
            ),
            step_on_iteration,
        )


class ReduceLROnPlateau(LRScheduler):
    """torch's `ReduceLROnPlateau`: the rate times ``factor`` if a metric no longer improves.

    Args:
        monitor: the metric: ``val_loss``, ``train_accuracy``.
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric.
        factor, patience, threshold, threshold_mode, cooldown, min_lr, eps: as in torch.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        better: str = "auto",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        self.monitor = monitor
        self.better = check_better(better)
        self.patience = patience
        options: dict[str, Any] = {"factor": factor, "patience": patience, "threshold": threshold}
        options |= {"threshold_mode": threshold_mode, "cooldown": cooldown, "min_lr": min_lr, "eps": eps}
        super().__init__(lambda optimizer: self._build(optimizer, options))

    def _build(self, optimizer: Optimizer, options: dict[str, Any]) -> lr_scheduler.ReduceLROnPlateau:
        self.better, _, _ = init_better(self.better, str(self.monitor))
        return lr_scheduler.ReduceLROnPlateau(optimizer, self.better, **options)  # type: ignore[arg-type]


class CyclicLR(LRScheduler):
    """torch's `CyclicLR`: up and down between two rates; by default it steps after each iteration."""

    def __init__(
        self,
        base_lr: float,
        max_lr: float,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
        step_on_iteration: bool = True,
    ) -> None:
        options: dict[str, Any] = {"base_lr": base_lr, "max_lr": max_lr, "step_size_up": step_size_up}
        options |= {"step_size_down": step_size_down, "mode": mode, "gamma": gamma, "scale_fn": scale_fn}
        options |= {"scale_mode": scale_mode, "cycle_momentum": cycle_momentum, "last_epoch": last_epoch}
        options |= {"base_momentum": base_momentum, "max_momentum": max_momentum}
        super().__init__(partial(lr_scheduler.CyclicLR, **options), step_on_iteration)


class OneCycleLR(LRScheduler):
    """torch's `OneCycleLR`: one rise and one fall over the whole run; it steps after each iteration."""

    def __init__(
        self,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        last_epoch: int = -1,
    ) -> None:
        options: dict[str, Any] = {"max_lr": max_lr, "total_steps": total_steps, "epochs": epochs}
        options |= {"steps_per_epoch": steps_per_epoch, "pct_start": pct_start, "last_epoch": last_epoch}
        options |= {"anneal_strategy": anneal_strategy, "cycle_momentum": cycle_momentum}
        options |= {"base_momentum": base_momentum, "max_momentum": max_momentum}
        options |= {"div_factor": div_factor, "final_div_factor": final_div_factor}
        super().__init__(partial(lr_scheduler.OneCycleLR, **options), step_on_iteration=True)

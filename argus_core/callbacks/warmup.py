"""Schedules with a warm-up, over a number of steps that the run gives."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from argus_core.errors import ParamsError
from argus_core.registry.factory import described

__all__ = ["AbstractWarmup", "WarmupConstant", "WarmupCosine", "WarmupLinear", "one_cycle"]

# Of one cycle: the highest rate over the first, and the first over the last; torch's defaults.
_FIRST, _FALL = 25, 1e4


class AbstractWarmup(LRScheduler):
    """Abstract: a linear rise of the rate over the first steps, and then a curve down to the end of the run.

    With w steps of warm-up, the step t (counting from 0) has (t + 1) / w of the rate of its group, for t < w.
    After it, with p = (t - w) / (total_steps - w), the rate is ``curve(p)`` of the way from ``min_lr`` to the
    full rate; after the end it stays. All groups keep the ratio of their rates: ``min_lr`` is that of the
    group with the highest one.

    Args:
        optimizer: its rates are the highest.
        total_steps: of the whole schedule; by default all of the run's.
        warmup: steps of warm-up, or a share of the run: ``"5%"``, ``"3ep"``, ``"500up"``.
        min_lr: the rate at the end.
        last_epoch: as in torch's schedulers.

    Attributes:
        default_interval: of its steps.
        exact_state: a state from a file has to have the keys and types of its own.
    """

    default_interval: ClassVar = "update"
    exact_state: ClassVar = True

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup: int | str = "5%",
        min_lr: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.total_steps, self.warmup = _checked(total_steps, warmup)
        self.least = _share(optimizer, min_lr)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the rate of each group."""
        factor = self.factor(self.last_epoch)
        return [rate * factor for rate in self.base_lrs]

    def factor(self, step: int) -> float:
        """Return the share of its full rate that each group has in a step, counting from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min((step - self.warmup) / max(self.total_steps - self.warmup, 1), 1.0)
        return self.least + (1 - self.least) * self.curve(progress)

    def after_end(self, state: Mapping[str, Any]) -> str:
        """Return the words for the rate after the end of a schedule with this state."""
        lowest = state["least"] * max(map(float, state["base_lrs"]))
        weights = ", which trains no weights" if lowest == 0 else ""
        return f"its rate stays at {lowest:g} after step {state['total_steps']}{weights}"

    @abstractmethod
    def curve(self, progress: float) -> float:
        """Return the height of the curve, from 1 to 0, where ``progress`` goes from 0 to 1."""


class WarmupCosine(AbstractWarmup):
    """A warm-up, and then half a cosine down to ``min_lr`` at the end of the run: (1 + cos(pi p)) / 2.

    See Loshchilov and Hutter 2017 (arXiv:1608.03983), without their restarts.
    """

    def curve(self, progress: float) -> float:
        return (1 + math.cos(math.pi * progress)) / 2


class WarmupLinear(AbstractWarmup):
    """A warm-up, and then a straight line down to ``min_lr`` at the end of the run: 1 - p."""

    def curve(self, progress: float) -> float:
        return 1 - progress


class WarmupConstant(AbstractWarmup):
    """A warm-up, and then the full rate.

    Args:
        optimizer: its rates are the highest.
        warmup: steps of warm-up, or a share of the run: ``"5%"``, ``"3ep"``, ``"500up"``.
        last_epoch: as in torch's schedulers.
    """

    def __init__(self, optimizer: Optimizer, warmup: int | str = "5%", last_epoch: int = -1) -> None:
        super().__init__(optimizer, _endless(warmup), warmup, last_epoch=last_epoch)

    def curve(self, progress: float) -> float:
        return 1.0


def one_cycle(
    optimizer: Optimizer, total_steps: int, warmup: int | str = "30%", min_lr: float | None = None
) -> OneCycleLR:
    """Return torch's ``OneCycleLR`` over the whole run, with each group's rate as its highest.

    It begins at a 25th of the rate, rises to it over ``warmup``, and falls to ``min_lr``, each along half a
    cosine. The momentum goes the opposite way where the optimizer has one.

    Args:
        optimizer: its rates are the highest.
        total_steps: of the whole schedule; by default all of the run's.
        warmup: steps of the rise, or a share of the run: ``"30%"``, ``"3ep"``, ``"500up"``.
        min_lr: the rate at the end, of the group with the highest one; by default its 250,000th.
    """
    total, rise = _checked(total_steps, warmup)
    if rise >= total:
        raise ParamsError(
            f"one_cycle has a warmup of {rise} of its {total} steps; give fewer, so that the rate can fall"
        )
    if rise == 1:  # torch divides by the steps that follow the first
        raise ParamsError(
            f"one_cycle has a warmup of 1 of its {total} steps; give at least 2, 0 for none, or a longer run"
        )
    least = _share(optimizer, min_lr)
    fall = _FALL if min_lr is None else 1 / (_FIRST * least) if least else math.inf
    has_momentum = all("betas" in group or group.get("momentum") for group in optimizer.param_groups)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        rates,
        total,
        pct_start=rise / total,
        cycle_momentum=has_momentum,
        div_factor=_FIRST,
        final_div_factor=fall,
    )


one_cycle.default_interval = "update"  # type: ignore[attr-defined]


def _endless(warmup: int | str) -> int:
    return max(warmup, 1) if isinstance(warmup, int) else 1


def _checked(total_steps: int, warmup: int | str) -> tuple[int, int]:
    """Return the numbers of steps after a check."""
    if type(total_steps) is not int or total_steps < 1:
        raise ParamsError(f"total_steps is {described(total_steps)}; give an integer of at least 1")
    if type(warmup) is not int or warmup < 0:
        raise ParamsError(
            f"warmup is {described(warmup)}; give a number of steps, or '5%', '3ep' or '500up' in a run"
        )
    if warmup > total_steps:
        raise ParamsError(
            f"warmup is {warmup} steps, and the whole schedule has {total_steps}; give fewer, or a longer run"
        )
    return total_steps, warmup


def _share(optimizer: Optimizer, min_lr: Any) -> float:
    """Return the share of the highest rate that the lowest one is."""
    highest = max(float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups)
    if min_lr is None:
        return 0.0
    if type(min_lr) not in (int, float) or not 0 <= min_lr <= highest:
        raise ParamsError(
            f"min_lr is {described(min_lr)}; give a rate from 0 to that of the optimizer, {highest:g}"
        )
    return float(min_lr) / highest if highest else 0.0

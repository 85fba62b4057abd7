"""A learning-rate scheduler, and those inside it, built from a spec for the length of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from argus_core.callbacks.schedule_lengths import Span
from argus_core.errors import BuildError, SpecError
from argus_core.registry.factory import build_component
from argus_core.registry.registry import resolve
from argus_core.registry.spec import parse_spec

__all__ = ["BuiltScheduler", "build_scheduler"]


@dataclass(frozen=True)
class BuiltScheduler:
    """A scheduler, and its options as far as they are known.

    Attributes:
        scheduler: itself.
        options: what it was built with, lengths as numbers of steps; ``None`` for an instance of the caller.
        of_run: the names of the options that are lengths of the run.
        falling: it, or the schedulers inside it, that fall to the end of the run and would rise again.
    """

    scheduler: LRScheduler
    options: Mapping[str, Any] | None = None
    of_run: frozenset[str] = frozenset()
    falling: tuple[LRScheduler, ...] = ()


def build_scheduler(name: str, params: Mapping[str, Any], optimizer: Optimizer, span: Span) -> BuiltScheduler:
    """Build one scheduler. Those inside `SequentialLR` and `ChainedScheduler` are specs as well."""
    filled = span.filled(name, resolve("lr_scheduler", name).load(), params)
    of_run = frozenset(key for key, value in filled.items() if params.get(key) != value)
    if "schedulers" in filled:
        return _build_nested(name, filled, of_run, optimizer, span)
    scheduler: LRScheduler = build_component("lr_scheduler", (name, filled), "lr_scheduler", optimizer)
    if not callable(getattr(scheduler, "step", None)):
        raise BuildError(
            f"lr_scheduler {name!r} built {scheduler!r}, which has no step(); its factory must return a "
            "scheduler like those of torch.optim.lr_scheduler"
        )
    falls = isinstance(scheduler, CosineAnnealingLR) and params.get("T_max") is None
    return BuiltScheduler(scheduler, filled, of_run, (scheduler,) if falls else ())


def _build_nested(
    name: str, filled: dict[str, Any], of_run: frozenset[str], optimizer: Optimizer, span: Span
) -> BuiltScheduler:
    nested = filled.pop("schedulers")
    if not isinstance(nested, list | tuple):
        raise SpecError(f"lr_scheduler {name!r} has schedulers {nested!r}; give a list of specs")
    specs = [parse_spec("lr_scheduler", item, "lr_scheduler schedulers") for item in nested]
    spans = span.parts(filled["milestones"]) if "milestones" in filled else [span] * len(specs)
    spans += [spans[-1]] * (len(specs) - len(spans))  # torch refuses too few milestones
    built = [
        build_scheduler(spec.name, spec.params, optimizer, each)
        for spec, each in zip(specs, spans, strict=False)
    ]
    own = {**filled, "optimizer": optimizer, "schedulers": [each.scheduler for each in built]}
    scheduler = build_component("lr_scheduler", (name, own), "lr_scheduler")
    inner = [
        item if each.options == spec.params else (spec.name, each.options)
        for item, spec, each in zip(nested, specs, built, strict=True)
    ]
    if any(each.of_run for each in built):
        of_run |= {"schedulers"}
    falling = tuple(inside for each in built for inside in each.falling)
    return BuiltScheduler(scheduler, {**filled, "schedulers": inner}, of_run, falling)

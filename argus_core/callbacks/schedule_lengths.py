"""The lengths among a scheduler's options: those that are left out, and those that are parts of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from argus_core.callbacks.cadence import Cadence
from argus_core.callbacks.run_length import RunLength, is_share
from argus_core.errors import SpecError
from argus_core.registry.arguments import signature_of

__all__ = ["Span"]

# The options that are the length of the whole schedule where they are left out.
_WHOLE = ("T_max", "total_steps")
_COUNTS = (
    *_WHOLE,
    "T_0",
    "total_iters",
    "step_size",
    "step_size_up",
    "step_size_down",
    "milestones",
    "warmup",
)


@dataclass(frozen=True)
class Span:
    """The part of a run that a schedule covers.

    Attributes:
        length: of the run.
        cadence: of the schedule's steps.
        steps: that the schedule covers; ``None`` where that is not known.
    """

    length: RunLength
    cadence: Cadence
    steps: int | None

    @classmethod
    def of(cls, length: RunLength, cadence: Cadence) -> Span:
        """Return the span of a schedule that covers the whole run."""
        return cls(length, cadence, length.steps(cadence))

    def filled(self, name: str, factory: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """Return a scheduler's params with a number of steps for each length.

        Raises:
            SpecError: a length is not known.
        """
        signature = signature_of(factory)
        takes = {} if signature is None else signature.parameters
        filled = dict(params)
        for key, parameter in takes.items():
            if key in _COUNTS and key not in params and is_share(parameter.default):
                filled[key] = parameter.default
        has_epochs = {"epochs", "steps_per_epoch"} <= params.keys()  # of OneCycleLR
        for key in _WHOLE:
            is_open = key in takes and takes[key].default in (takes[key].empty, None)
            if is_open and params.get(key) is None and not has_epochs:
                filled[key] = "100%" if self.steps is None else self.steps
        return {key: self._counted(name, key, value) for key, value in filled.items()}

    def parts(self, milestones: Any) -> list[Span]:
        """Return the spans of the schedules that follow each other at these steps."""
        known = [each for each in milestones if type(each) is int] if isinstance(milestones, list) else []
        ends = [*known, self.steps]
        begins = [0, *known]
        return [
            replace(self, steps=None if end is None else max(end - begin, 1))
            for begin, end in zip(begins, ends, strict=True)
        ]

    def _counted(self, name: str, key: str, value: Any) -> Any:
        if key not in _COUNTS:
            return value
        if isinstance(value, list | tuple):
            return [self._counted(name, key, each) for each in value]
        if not is_share(value):
            return value
        steps = self.length.steps_in(value, self.cadence)
        if steps is None:
            raise SpecError(f"lr_scheduler {name!r} has {key}={value!r}, {self._problem(value)}")
        return steps

    def _problem(self, value: str) -> str:
        if value.strip().endswith("up") and self.cadence.unit != "up":
            return "which counts updates, and the schedule steps once an epoch; give interval = 'update'"
        if self.cadence.unit == "min":
            return "and an interval in minutes does not say how many steps that is; give a number"
        return f"and the length of the run is not known: {self.length.reason}"

"""The readers of a run's predictions: metrics, and callbacks called after each update."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from argus_core.steps.output import StepOutput

__all__ = ["Reader", "Reading", "is_output_released", "reads_predictions", "releases_output"]

_Step = TypeVar("_Step", bound=Callable[..., Any])

_NUMBERS = {int, float}


class Reader(Protocol):
    """A reader of the outputs of steps: a metric."""

    def update(self, step_output: Mapping[str, Any], /) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class Reading:
    """The reading of step outputs by a phase's metrics; predictions are kept until metrics have read them.

    Where an update has several micro-batches and only metrics read predictions, metrics read each part during
    the update. If the update is then skipped, their state from before it is restored.

    Args:
        metrics: of the phase.
        is_kept: see below.

    Attributes:
        is_kept: whether predictions and targets stay in the step output, for later readers.
        reads: whether some metric reads them.
    """

    def __init__(self, metrics: Sequence[Reader], is_kept: bool) -> None:
        self.is_kept = is_kept
        self._of_parts = [metric for metric in metrics if getattr(metric, "reads_predictions", True)]
        self._of_updates = [metric.update for metric in metrics if metric not in self._of_parts]
        self._updates = [metric.update for metric in self._of_parts]
        self.reads = bool(self._updates)
        self._before: list[dict[str, Any]] | None = None

    def begin(self) -> Sequence[Callable[[Any], object]]:
        """Return the function that the output of each update passes through in the epoch that begins.

        It updates the metrics, and discards predictions and targets without other readers. Which of the two
        it must do is decided once per epoch, not in every update.
        """
        through: list[Callable[[Any], object]] = [*self._of_updates]
        if self.reads:
            through.append(self._count_parts)
        if not self.is_kept:
            through.append(StepOutput.release)
        return through

    def needs_parts(self) -> bool:
        """Return whether the step output must keep its parts, since metrics cannot read them one by one.

        A metric without declared state cannot undo the parts of an update that is then skipped.
        """
        return self.is_kept or (self.reads and not all(metric.state_dict() for metric in self._of_parts))

    def take(self, part: StepOutput) -> None:
        """Update the metrics with one of several parts of the running update."""
        if self._before is None:
            self._before = [_copied(metric.state_dict()) for metric in self._of_parts]
        for update in self._updates:
            update(part)

    def undo_parts(self) -> None:
        """Undo the metrics' updates by the parts of a skipped update."""
        if self._before is not None:
            for metric, state in zip(self._of_parts, self._before, strict=True):
                metric.load_state_dict(state)
            self._before = None

    def skip(self, output: Any) -> None:
        """Exclude a skipped update from the metrics."""
        self.undo_parts()
        if not self.is_kept:
            output.release()

    def _count_parts(self, output: Any) -> None:
        if self._before is not None:  # the metrics have read the parts
            self._before = None
            return
        for part in output.by_part() if isinstance(output, StepOutput) else (output,):
            for update in self._updates:
                update(part)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that no update changes; a deep copy of a number takes longer than the update itself."""
    return {name: each if type(each) in _NUMBERS else copy.deepcopy(each) for name, each in state.items()}


def releases_output(step: _Step) -> _Step:
    """Mark a step whose `StepOutput` only the run keeps, and which adds no metrics."""
    step.releases_output = step  # type: ignore[attr-defined]
    step.computes = ()  # type: ignore[attr-defined]
    return step


def is_output_released(step: Callable[..., Any]) -> bool:
    """Return whether only the run keeps the output of a step; a wrapper of such a step may keep it."""
    return getattr(step, "releases_output", None) is getattr(step, "__func__", step)


def reads_predictions(callbacks: Iterable[Any]) -> bool:
    """Return whether some callback may read predictions: each may unless its own class declares otherwise."""
    return any(map(_reads, callbacks))


def _reads(callback: Any) -> bool:
    # A subclass of a callback that reads no predictions may read some.
    said = (getattr(callback, "__dict__", {}), vars(type(callback)))
    return bool(callback.reads_predictions) if any("reads_predictions" in each for each in said) else True

"""Who reads the predictions of a run: its metrics, part by part, and callbacks that are told of updates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from argus_core.steps.output import StepOutput

__all__ = ["Reader", "Reading", "is_let_go", "lets_go", "reads_predictions"]

_Step = TypeVar("_Step", bound=Callable[..., Any])

_NUMBERS = {int, float}


class Reader(Protocol):
    """What reads the outputs of steps: a metric."""

    def update(self, step_output: Mapping[str, Any], /) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class Reading:
    """Gives a phase's metrics what they read, so that predictions are kept no longer than for that.

    Where an update has several micro-batches and only metrics read predictions, they take them in while the
    update is made. An update that comes to nothing is taken back from them.

    Args:
        metrics: of the phase.
        is_kept: see below.

    Attributes:
        is_kept: whether predictions and targets stay in the step output, for whatever reads them later.
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
        """Return what the output of each update that is made goes through, in the epoch that begins.

        Metrics count it, and it lets go of what nothing else reads. That is settled here once, and not in
        every update.
        """
        through: list[Callable[[Any], object]] = [*self._of_updates]
        if self.reads:
            through.append(self._count_parts)
        if not self.is_kept:
            through.append(StepOutput.let_go)
        return through

    def needs_parts(self) -> bool:
        """Return whether the step output needs its parts, since metrics cannot take them in one by one.

        A metric that declares no state could not forget the parts of an update that comes to nothing.
        """
        return self.is_kept or (self.reads and not all(metric.state_dict() for metric in self._of_parts))

    def take(self, part: StepOutput) -> None:
        """Let the metrics read one of several parts of the update that is being made."""
        if self._before is None:
            self._before = [_copied(metric.state_dict()) for metric in self._of_parts]
        for update in self._updates:
            update(part)

    def take_back(self) -> None:
        """Let the metrics forget the parts of an update that was not made."""
        if self._before is not None:
            for metric, state in zip(self._of_parts, self._before, strict=True):
                metric.load_state_dict(state)
            self._before = None

    def skip(self, output: Any) -> None:
        """Count nothing of an update that was not made."""
        self.take_back()
        if not self.is_kept:
            output.let_go()

    def _count_parts(self, output: Any) -> None:
        if self._before is not None:  # they have been taken in
            self._before = None
            return
        for part in output.by_part() if isinstance(output, StepOutput) else (output,):
            for update in self._updates:
                update(part)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state that no update changes; to copy a number deeply would take longer than to add to it."""
    return {name: each if type(each) in _NUMBERS else copy.deepcopy(each) for name, each in state.items()}


def lets_go(step: _Step) -> _Step:
    """Mark a step that returns a `StepOutput` which nothing keeps but the run, and that adds no metrics."""
    step.let_go = step  # type: ignore[attr-defined]
    step.computes = ()  # type: ignore[attr-defined]
    return step


def is_let_go(step: Callable[..., Any]) -> bool:
    """Return whether nothing but the run keeps what a step returns; one that wraps such a step may."""
    return getattr(step, "let_go", None) is getattr(step, "__func__", step)


def reads_predictions(callbacks: Iterable[Any]) -> bool:
    """Return whether some callback may read predictions, as each may whose own class does not deny it."""
    return any(map(_reads, callbacks))


def _reads(callback: Any) -> bool:
    # A subclass of a callback that reads none may well read some.
    said = (getattr(callback, "__dict__", {}), vars(type(callback)))
    return bool(callback.reads_predictions) if any("reads_predictions" in each for each in said) else True

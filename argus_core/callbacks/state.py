"""The state of a run and the interface of its engine, as callbacks see them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argus_core.callbacks.midway import MidwayRecord

if TYPE_CHECKING:  # configurations read durations as callbacks do, without torch
    from argus_core.abstract_model import AbstractModel

__all__ = ["AbstractEngine", "Position", "State", "validation_phases"]


@dataclass
class Position:
    """The position of a run within its epoch, which the engine moves and checkpoints keep.

    Attributes:
        updates_done: complete updates of this epoch.
        skipped: those of them that did not move the weights.
        begun: the callbacks have handled ``epoch_start``.
        trained: all updates of the epoch are done, and its metrics are computed. It stays ``False`` in an
            epoch that a callback stops in the middle.
        done: the callbacks that write no checkpoints have handled ``epoch_complete``.
        unheard: in a checkpoint of an earlier version, the callbacks that had not handled ``epoch_complete``.
    """

    updates_done: int = 0
    skipped: int = 0
    begun: bool = False
    trained: bool = False
    done: bool = False
    unheard: frozenset[str] | None = None


class AbstractEngine(ABC):
    """The interface of the engine for steps and callbacks; `argus_core.Engine` documents it."""

    state: State
    callbacks: tuple[Any, ...]
    handlers: Mapping[str, Sequence[Callable[[State], Any]]]
    window_size: int
    num_batches: int | None
    seed: int
    position: Position
    step: Callable[[Any, State], Any]
    metrics: tuple[Any, ...]
    num_epochs: int | None
    num_updates: int | None = None  # in all, as `RunBounds` sees to
    max_seconds: float | None = None  # in all, in earlier processes too
    run_id: str
    times_resumed: int

    @property
    @abstractmethod
    def is_resumed(self) -> bool: ...

    @property
    @abstractmethod
    def seconds(self) -> float: ...

    @abstractmethod
    def snapshot(self) -> dict[str, Any]: ...

    @abstractmethod
    def hold_position(self) -> None: ...

    @abstractmethod
    def kept_position(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def raise_event(self, event: str) -> None: ...


class State:
    """The state of a run, as callbacks and steps see it.

    Attributes:
        model: the model that is run.
        engine: the engine that runs it.
        phase: ``"train"`` or ``"val"``; ``"val_clean"`` of the validation set ``clean``.
        phase_states: the states of all phases of this run by phase.
        epoch: counts from 0.
        iteration: updates within this epoch, counting from 0.
        global_step: updates that moved the weights since the run began.
        updates_skipped: updates that did not move the weights.
        batch: the current loader batch, or a `Window` of several that make one update.
        step_output: what the step returned: a mapping with prediction, target and loss.
        metrics: the newest value of every metric by name, ``train_loss`` or ``val_accuracy``.
        validated_at: the ``global_step`` of the newest validation, -1 before the first; ``None`` where each
            epoch ends with one.
        validating: the state of the validation set whose batch has ended, for the event
            ``validation_iteration_complete``.
        midway: the newest values of the middle of an epoch, for the event ``measured_midway``.
        stopped: set it to ``True`` to end the run after the current iteration.
        is_complete: the run has reached its number of updates or its time, perhaps in the middle of an epoch.
        stop_reason: a sentence for people; a callback that sets ``stopped`` may set it.
        exception: what ended the run, if something was raised.
        checkpoint_path: the file that a callback wrote last.
        is_dry_run: True in a dry run, in which a callback writes only to the paths that its ``file_params``
            declare, and sends nothing to a server.
        logger: for callbacks' messages.
    """

    def __init__(self, model: AbstractModel, engine: AbstractEngine, phase: str) -> None:
        self.model = model
        self.engine = engine
        self.phase = phase
        self.phase_states: dict[str, State] = {phase: self}
        self.epoch = 0
        self.iteration = -1
        self.global_step = 0
        self.updates_skipped = 0
        self.batch: Any = None
        self.step_output: Any = None
        self.metrics: dict[str, float] = {}
        self.validated_at: int | None = None
        self.validating: State | None = None
        self.midway: MidwayRecord | None = None
        self.stopped = self.is_complete = False
        self.stop_reason: str | None = None
        self.exception: BaseException | None = None
        self.checkpoint_path: Path | None = None
        self.is_dry_run = False
        self.logger: logging.Logger = model.logger

    def is_measured(self, metric: str) -> bool:
        """Return whether the value of a metric is of the current update, not of an earlier validation."""
        return self.validated_at in (None, self.global_step) or not metric.startswith("val_")


def validation_phases(state: State) -> list[str]:
    """Return the phases of a run that validate: ``val``, or ``val_clean`` and others of sets with names."""
    return [phase for phase in state.phase_states or () if phase == "val" or phase.startswith("val_")]

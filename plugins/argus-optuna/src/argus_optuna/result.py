"""The result of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

__all__ = ["SweepResult", "TrialRecord"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study.

    Attributes:
        number: its number, from 0.
        state: ``"complete"``, ``"pruned"``, ``"failed"`` or ``"running"``; an interrupted trial is running
            until a sweep resumes it.
        value: the best value of the monitored metric in the run; None unless the trial is complete.
        params: the chosen value of each key, as the study stores it.
        epochs: the number of reported epochs.
        directory: its run directory, which does not exist if the run failed before its first update.
        checkpoint: the best checkpoint of the run, or None.
        error: the error that it failed with, or None.
    """

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    epochs: int
    directory: Path
    checkpoint: Path | None
    error: str | None


@dataclass(frozen=True)
class SweepResult:
    """The state of a study.

    Attributes:
        study_dir: its folder.
        monitor: the metric that trials are compared by.
        better: ``"max"`` or ``"min"``.
        trials: all trials, in the order of their numbers.
    """

    study_dir: Path
    monitor: str
    better: str
    trials: tuple[TrialRecord, ...]

    @property
    def ranked(self) -> tuple[TrialRecord, ...]:
        """The complete trials, from best to worst; equal trials in the order of their numbers."""
        complete = [trial for trial in self.trials if trial.value is not None]
        sign = -1 if self.better == "max" else 1
        return tuple(sorted(complete, key=lambda trial: sign * (trial.value or 0.0)))

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial, or None."""
        return next(iter(self.ranked), None)

    @property
    def best_checkpoint(self) -> Path | None:
        """The copy of the best trial's checkpoint, whose path is the same for every trial, or None."""
        path = self.study_dir / "best.safetensors"
        return path if path.exists() else None

    def load_study(self) -> optuna.Study:
        """Return the study of optuna, for its plots and importances."""
        from argus_optuna.database import connect
        from argus_optuna.folder import check_folder

        check_folder(self.study_dir)
        return connect(self.study_dir)

    def as_dict(self) -> dict[str, Any]:
        """Return the study as plain data, for JSON."""
        best = self.best
        return {
            "study_dir": str(self.study_dir),
            "monitor": self.monitor,
            "better": self.better,
            "best": None if best is None else best.number,
            "best_checkpoint": None if self.best_checkpoint is None else str(self.best_checkpoint),
            "trials": [_as_dict(trial) for trial in self.trials],
        }


def _as_dict(trial: TrialRecord) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state,
        "value": trial.value,
        "params": dict(trial.params),
        "epochs": trial.epochs,
        "directory": str(trial.directory),
        "checkpoint": None if trial.checkpoint is None else str(trial.checkpoint),
        "error": trial.error,
    }

"""What came of a sweep."""

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
        number: counts from 0.
        state: ``"complete"``, ``"pruned"``, ``"failed"`` or ``"running"``; a trial that was interrupted is
            running until a sweep goes on with it.
        value: the best value of the monitored metric in the run; None unless the trial is complete.
        params: what was chosen for each key, as the study stores it.
        epochs: how many have been reported.
        directory: its run directory, which is there unless the run failed before its first update.
        checkpoint: the best checkpoint of the run, or None.
        error: why it failed, or None.
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
    """A study as it stands.

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
        """The complete trials, the best first; of equal ones the first."""
        complete = [trial for trial in self.trials if trial.value is not None]
        sign = -1 if self.better == "max" else 1
        return tuple(sorted(complete, key=lambda trial: sign * (trial.value or 0.0)))

    @property
    def best(self) -> TrialRecord | None:
        """The best of the complete trials, or None if there is none."""
        return next(iter(self.ranked), None)

    @property
    def best_checkpoint(self) -> Path | None:
        """A copy of the best trial's checkpoint, at the same place whichever trial that is, or None."""
        path = self.study_dir / "best.safetensors"
        return path if path.exists() else None

    def load_study(self) -> optuna.Study:
        """Return the study of optuna itself, for its plots and its importances."""
        from argus_optuna.database import connect
        from argus_optuna.folder import check_folder

        check_folder(self.study_dir)
        return connect(self.study_dir)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
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

"""Settings that were changed for a run that resumes: those that it cannot adopt, and what others mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from argus_core.errors import ConfigError
from argus_core.runs.directory import RunDirectory

__all__ = ["changed_measures", "check_changes"]


def changed_measures(directory: RunDirectory, monitor: str, changed: list[str]) -> Iterator[str]:
    """Yield a sentence if the monitored metric was another measure when it chose the best checkpoint."""
    data = "data.train" if monitor.startswith("train_") else "data.val"
    measure = "model.loss" if monitor.endswith("_loss") else "fit.metrics"
    measures = [key for key in changed if key in (data, measure)]
    if measures and directory.best.exists():
        best = directory.shown(directory.best)
        yield (
            f"{best} was chosen by {monitor} before {' and '.join(measures)} changed, and stays until an "
            f"epoch has a better {monitor}; to choose again from here, move it away and resume"
        )


def check_changes(directory: RunDirectory, changed: list[tuple[str, Any, Any]]) -> None:
    """Raise for changed settings that a resumed run cannot adopt."""
    reasons = {
        "fit.seed": "the order of its batches and its random numbers follow from its first seed",
        "fit.run_dir": f"a resumed run stays in {directory.path}; copy the folder to have two runs",
        "model.init_from": "its weights are those of its checkpoint",
        "model.name": "its checkpoints are of another class; load the weights with load_model into a new run",
    }
    for key, was, now in changed:
        if key in reasons:
            raise ConfigError(
                f"--set {key.removeprefix('fit.')}={now}: a resumed run keeps {was!r}, as "
                f"{reasons[key]}; leave the change out, or start a new run with argus train"
            )

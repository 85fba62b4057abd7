"""A dry run of a configuration: all of a run in seconds, in a folder that is removed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from argus_core.config import Config
from argus_core.runs.run import train
from argus_core.runs.together import in_one_group
from argus_core.training.dry_run import DryRun
from argus_core.training.interruption import exiting
from argus_core.training.trial_folder import trial_folder

__all__ = ["DryRunResult", "dry_run"]

_CALLBACKS = ("callbacks", "val_callbacks")


@dataclass(frozen=True)
class DryRunResult:
    """The result of a dry run that has found nothing wrong.

    Attributes:
        batches: the loader batches that were read, by phase: ``train``, ``val`` or ``val_clean``, ``test``.
        metrics: their values, those of the test data too; of so few samples they only show that they exist.
        checkpoint_size: bytes of the last checkpoint.
        seconds: the time that it took.
    """

    batches: Mapping[str, int]
    metrics: Mapping[str, float]
    checkpoint_size: int
    seconds: float


def dry_run(config: Config, callbacks: Iterable[Any] = ()) -> DryRunResult:
    """Make a dry run of a configuration; its own run directory is not touched.

    Args:
        config: to try.
        callbacks: as in `argus_core.runs.run.train`.

    Raises:
        ArgusError: the run would fail.
    """
    began = time.monotonic()
    with in_one_group(lambda: config), exiting(), trial_folder() as folder:
        trial = DryRun(folder)
        placed = {key: trial.placed(config.fit[key]) for key in _CALLBACKS if key in config.fit}
        run_dir = str(trial.place(config.fit["run_dir"]))
        placed_config = replace(config, fit={**config.fit, **placed, "run_dir": run_dir})
        result = train(placed_config, callbacks=callbacks, trial=trial)
        return DryRunResult(
            batches=trial.batches,
            metrics={**result.metrics, **result.test_metrics},
            checkpoint_size=_size(result.directory.last),
            seconds=time.monotonic() - began,
        )


def _size(checkpoint: Path) -> int:
    files = checkpoint.iterdir() if checkpoint.is_dir() else [checkpoint]
    return sum(file.stat().st_size for file in files)

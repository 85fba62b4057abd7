"""Saving the model in a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import argus
from argus import types
from argus.callbacks.callback import Callback
from argus.errors import MonitorError, also
from argus.metrics.metric import init_better, known_better
from argus_core import authors
from argus_core.authors import Monitor, make_folder, monitored_value

if TYPE_CHECKING:
    import argus_core

__all__ = ["Checkpoint", "MonitorCheckpoint"]


class Checkpoint(authors.Checkpoint, Callback):
    """Saves the model every ``period`` epochs.

    Args:
        dir_path: the folder of the files; by default the current one.
        file_format: the format of the files' names, with the fields ``epoch`` and the state's metrics. Names
            that end in ``.safetensors`` give checkpoints of argus_core, others those of pytorch-argus.
        max_saves: the number of files to keep; older files of this callback are deleted.
        period: the number of epochs between two files.
        save_after_exception: whether to save if an exception ends the run.
        optimizer_state: whether to keep the optimizer's state.
    """

    def __init__(
        self,
        dir_path: types.Path = "",
        file_format: str = "model-{epoch:03d}-{train_loss:.6f}.pth",
        max_saves: int | None = None,
        period: int = 1,
        save_after_exception: bool = False,
        optimizer_state: bool = False,
    ) -> None:
        with also(ValueError, TypeError):
            super().__init__(
                dir_path or ".", f"{period}ep", max_saves, optimizer_state, save_after_exception, file_format
            )
        self.period = period
        self.epochs_since_last_save = 0

    @property
    def saved_files_paths(self) -> list[str]:
        """The files that the run has written and kept, oldest first."""
        return list(map(str, self.saved))

    def start(self, state: argus_core.State) -> None:
        """Start the list of files."""
        self.epochs_since_last_save = 0
        super().start(state)

    def epoch_complete(self, state: argus_core.State) -> None:
        """Save the model if it is due."""
        self.epochs_since_last_save += 1
        super().epoch_complete(state)

    def save(self, state: argus_core.State) -> None:
        """Save the model now."""
        self.save_checkpoint(state)

    def save_checkpoint(self, state: argus_core.State) -> None:
        """Save the model now, and delete files beyond ``max_saves``."""
        with also(KeyError, ValueError):
            super().save(state)
        self.epochs_since_last_save = 0

    def save_model(self, state: argus_core.State, file_path: types.Path) -> None:
        """Write the model to ``file_path``; override it to save an average of the weights, for example."""
        state.model.save(file_path, optimizer_state=self.optimizer_state)

    def log_saved(self, state: argus_core.State) -> None:
        """Log nothing when the model has logged its file."""
        if not isinstance(state.model, argus.Model):
            super().log_saved(state)

    def catch_exception(self, state: argus_core.State) -> None:
        """Save the model, if wanted; a failure is only logged, so that the run's exception is raised."""
        if not self.save_after_exception:
            return
        path = self.dir_path / self.exception_name(state)
        try:
            make_folder(type(self).__name__, path.parent)
            self.save_model(state, path)
        except Exception:
            state.logger.exception("could not save %s after %s", path, type(state.exception).__name__)

    def exception_name(self, state: argus_core.State) -> str:
        """Return the name of the file that is saved when an exception ends the run."""
        return f"model-after-exception{Path(self.file_format).suffix}"


class MonitorCheckpoint(Checkpoint):
    """Saves the model when the monitored metric reaches a new best value.

    Args:
        dir_path: the folder of the files; by default the current one.
        file_format: the format of the files' names, with the fields ``epoch``, ``monitor`` (the value) and
            the state's metrics.
        max_saves: the number of files to keep; older files of this callback are deleted.
        save_after_exception: whether to save if an exception ends the run.
        optimizer_state: whether to keep the optimizer's state.
        monitor: the metric: ``val_loss``, ``train_accuracy``.
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric.
    """

    def __init__(
        self,
        dir_path: types.Path = "",
        file_format: str = "model-{epoch:03d}-{monitor:.6f}.pth",
        max_saves: int | None = None,
        save_after_exception: bool = False,
        optimizer_state: bool = False,
        monitor: str = "val_loss",
        better: str = "auto",
    ) -> None:
        super().__init__(
            dir_path,
            file_format,
            max_saves,
            save_after_exception=save_after_exception,
            optimizer_state=optimizer_state,
        )
        self.monitor = _checked_monitor(monitor)
        self.better, self.better_comp, self._worst = known_better(better, monitor)
        self._best = Monitor("MonitorCheckpoint", monitor, self.better)

    @property
    def best_value(self) -> float | None:
        """The best value so far, initially the worst one; ``None`` as long as no metric has the name."""
        return self._worst if self._best.best is None else self._best.best

    def start(self, state: argus_core.State) -> None:
        """Determine whether higher or lower is better, and start as `Checkpoint` does."""
        self.better, self.better_comp, self._worst = init_better(self.better, self.monitor)
        self._best = Monitor("MonitorCheckpoint", self.monitor, self.better)
        with also(ValueError):
            self._best.start(state)
        super().start(state)

    def epoch_complete(self, state: argus_core.State) -> None:
        """Save if the metric has improved."""
        with also(ValueError):
            has_improved = self._best.improved(state)
        if has_improved:
            self.save_checkpoint(state)

    def name_fields(self, state: argus_core.State) -> dict[str, Any]:
        """Return the fields for a file's name."""
        value = monitored_value("MonitorCheckpoint", self.monitor, state)
        return {**super().name_fields(state), "monitor": value}


def _checked_monitor(monitor: str) -> str:
    if not monitor.startswith(("train_", "val_")):
        raise MonitorError(
            f"monitor of MonitorCheckpoint is {monitor!r}; give the metric's name with its phase, such as "
            f"'val_{monitor}'"
        )
    return monitor

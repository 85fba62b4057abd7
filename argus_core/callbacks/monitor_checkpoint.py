"""Checkpoints of a model whenever a metric improves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from argus_core.callbacks.checkpoints import Checkpoint
from argus_core.callbacks.monitor import Monitor, monitored_value
from argus_core.callbacks.state import State
from argus_core.callbacks.written import run_record
from argus_core.errors import ParamsError
from argus_core.files.working_folder import shown
from argus_core.hooks import hookimpl
from argus_core.storage.stored import BEST, Rule

__all__ = ["MonitorCheckpoint"]


class MonitorCheckpoint(Checkpoint):
    """Saves the model whenever the monitored metric reaches a new best value of the run.

    Of epochs with equal values, the first is the best.

    Args:
        dir_path: the folder of the files.
        monitor: a name among the run's metrics.
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric.
        every: after which epochs to look: ``"2ep"``.
        max_saves: how many files to keep, the best ones; see ``checkpoint``.
        optimizer_state: whether to keep the optimizer's state, for training on.
        save_after_exception: save also when an exception ends the run; such a file is never deleted.
        file_format: the files' names, with the fields ``epoch`` (counting from 0), ``step`` (updates),
            ``monitor`` (the value) and the run's metrics.
        background: as for ``checkpoint``.
    """

    name = "monitor_checkpoint"
    reads_predictions = False
    computes = ()
    exact_types = True
    runs_last = 1

    def __init__(
        self,
        dir_path: str | Path,
        monitor: str = "val_loss",
        better: str = "auto",
        every: str = "1ep",
        max_saves: int | None = None,
        optimizer_state: bool = False,
        save_after_exception: bool = False,
        file_format: str = "model-{epoch:03d}-{monitor:.6f}.safetensors",
        background: bool = False,
    ) -> None:
        super().__init__(
            dir_path, every, max_saves, optimizer_state, save_after_exception, file_format, background
        )
        if self.every.unit != "ep":
            raise ParamsError(
                f"{self.name} has every={every!r}; metrics are computed once an epoch, so give '1ep'"
            )
        self.monitor = Monitor(self.name, monitor, better)
        self._judged = 0  # epochs of this run

    def start(self, state: State) -> None:
        """Check that the metric will be computed, and start as `Checkpoint` does."""
        self.monitor.start(state)
        if not self._resumed:
            self.monitor.forget()
        if self._resumed or state.engine.is_resumed:  # a run of an earlier version had this state elsewhere
            self._judge_kept(state)
        self._judged = 0
        super().start(state)

    def interrupted(self, state: State) -> None:
        """Keep the best checkpoints: an interruption saves none."""

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        """Save if a cadence in epochs is due and the metric has improved."""
        if not self.monitor.new.at_epoch(state):
            return
        monitored_value(self.name, self.monitor.metric, state)  # its absence shows in the first epoch
        # A run that resumes has not had an epoch yet that a callback stopped.
        if not state.engine.position.trained and not state.is_complete:
            return
        self._judge(state)

    @hookimpl(trylast=True)
    def measured_midway(self, state: State) -> None:
        """Save if a validation has improved the metric."""
        if self.monitor.new.midway(state):
            self._judge(state)

    def _judge(self, state: State) -> None:
        if (state.epoch + 1) % self.every.count:
            return
        self._judged += 1
        before = self.monitor.best, self.monitor.epoch
        if self.monitor.improved(state):
            self._saved_finite = False
            self.save(state)
            if not self._saved_finite:  # a good file need not be better than one that is not kept
                self.monitor.best, self.monitor.epoch = before

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the written files, oldest first."""
        return {**super().state_dict(), **self.monitor.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, for the next run; see `Checkpoint.load_state_dict`."""
        super().load_state_dict(state_dict)
        self.monitor.load_state_dict(state_dict)
        if state_dict["saved"] and not self._files.names:  # it is the state of another callback
            self.monitor.forget()

    def state_rules(self) -> Mapping[str, Rule]:
        return {**super().state_rules(), **self.monitor.state_rules}

    def missing_files(self) -> str | None:
        if not self._judged or self._due:
            return super().missing_files()
        if self.has_kept or self.monitor.best is not None:
            return None
        epochs = "its only epoch" if self._judged == 1 else f"each of the {self._judged} epochs looked at"
        folder, metric = shown(self.dir_path), self.monitor.metric
        return f"{self.name} kept no file in {folder}: {metric} was not finite in {epochs}"

    def _judge_kept(self, state: State) -> None:
        """Read the best value from the newest file; ``None`` if it is missing.

        The file may be newer than the stored state: of a run that was killed once it had written the file, or
        that resumes from an earlier checkpoint.
        """
        path = (
            self.dir_path / (self._files.names or [self.file_format])[-1]
        )  # a name without fields is the format
        if not path.exists():
            if self._files.names:
                self.monitor.forget()
            return
        record = run_record(path)
        if record.get("id") != state.engine.run_id:
            return
        value, epoch = record["metrics"].get(self.monitor.metric), record["epoch"]
        if value is not None and BEST.holds(value):
            self.monitor.best, self.monitor.epoch = value, epoch
        if record["global_step"] > state.global_step:
            state.logger.warning(
                "%s is of epoch %d, after the checkpoint that the run resumes from; it is kept until an "
                "epoch has a better %s; to start over, remove it and resume again",
                shown(path), epoch + 1, self.monitor.metric,
            )  # fmt: skip

    def name_fields(self, state: State) -> dict[str, Any]:
        value = monitored_value(self.name, self.monitor.metric, state)
        return {**super().name_fields(state), "monitor": value}

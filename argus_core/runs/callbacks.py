"""The callbacks of a run that is kept in a run directory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argus_core.callbacks import Callback, Checkpoint, LoggingToFile, MetricsJSONL, Progress
from argus_core.callbacks.written import check_no_link, delete_written, run_of
from argus_core.errors import ArgusWarning, CheckpointError
from argus_core.files.working_folder import shown
from argus_core.hooks import hookimpl
from argus_core.registry.factory import build_component
from argus_core.runs.chosen import check_places, chosen_callbacks
from argus_core.runs.directory import RunDirectory
from argus_core.tensors.single_process import is_first_process, met_processes
from argus_core.training.interruption import Interruption

if TYPE_CHECKING:
    from argus_core.callbacks.state import State

__all__ = ["LastCheckpoint", "Witness", "run_callbacks", "validation_callbacks"]


class Witness(Callback):
    """Creates the run directory when everything else is built, and records the run's best epoch.

    Args:
        directory: of the run.
        monitor: the metric that decides which epoch is the best.
        begin: called before anything is written.
        config: replaces the run's configuration once the run resumes.
        versions: of the packages that take part in the resumed run.
        notes: warnings to give when the run resumes.
        data: the choices of the run's data, for ``model.data``.
    """

    name = "run"
    reads_predictions = False
    computes = ()

    def __init__(
        self,
        directory: RunDirectory,
        monitor: str,
        begin: Callable[[], None] = lambda: None,
        config: str | None = None,
        versions: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.begin = begin
        self.config = config
        self.versions = versions
        self.notes = notes
        self.data = data or {}
        params = {"monitor": monitor, "file_format": directory.best.name, "max_saves": 1}
        spec = ("monitor_checkpoint", {"dir_path": str(directory.checkpoints), **params})
        self.best = build_component("callback", spec, "callbacks")
        self.best.name = "best_checkpoint"  # its state is found by it, whatever other callbacks there are
        self.best.monitor.callback = "[fit]"  # where its metric is chosen
        self.began = False

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best checkpoint, counting from 0."""
        epoch: int | None = self.best.monitor.epoch
        return epoch

    @property
    def best_value(self) -> float | None:
        """The monitored metric's best value, exactly."""
        value: float | None = self.best.monitor.best
        return value

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        """Create the run directory, after a check that the monitored metric exists."""
        self.best.monitor.start(state)
        self.begin()
        state.model.data = replace(state.model.data, **self.data)

    def epoch_start(self, state: State) -> None:
        """Note in the log which weights a new run starts from."""
        if state.model.initial_weights is not None and state.global_step == state.epoch == 0:
            state.logger.info("%s", state.model.initial_weights)

    @hookimpl(tryfirst=True)
    def iteration_complete(self, state: State) -> None:
        self.directory.check_held()  # before anything is written

    @hookimpl(tryfirst=True)
    def epoch_complete(self, state: State) -> None:
        self.directory.check_held()

    @hookimpl(tryfirst=True)
    def interrupted(self, state: State) -> None:
        self.directory.check_held()

    def complete(self, state: State) -> None:
        self.began = True  # a later failure leaves the run as it is

    def catch_exception(self, state: State) -> None:
        self.began = state.global_step + state.updates_skipped > 0

    def resumed(self, state: State) -> None:
        engine = state.engine
        epochs = state.epoch + engine.position.done
        if state.stopped or (engine.num_epochs is not None and epochs >= engine.num_epochs):
            return  # the run is complete, and changes nothing
        for note in self.notes:
            warnings.warn(note, ArgusWarning, stacklevel=2)
        if self.config is not None:
            self.directory.change_config(self.config)
        if self.versions is not None:
            self.directory.change_versions(self.versions)

    def checkpoint_saved(self, state: State) -> None:
        if state.checkpoint_path in self.directory.lasts:
            self.directory.settle()


class LastCheckpoint(Checkpoint):
    """The checkpoint that a run resumes from, also after an exception that ends its validation, for example.

    After an exception it replaces no checkpoint but that of an earlier epoch's end: in the middle of an
    epoch a run resumes only with the same data.

    Args:
        directory: of the run.
        every: how often it is written besides.
        resumed: the checkpoint that the run resumes from. If it is another, this one stays until the run has
            moved.
    """

    name = "last_checkpoint"
    reads_predictions = False
    computes = ()

    def __init__(self, directory: RunDirectory, every: str, resumed: Path | None = None) -> None:
        super().__init__(
            directory.checkpoints,
            every,
            max_saves=1,
            optimizer_state=True,
            file_format=directory.lasts[0].name,
            sharded="auto",
        )
        self.directory = directory
        self._keeps = resumed not in (None, *directory.lasts) and directory.last.exists()

    def save(self, state: State) -> None:
        if not (self._keeps and state.global_step == self._saved_step):
            self._keeps = False
            super().save(state)

    @hookimpl(trylast=True)
    def complete(self, state: State) -> None:
        """Save the end of the run, whatever the cadence: it may get more epochs."""
        if state.global_step + state.updates_skipped > 0 and state.global_step != self._saved_step:
            self.save(state)
        super().complete(state)

    @hookimpl(trylast=True)
    def catch_exception(self, state: State) -> None:
        """Save the current position, unless an update or the disk raised the exception."""
        super().catch_exception(state)
        last, kind = self.dir_path / self.file_format, type(state.exception).__name__
        if isinstance(state.exception, Interruption | CheckpointError) or not self._is_gain(state):
            return
        if met_processes() > 1:  # the others do not take part
            return
        try:
            check_no_link(self.name, last)
            if state.model.is_finite(optimizer_state=True):
                self.save_model(state, last)
                self._remove_other_form(state)
                state.logger.warning("saved %s after %s; the run resumes from there", shown(last), kind)
        except Exception as error:  # the run's own matters more
            state.logger.warning("could not save %s after %s: %s", shown(last), kind, error)

    def log_saved(self, state: State) -> None:
        super().log_saved(state)
        if is_first_process():
            self._remove_other_form(state)

    def _remove_other_form(self, state: State) -> None:
        """Remove the last checkpoint of this run that it saved as a folder and saves as a file now, or so."""
        for other in self.directory.lasts:
            if other.name != self.file_format and run_of(other) == state.engine.run_id:
                delete_written(other, state.logger)

    def _is_gain(self, state: State) -> bool:
        """Return whether the run has advanced since its last checkpoint and can be resumed."""
        position = state.engine.position
        has_moved = not state.engine.is_resumed and state.global_step not in (0, self._saved_step)
        is_over = position.trained or not self.directory.last.exists()
        is_updating = position.begun and state.iteration == position.updates_done
        return has_moved and is_over and not is_updating and self.directory.keeps_run


def run_callbacks(witness: Witness, every: str, own: Any, resumed: Path | None = None) -> list[Any]:
    """Return the witness, the callbacks that report and save a run, and the user's own callbacks.

    Args:
        witness: of the run.
        every: how often the last checkpoint is written.
        own: instances, names or specs.
        resumed: the checkpoint that the run resumes from.

    Raises:
        ConfigError: one of them would overwrite a file of the run.
    """
    directory = witness.directory
    reports = [
        Progress(table=True, monitor=witness.best.monitor.metric),
        LoggingToFile(directory.log),
        MetricsJSONL(directory.metrics),
    ]
    chosen = [*chosen_callbacks(own, directory.root)]
    built = [each.callback for each in chosen]
    for each in chosen:
        if not any(_replaces(each.callback, report) for report in reports):
            check_places(each, directory)
    return [
        witness,
        *(report for report in reports if not any(_replaces(each, report) for each in built)),
        *built,
        witness.best,
        LastCheckpoint(directory, every, resumed),
    ]


def validation_callbacks(directory: RunDirectory, own: Any, phases: Sequence[str] = ("val",)) -> Any:
    """Return the callbacks of a run's validation; they write into their own folder, one for each set.

    Args:
        directory: of the run.
        own: instances, names or specs.
        phases: that validate: ``val``, or one for each set.

    Raises:
        ConfigError: one of them would overwrite a file of the run.
    """
    if "val" in phases or not phases:
        return _placed(directory, own, directory.root / "val")
    sets = [phase.removeprefix("val_") for phase in phases]
    return {name: _placed(directory, own, directory.root / "val" / name) for name in sets}


def _placed(directory: RunDirectory, own: Any, folder: Path) -> list[Any]:
    chosen = [*chosen_callbacks(own, folder)]
    for each in chosen:
        check_places(each, directory)
    return [each.callback for each in chosen]


def _replaces(callback: Any, report: Any) -> bool:
    """Return whether a callback of the user writes the same report to the same file."""
    if not isinstance(callback, type(report)):
        return False
    ours, theirs = (os.path.realpath(getattr(each, "file_path", "")) for each in (callback, report))
    return ours == theirs

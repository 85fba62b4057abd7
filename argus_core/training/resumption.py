"""Resuming a run from a checkpoint: everything that is restored, and the changes that are allowed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.state import Position
from argus_core.callbacks.written import run_in
from argus_core.checkpoint.contents import SavedFile
from argus_core.checkpoint.module_state import check_module_forms
from argus_core.checkpoint.restoring import load_saved
from argus_core.checkpoint.sections import PREFIXES
from argus_core.data.description import check_names
from argus_core.data.order import loader_length
from argus_core.errors import ArgusWarning, CheckpointError, StateMismatchError, UnsafeCheckpointError
from argus_core.storage import read_header
from argus_core.storage.forms import checkpoints_in
from argus_core.tensors.rng import check_random_state
from argus_core.training.changes import DataDrift, OptimizerDrift, ScheduleDrift, model_changes
from argus_core.training.engine import Engine
from argus_core.training.newest import find_checkpoint, most_resumed
from argus_core.training.position import (
    is_progress,
    position_in,
    restore_callbacks,
    restore_counters,
    restore_metrics,
)

__all__ = ["Resumption"]


class Resumption:
    """The run in a checkpoint, to be restored.

    Args:
        path: a checkpoint or a folder with some.

    Raises:
        CheckpointError: it cannot be read, or no run can resume from it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = find_checkpoint(path)
        with SavedFile(self.path) as saved:
            progress, self._run_id = saved.progress(), saved.run_id()
            self._header = saved.header
        self._times_resumed = 1 + most_resumed(self.path, self._run_id)
        if progress is None:
            raise CheckpointError(
                f"{self.path} holds no position of a run; give one that the callback checkpoint wrote with "
                "optimizer_state=True, or load its weights with load_model and start a new run"
            )
        if not is_progress(progress):
            raise UnsafeCheckpointError(
                f"{self.path}: the manifest's 'progress' is not as argus_core writes it; "
                "do not trust this file"
            )
        self.progress: dict[str, Any] = progress
        self._position = position_in(progress)

    @property
    def _is_midway(self) -> bool:
        """True if the checkpoint was written in the middle of an epoch."""
        return self._position.updates_done > 0 and not self._position.trained

    @property
    def _epochs_done(self) -> int:
        """The number of epochs whose updates have all been made."""
        epoch: int = self.progress["counters"]["epoch"]
        return epoch + self._position.trained

    @property
    def seed(self) -> int:
        """The seed of the run's order of batches."""
        seed: int = self.progress["loader"]["seed"]
        return seed

    def restore(self, model: AbstractModel, engine: Engine, loader: Iterable[Any]) -> None:
        """Restore the run: its model, counters, metrics, callbacks and random numbers.

        Learning-rate schedules are callbacks. One warning lists what has changed since the checkpoint was
        written, and its effect.

        Raises:
            StateMismatchError: the state does not fit the model, a metric or a callback of the run.
            UnsafeCheckpointError: argus_core does not write such a state.
        """
        progress = self.progress
        with SavedFile(self.path) as saved:
            if saved.header != self._header:
                raise CheckpointError(f"{self.path} was replaced after its header was read; resume again")
            self._check_window(engine, loader)
            check_names("the training data", loader, saved.data())
            data = DataDrift(loader, progress, self._is_midway)
            schedules = ScheduleDrift(engine, progress["callback"])
            changes = [*data, *model_changes(saved, progress["device"], model, schedules), *schedules]
            _restore_model(model, saved, takes_options=not schedules.continued)
        for schedule in schedules.new:
            epochs, updates = self._epochs_done, progress["counters"]["global_step"]
            schedule.restart(not schedules.continued, epochs, updates)
        engine.run_id, engine.times_resumed = self._run_id or engine.run_id, self._times_resumed
        engine.seconds_before = progress["counters"].get("seconds", 0.0)
        try:
            check_random_state(progress["rng"])
            restore_counters(engine, progress, Position() if data.starts_over else self._position)
            restore_metrics(engine.metrics, progress)
            restore_callbacks(engine, progress)  # learning-rate schedules among them
        except UnsafeCheckpointError as error:
            raise UnsafeCheckpointError(f"{self.path}: {error}") from error
        engine.resume_at(progress["rng"])
        self._warn(changes)  # now that nothing refuses it
        model.logger.info("resumes from %s, after %d updates", self.path, engine.state.global_step)

    def _warn(self, changes: list[str]) -> None:
        if changes:
            warnings.warn(
                f"the run that resumes from {self.path} has changed: {'; '.join(changes)}",
                ArgusWarning,
                stacklevel=5,
            )

    def _check_window(self, engine: Engine, loader: Iterable[Any]) -> None:
        before = self.progress["loader"]
        if not self._is_midway:
            return
        if before["window"] != engine.window_size:
            raise StateMismatchError(
                f"{self.path} was saved in the middle of an epoch with {before['window']} loader batches to "
                f"one update, and there are {engine.window_size} now; {self._ways('as many')}"
            )
        length = loader_length(loader)
        if before["batches"] is not None and length not in (None, before["batches"]):
            raise StateMismatchError(
                f"{self.path} was saved in the middle of an epoch of {before['batches']} batches, and the "
                f"loader has {length} now; {self._ways('the same data and batch size')}"
            )

    def _ways(self, unchanged: str) -> str:
        """Return how to resume a run that was saved in the middle of an epoch and has changed since."""
        epochs = self.progress["counters"]["epoch"] + 1
        ways = (
            f"resume with {unchanged} to the end of that epoch (num_epochs={epochs}) and change it afterwards"
        )
        ended = [file for file in checkpoints_in(self.path.parent) if self._ends_an_epoch(file)]
        if not ended:
            return ways
        newest = max(ended, key=lambda file: file.stat().st_mtime_ns)
        return f"{ways}, or resume from {newest}, the end of an epoch"

    def _ends_an_epoch(self, file: Path) -> bool:
        """Return whether a checkpoint is of an epoch's end, from which other batches may follow."""
        try:
            manifest = read_header(file).manifest
            counters = manifest["progress"]["counters"]
            is_ended = (
                counters.get("epoch_trained", counters["epoch_done"]) or not counters["updates_in_epoch"]
            )
            return bool(is_ended) and self._run_id is not None and run_in(manifest) == self._run_id
        except (CheckpointError, KeyError, TypeError):
            return False


def _restore_model(model: AbstractModel, saved: SavedFile, takes_options: bool) -> None:
    """Restore the state of all parts of a model.

    Args:
        model: built from its params.
        saved: holds the state.
        takes_options: whether options of the optimizer that have changed since then are set.
    """
    has_optimizer = model.optimizer is not None
    options = OptimizerDrift(saved.params(), model) if has_optimizer and takes_options else None
    _check_same_optimizer(model, saved)
    if not has_optimizer or not load_saved(model, saved, parts=PREFIXES):
        raise StateMismatchError(
            "a run is resumed only with its optimizer; save it with optimizer_state=True, and build it"
        )
    if options is not None:
        options.apply(model.optimizer)


def _check_network(model: AbstractModel, saved: SavedFile) -> None:
    network, part = model.get_nn_module(), model.parts["nn_module"]
    title = f"nn_module {part.name!r}" if part else "nn_module"
    check_module_forms(network, saved.forms("nn_module"), title)


def _check_same_optimizer(model: AbstractModel, saved: SavedFile) -> None:
    """Raise for another optimizer, which would fail in the update with the old one's options."""
    record, part = saved.components.get("optimizer"), model.parts["optimizer"]
    if record is None or part is None:
        return
    before, now = record["as"], part.name
    if before.rpartition("/")[2] != now.rpartition("/")[2]:
        _check_network(model, saved)  # the larger change
        raise StateMismatchError(
            f"the run trained with optimizer {before!r}, whose state {now!r} cannot load; "
            f"resume with {before!r}, or load the weights with load_model and start a new run"
        )

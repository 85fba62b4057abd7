"""Resuming a run from a checkpoint: everything that is restored, and the changes that are allowed."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.state import Position
from argus_core.callbacks.written import run_in
from argus_core.checkpoint.contents import SavedFile
from argus_core.checkpoint.restoring import load_saved, saved_optimizer
from argus_core.checkpoint.saving import PREFIXES
from argus_core.data.order import OrderedLoader, can_skip, loader_length
from argus_core.errors import ArgusWarning, CheckpointError, StateMismatchError, UnsafeCheckpointError
from argus_core.steps.parameters import loss_parameters
from argus_core.storage import CheckpointFile, read_header
from argus_core.tensors.rng import check_random_state
from argus_core.training.changes import OptimizerDrift, ScheduleDrift, param_differences, version_differences
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

_HOLDS = "which holds from here on"


class Resumption:
    """The run in a checkpoint, to be restored.

    Args:
        path: a checkpoint or a folder with some.

    Raises:
        CheckpointError: it cannot be read, or no run can resume from it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = find_checkpoint(path)
        with CheckpointFile(self.path) as file:
            saved = SavedFile(file, verify=True)
            progress, self._run_id = saved.progress(), saved.run_id()
        self._times_resumed = 1 + most_resumed(self.path, self._run_id)
        if progress is None:
            raise CheckpointError(
                f"{self.path} does not say how far its run was; give one that the callback checkpoint wrote "
                "with optimizer_state=True, or load it with load_model and train anew"
            )
        if not is_progress(progress):
            raise UnsafeCheckpointError(
                f"{self.path}: the manifest's 'progress' is not as argus_core writes it; "
                "do not trust this file"
            )
        self.progress: dict[str, Any] = progress
        self.position = position_in(progress)

    @property
    def _is_midway(self) -> bool:
        """Whether the checkpoint was written in the middle of an epoch."""
        return self.position.updates_done > 0 and not self.position.trained

    @property
    def seed(self) -> int:
        """The seed of the order of the run's batches."""
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
        with CheckpointFile(self.path) as file:
            saved = SavedFile(file, verify=True)
            self._check_window(engine, loader)
            schedules = ScheduleDrift(engine, self.progress["callback"])
            options = OptimizerDrift(saved.params(), model) if model.optimizer is not None else None
            meaning = options.meaning(schedules.continued) if options else _HOLDS
            self._warn([*self._changes(saved, model, loader, meaning), *schedules])
            _restore_model(model, saved)
        ratios = options.apply(model.optimizer, schedules.continued) if options else []
        for schedule in schedules.new:
            schedule.restart(alone=not schedules.continued)
        if self._run_id is not None:
            engine.run_id = self._run_id
        engine.times_resumed = self._times_resumed
        try:
            check_random_state(self.progress["rng"])
            restore_counters(engine, self.progress, self.position)
            restore_metrics(engine.metrics, self.progress)
            restore_callbacks(engine, self.progress)
        except UnsafeCheckpointError as error:
            raise UnsafeCheckpointError(f"{self.path}: {error}") from error
        for schedule in schedules.continued:
            schedule.scale(ratios)
        engine.resume_at(self.progress["rng"])
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
        """Return how a run can go on that was saved in the middle of an epoch and has changed since."""
        epochs = self.progress["counters"]["epoch"] + 1
        ways = f"go on with {unchanged} to the end of that epoch (num_epochs={epochs}) and change it then"
        ended = [file for file in self.path.parent.glob("*.safetensors") if self._ends_an_epoch(file)]
        if not ended:
            return ways
        newest = max(ended, key=lambda file: file.stat().st_mtime_ns)
        return f"{ways}, or go on from {newest}, of the end of an epoch"

    def _ends_an_epoch(self, file: Path) -> bool:
        """Return whether a checkpoint of the same run can be resumed with other batches."""
        try:
            manifest = read_header(file).manifest
            counters = manifest["progress"]["counters"]
            is_ended = (
                counters.get("epoch_trained", counters["epoch_done"]) or not counters["updates_in_epoch"]
            )
            return bool(is_ended) and self._run_id is not None and run_in(manifest) == self._run_id
        except (CheckpointError, KeyError, TypeError):
            return False

    def _has_known_order(self, loader: Iterable[Any]) -> bool:
        """Return whether the epoch's batches come in the order that they came in, as far as that is known."""
        before = self.progress["loader"].get("order")
        if before is None or not isinstance(loader, OrderedLoader):
            return True
        return bool(loader.fingerprint(self.progress["counters"]["epoch"], draw=True) == before)

    def _changes(
        self, saved: SavedFile, model: AbstractModel, loader: Iterable[Any], optimizer_meaning: str
    ) -> Iterator[str]:
        """Yield what has changed since the checkpoint was written, and what it means."""
        before, counters = self.progress["loader"], self.progress["counters"]
        is_known = self._has_known_order(loader)
        length = loader_length(loader)
        if before["batches"] != length:
            yield (
                f"an epoch had {before['batches']} batches and has {length}, so samples come in another order"
            )
        elif not is_known and not self._is_midway:
            yield (
                f"the train loader gives another order of batches{_blame(loader)}, so samples come in "
                "another order from here on"
            )
        if self._is_midway and not (can_skip(loader) and is_known):
            self.position = Position()
            why = "cannot go on in the middle of an epoch" if is_known else "gives another order of batches"
            yield (
                f"the train loader ({type(loader).__name__}) {why}{'' if is_known else _blame(loader)}, so "
                f"epoch {counters['epoch'] + 1} starts over with the weights of its middle"
            )
        if self.progress["device"] != model.device.type:
            yield (
                f"it trained on {self.progress['device']} and trains on {model.device.type}, so results "
                "differ in rounding and random numbers"
            )
        for name, was, now in param_differences(saved.params(), model.params):
            meaning = optimizer_meaning if name == "optimizer" else _HOLDS
            if name == "loss" and loss_parameters(model):
                meaning = "which begins with the parameters that the loss before it had"
            yield f"params[{name!r}] was {was!r} and is {now!r}, {meaning}"
        trained = saved.trained()
        new = [name for name, each in loss_parameters(model).items() if each.requires_grad]
        if trained and not {*new} <= {*trained}:
            shown = ", ".join(name for name in new if name not in trained)
            yield f"the loss's parameters ({shown}) were not trained before and are from here on"
        for name, was, now in version_differences(saved.versions):
            yield f"{name} was {was} and is {now}, so results may differ in rounding"


def _blame(loader: Iterable[Any]) -> str:
    """Return what may have given another order, for a sentence that says so."""
    sampler = loader.sampler_name() if isinstance(loader, OrderedLoader) else ""
    return f" (other data, or {sampler} draws from what neither seed nor epoch decides)"


def _restore_model(model: AbstractModel, saved: SavedFile) -> None:
    _check_same_optimizer(model, saved)
    optimizer = functools.partial(saved_optimizer, model, saved, same_loss=True)
    if model.optimizer is None or not load_saved(model, saved, modules=PREFIXES, optimizer=optimizer):
        raise StateMismatchError("a run goes on only with its optimizer; save and build it with one")


def _check_same_optimizer(model: AbstractModel, saved: SavedFile) -> None:
    """Refuse another optimizer: torch would take the old one's options for its own and fail in the update."""
    record, part = saved.components.get("optimizer"), model.parts["optimizer"]
    if record is None or part is None:
        return
    before, now = record["as"], part.name
    if before.rpartition("/")[2] != now.rpartition("/")[2]:
        raise StateMismatchError(
            f"the run trained with optimizer {before!r}, whose state {now!r} cannot take; "
            f"go on with {before!r}, or take the weights with load_model and train anew"
        )

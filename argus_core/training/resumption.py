"""Going on with a run from a checkpoint, as if nothing had happened."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.written import run_in, times_resumed
from argus_core.checkpoint.contents import SavedFile
from argus_core.checkpoint.restoring import load_saved, saved_optimizer
from argus_core.checkpoint.saving import PREFIXES
from argus_core.data.order import OrderedLoader, can_skip, changed_numbers, loader_length
from argus_core.errors import ArgusWarning, CheckpointError, StateMismatchError, UnsafeCheckpointError
from argus_core.files.output_files import checked_path
from argus_core.steps.parameters import loss_parameters
from argus_core.storage import CheckpointFile, read_header
from argus_core.training.changes import OptimizerDrift, ScheduleDrift, param_differences, version_differences
from argus_core.training.engine import Engine
from argus_core.training.position import is_progress, restore

__all__ = ["Resumption", "find_checkpoint"]

_UNREADABLE = (CheckpointError, KeyError, TypeError, ValueError)
_HOLDS = "which holds from here on"


def find_checkpoint(path: str | Path, own: Path | None = None) -> Path:
    """Return the checkpoint to go on from: the file itself, or the newest of its run in a folder.

    Args:
        path: the file or folder.
        own: a file in the folder; its run is resumed if it can be, and otherwise the one that saved last.

    Raises:
        ParamsError: it is no path.
        CheckpointError: there is none.
    """
    path = checked_path("fit", "resume", path)
    if not path.is_dir():
        return path
    files = sorted([*path.glob("*.safetensors"), *path.glob("checkpoints/*.safetensors")])
    found = {file: place for file in files if (place := _place_of(file)) is not None}
    if not found:
        raise CheckpointError(
            f"{path} holds no checkpoint that a run could go on from ({len(files)} checkpoints in all); "
            "write them by the callback checkpoint with optimizer_state=True"
        )
    written = {file: file.stat().st_mtime_ns for file in found}
    runs = {place.run for place in found.values()}
    first = own if own is not None and own in found else max(found, key=written.__getitem__)
    if len(runs) > 1:
        which = f"{first.name} is of" if first == own else "saved last"
        warnings.warn(
            f"{path} holds checkpoints of {len(runs)} runs; the run that {which} is resumed; give a file "
            "instead of the folder to choose another",
            ArgusWarning,
            stacklevel=3,
        )
    own_files = [file for file, place in found.items() if place.run == found[first].run]
    return max(own_files, key=lambda file: (*found[file].order, written[file]))


@dataclass(frozen=True)
class _Place:
    """Where a checkpoint stands in its run.

    Attributes:
        run: its identifier, where the file has one.
        times_resumed: the run, before the file was written. What a run that was resumed from an earlier
            checkpoint has saved is newer than what lies further on and was saved before.
        updates: behind it.
    """

    run: str | None
    times_resumed: int
    updates: int

    @property
    def order(self) -> tuple[int, int]:
        """What is greater the newer the checkpoint is."""
        return self.times_resumed, self.updates


class Resumption:
    """What a checkpoint knows of its run.

    Args:
        path: a checkpoint or a folder with some.

    Raises:
        CheckpointError: it cannot be read, or nothing can go on from it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = find_checkpoint(path)
        with CheckpointFile(self.path) as file:
            saved = SavedFile(file, verify=True)
            progress, self._run_id = saved.progress(), saved.run_id()
        self._times_resumed = 1 + _times_resumed(self.path, self._run_id)
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

    @property
    def seed(self) -> int:
        """The seed of the order of the run's batches."""
        seed: int = self.progress["loader"]["seed"]
        return seed

    def apply(self, model: AbstractModel, engine: Engine, loader: Iterable[Any]) -> None:
        """Put the state of the model and its run where they were.

        Warns of everything that is another than it was, and what that means.

        Raises:
            StateMismatchError: the state does not fit what was built.
            UnsafeCheckpointError: argus_core does not write such a state.
        """
        with CheckpointFile(self.path) as file:
            saved = SavedFile(file, verify=True)
            self._check_window(engine, loader)
            schedules = ScheduleDrift(engine, self.progress["callback"])
            options = OptimizerDrift(saved.params(), model) if model.optimizer is not None else None
            meaning = options.meaning(schedules.going_on) if options else _HOLDS
            changes = [*self._changes(saved, model, loader, meaning), *schedules]
            if changes:
                warnings.warn(
                    f"the run that goes on from {self.path} has changed: {'; '.join(changes)}",
                    ArgusWarning,
                    stacklevel=4,
                )
            _load_state(model, saved)
        ratios = options.apply(model.optimizer, schedules.going_on) if options else []
        for schedule in schedules.new:
            schedule.begin_anew(alone=not schedules.going_on)
        if self._run_id is not None:
            engine.run_id = self._run_id
        engine.times_resumed = self._times_resumed
        try:
            engine.audience.missed = restore(engine, engine.metrics, self.progress)
        except UnsafeCheckpointError as error:
            raise UnsafeCheckpointError(f"{self.path}: {error}") from error
        for schedule in schedules.going_on:
            schedule.scale(ratios)
        engine.resume_at(self.progress["rng"])
        model.logger.info("goes on from %s, after %d updates", self.path, engine.state.global_step)

    def _check_window(self, engine: Engine, loader: Iterable[Any]) -> None:
        counters, before = self.progress["counters"], self.progress["loader"]
        if counters["epoch_done"] or not counters["updates_in_epoch"]:
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
            is_ended = counters["epoch_done"] or not counters["updates_in_epoch"]
            return bool(is_ended) and self._run_id is not None and run_in(manifest) == self._run_id
        except (CheckpointError, KeyError, TypeError):
            return False

    def _has_known_order(self, loader: Iterable[Any]) -> bool:
        """Return whether the epoch's batches come in the order that they came in, as far as that is known."""
        before = self.progress["loader"].get("order")
        if before is None or not isinstance(loader, OrderedLoader):
            return True
        return loader.has_order(self.progress["counters"]["epoch"], before)

    def _changes(
        self, saved: SavedFile, model: AbstractModel, loader: Iterable[Any], optimizer_meaning: str
    ) -> Iterator[str]:
        """Yield what has changed since the checkpoint was written, and what it means."""
        before, counters = self.progress["loader"], self.progress["counters"]
        is_midway = counters["updates_in_epoch"] and not counters["epoch_done"]
        is_known = self._has_known_order(loader)
        length = loader_length(loader)
        if before["batches"] != length:
            yield (
                f"an epoch had {before['batches']} batches and has {length}, so samples come in another order"
            )
        elif not is_known and not is_midway:
            yield (
                f"the train loader gives another order of batches{_blame(loader)}, so samples come in "
                "another order from here on"
            )
        if is_midway and not (can_skip(loader) and is_known):
            counters["updates_in_epoch"], counters["epoch_begun"] = 0, False
            self.progress["missed"] = {}
            why = "cannot go on in the middle of an epoch" if is_known else "gives another order of batches"
            yield (
                f"the train loader ({type(loader).__name__}) {why}{'' if is_known else _blame(loader)}, so "
                f"epoch {counters['epoch'] + 1} starts over with the weights of its middle"
            )
        yield from changed_numbers(loader, before.get("order"))
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


def _place_of(file: Path) -> _Place | None:
    """Return where a checkpoint stands in its run; ``None`` if no run can resume from it."""
    try:
        return _read_place(file)
    except _UNREADABLE as error:
        warnings.warn(f"{file} is left aside: {error}", ArgusWarning, stacklevel=4)
        return None


def _read_place(file: Path) -> _Place | None:
    manifest = read_header(file).manifest
    progress = manifest.get("progress")
    if not progress:
        return None
    return _Place(run_in(manifest), times_resumed(manifest), int(progress["counters"]["global_step"]))


def _times_resumed(path: Path, run: str | None) -> int:
    """Return how often a run has been resumed, as its checkpoints in the folder of ``path`` say."""
    counts = [0]
    for file in path.parent.glob("*.safetensors"):
        with suppress(*_UNREADABLE):  # what is of no use to the run says nothing about it
            place = _read_place(file)
            counts += [place.times_resumed] if place is not None and place.run == run else []
    return max(counts)


def _load_state(model: AbstractModel, saved: SavedFile) -> None:
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

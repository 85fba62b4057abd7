"""A dry run: an update, a batch of each validation set, and a checkpoint that is saved and loaded.

Everything that a run would do after hours is done at once, and all files go into a folder that is removed.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from argus_core.callbacks import Callback, Checkpoint
from argus_core.callbacks.state import Position, State
from argus_core.data.order import Shortened, epoch_batches, loader_length
from argus_core.errors import ArgusError, ArgusWarning
from argus_core.files.working_folder import absolute
from argus_core.hooks import hookimpl
from argus_core.registry.file_params import file_params_of
from argus_core.registry.registry import resolve
from argus_core.registry.spec import is_spec, parse_spec
from argus_core.training.engine import Engine
from argus_core.training.position import restore_callbacks
from argus_core.training.resumption import Resumption
from argus_core.training.validation import Validation

__all__ = ["DryRun", "FirstBatches", "written_paths"]

_MOST_UPDATES = 32  # that are skipped before one moves the weights: a scale of 2**16 halves 16 times


class DryRun:
    """The shortened run of a `fit`, and the folder that receives all its files.

    Args:
        folder: exists, and is removed afterwards.

    Attributes:
        batches: loader batches that the run has read, by phase.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.batches: dict[str, int] = {}
        self._midway = _Trial(folder / "midway", every="1up", optimizer_state=True)
        self._end = _Trial(folder / "end", optimizer_state=True)

    def place(self, path: str | os.PathLike[str]) -> Path:
        """Return the place in the folder for a file that a run would write to ``path``."""
        path = absolute(Path(path).expanduser())
        return path if path.is_relative_to(self.folder) else self.folder.joinpath("files", *path.parts[1:])

    def placed(self, callbacks: Any) -> Any:
        """Return callbacks whose specs write into the folder; instances are returned unchanged."""
        if isinstance(callbacks, Mapping):
            return {name: self.placed(each) for name, each in callbacks.items()}
        if callbacks is None:
            return None
        if not isinstance(callbacks, list | tuple) or is_spec(callbacks):
            callbacks = [callbacks]
        return [self._placed(each) if isinstance(each, str | tuple | list) else each for each in callbacks]

    def _placed(self, value: Any) -> Any:
        spec = parse_spec("callback", value, "callbacks")
        factory = resolve("callback", spec.name).load()
        given = {name: spec.params.get(name, _default(factory, name)) for name in written_paths(factory)}
        places = {name: str(self.place(path)) for name, path in given.items() if _is_path(path)}
        return (spec.name, {**spec.params, **places})

    def callbacks(self) -> list[Callback]:
        """Return the callbacks that save everything."""
        return [_SaveAll(), self._midway, self._end]

    def shorten(
        self, engine: Engine, loader: Iterable[Any], validations: Iterable[Validation]
    ) -> tuple[Iterable[Any], int]:
        """Shorten a run before it starts; return its loader and the number of epochs to run to."""
        for state in engine.state.phase_states.values():
            state.is_dry_run = True
        for validation in validations:
            for phase, own in validation.loaders.items():
                validation.loaders[phase] = FirstBatches(own, 1, self.batches, phase)
        epoch = engine.state.epoch + engine.position.done if engine.is_resumed else 0
        if engine.is_resumed:
            engine.position, engine.state.epoch = Position(), epoch
        return _UntilMoved(loader, self.batches, engine), epoch + 1

    def load(self, engine: Engine, loader: Iterable[Any]) -> None:
        """Load the checkpoints that the run has saved, as a run that resumes from them does.

        Raises:
            ArgusError: there is none in the middle of the epoch, since every update was skipped.
        """
        if not self._midway.saved:
            raise ArgusError(
                f"each of the first {engine.position.updates_done} updates was skipped, as its gradients "
                "were not finite; lower the learning rate, or look for nan and inf in the data"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ArgusWarning)  # of the loader, which was another
            Resumption(self._midway.dir_path).restore(engine.state.model, engine, loader)
        restore_callbacks(engine, Resumption(self._end.dir_path).progress)


class FirstBatches(Shortened):
    """The first batches of each epoch of a loader.

    Args:
        loader: left as it is.
        most: how many batches.
        counts: by phase, of the batches that were read.
        phase: counted there.
    """

    def __init__(self, loader: Iterable[Any], most: int, counts: dict[str, int], phase: str) -> None:
        super().__init__(loader)
        self.most = most
        self.counts = counts
        self.phase = phase

    def __len__(self) -> int:
        length = loader_length(self.loader)
        return self.most if length is None else min(length, self.most)

    def __iter__(self) -> Iterator[Any]:
        for batch in islice(epoch_batches(self.loader, 0), self.most):
            self.counts[self.phase] = self.counts.get(self.phase, 0) + 1
            yield batch


class _UntilMoved(Shortened):
    """The batches of a loader until an update has moved the weights: mixed precision skips some at first."""

    def __init__(self, loader: Iterable[Any], counts: dict[str, int], engine: Engine) -> None:
        super().__init__(loader)
        self.counts = counts
        self.engine = engine

    def __iter__(self) -> Iterator[Any]:
        state, window = self.engine.state, self.engine.window_size
        batches = epoch_batches(self.loader, state.epoch)
        before = state.global_step
        for _ in range(_MOST_UPDATES):
            for batch in islice(batches, window):
                self.counts["train"] = self.counts.get("train", 0) + 1
                yield batch
            if state.global_step > before:
                return


class _Trial(Checkpoint):
    """A checkpoint of the dry run's own, whose list of files no other checkpoint holds."""

    name = "dry_run"
    reads_predictions = False
    computes = ()

    def state_dict(self) -> dict[str, Any]:
        return {}


class _SaveAll(Callback):
    """Lets each checkpoint callback save that the cadence would let wait."""

    reads_predictions = False
    computes = ()
    runs_last = 2

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        for callback in state.engine.callbacks:
            if isinstance(callback, Checkpoint) and not isinstance(callback, _Trial) and not callback.saved:
                callback.save(state)


def written_paths(factory: Any) -> list[str]:
    """Return the parameters of a callback that name places to write to."""
    return [name for name, rule in file_params_of(factory).items() if rule.writes]


def _default(factory: Any, name: str) -> Any:
    parameter = inspect.signature(factory).parameters.get(name)
    return None if parameter is None else parameter.default


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and bool(str(value))

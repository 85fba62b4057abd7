"""The callbacks of a run that is kept in a run directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argus_core.build import build_component
from argus_core.callbacks.callback import Callback
from argus_core.components import BUILTIN
from argus_core.hooks import hookimpl
from argus_core.registry import resolve
from argus_core.run_directory import RunDirectory
from argus_core.spec import parse_spec
from argus_core.stored import COUNT, Rule, check_callback_state
from argus_core.working_folder import absolute

if TYPE_CHECKING:
    from argus_core.engine import State

__all__ = ["Witness", "run_callbacks", "with_paths"]

_EPOCH = Rule(lambda value: value is None or COUNT.holds(value), "an integer from 0 up, or None")


class Witness(Callback):
    """Begins a run when all else is built, and sees how far it gets and which epoch was the best.

    Args:
        directory: of the run.
        monitor: the metric that decides which epoch is the best.
        begin: called before anything is written.
        config: takes the place of the run's configuration once the run goes on.
    """

    name = "run"
    reads_predictions = False
    catches_up = True

    def __init__(
        self,
        directory: RunDirectory,
        monitor: str,
        begin: Callable[[], None] = lambda: None,
        config: str | None = None,
    ) -> None:
        self.directory = directory
        self.begin = begin
        self.config = config
        params = {"monitor": monitor, "file_format": directory.best.name, "max_saves": 1}
        spec = ("monitor_checkpoint", {"dir_path": str(directory.checkpoints), **params})
        self.best = build_component("callback", spec, "callbacks")
        self.began = False
        self.best_epoch: int | None = None

    @property
    def best_value(self) -> float | None:
        """The monitored metric's best value, exactly."""
        value: float | None = self.best.monitor.best
        return value

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        """Begin the run, unless there is nothing to monitor."""
        self.best.monitor.start(state)
        self.begin()

    def state_dict(self) -> dict[str, Any]:
        return {"best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_callback_state(self, state_dict, {"best_epoch": _EPOCH})
        self.best_epoch = state_dict["best_epoch"]

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
        self.began = True  # what fails from here on takes nothing away

    def catch_exception(self, state: State) -> None:
        self.began = state.global_step + state.updates_skipped > 0

    def resumed(self, state: State) -> None:
        if self.config is not None:
            self.directory.change_config(self.config)

    def checkpoint_saved(self, state: State) -> None:
        if state.checkpoint_path == self.directory.best:
            self.best_epoch = state.epoch
        if state.checkpoint_path == self.directory.last:
            self.directory.settle()


def run_callbacks(witness: Witness, every: str, own: Iterable[Any]) -> list[Any]:
    """Return the witness and the callbacks that report a run and save it, and among them the user's own.

    Args:
        witness: of the run.
        every: how often the last checkpoint is written.
        own: instances, names or specs.
    """
    directory, own = witness.directory, with_paths([*own], witness.directory.root)
    reports = [
        ("progress", {"table": True, "monitor": witness.best.monitor.metric}),
        ("logging_to_file", {"file_path": str(directory.log)}),
        ("metrics_jsonl", {"file_path": str(directory.metrics)}),
    ]
    last = {"every": every, "file_format": directory.last.name, "max_saves": 1, "optimizer_state": True}
    return [
        witness,
        *(report for report in reports if not any(_replaces(each, *report) for each in own)),
        *own,
        witness.best,
        ("checkpoint", {"dir_path": str(directory.checkpoints), **last}),
    ]


def with_paths(callbacks: Any, folder: Path) -> list[Any]:
    """Return callbacks; specs that leave a path out write into ``folder``, as their ``run_paths`` say."""
    if callbacks is None:
        return []
    if not isinstance(callbacks, list):
        callbacks = [callbacks]
    return [_with_path(each, folder) if isinstance(each, str | tuple | list) else each for each in callbacks]


def _with_path(value: Any, folder: Path) -> tuple[str, dict[str, Any]]:
    spec = parse_spec("callback", value, "callbacks")
    paths = getattr(resolve("callback", spec.name).load(), "run_paths", {})
    return spec.name, {**{name: str(folder / path) for name, path in paths.items()}, **spec.params}


def _replaces(value: Any, name: str, params: Mapping[str, Any]) -> bool:
    """Return whether one of the user's own callbacks does what a report of the run does, to the same file."""
    if not isinstance(value, tuple) or value[0] not in (name, f"{BUILTIN}/{name}"):
        return False
    path, own = params.get("file_path"), value[1].get("file_path")
    if not (isinstance(path, str) and isinstance(own, str)):
        return bool(path == own)
    return os.path.realpath(absolute(os.path.expanduser(own))) == os.path.realpath(path)

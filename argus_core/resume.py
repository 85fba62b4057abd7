"""Going on with a run from a checkpoint, as if nothing had happened."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from argus_core.callbacks.files import checked_path
from argus_core.checkpoint import PREFIXES
from argus_core.components import BUILTIN
from argus_core.distributions import version_of
from argus_core.errors import ArgusWarning, CheckpointError, StateMismatchError, UnsafeCheckpointError
from argus_core.order import can_skip
from argus_core.progress import is_progress, restore
from argus_core.saved import SavedFile
from argus_core.state import check_optimizer_state, load_extra_state, load_optimizer_state
from argus_core.storage import CheckpointFile, read_header

if TYPE_CHECKING:
    from argus_core.engine import Engine
    from argus_core.model import Model

__all__ = ["Resumption", "find_checkpoint"]


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint to go on from: the file itself, or the newest of its run in a folder.

    Raises:
        ParamsError: it is no path.
        CheckpointError: there is none.
    """
    path = checked_path("fit", "resume", path)
    if not path.is_dir():
        return path
    files = sorted([*path.glob("*.safetensors"), *path.glob("checkpoints/*.safetensors")])
    updates = {file: done for file in files if (done := _updates_of(file)) is not None}
    if not updates:
        raise CheckpointError(
            f"{path} holds no checkpoint that a run could go on from ({len(files)} checkpoints in all); "
            "write them by the callback checkpoint with optimizer_state=True"
        )
    return max(updates, key=lambda file: (updates[file], file.stat().st_mtime_ns))


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
            progress = SavedFile(file, verify=True).progress()
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

    def apply(self, model: Model, engine: Engine, loader: Iterable[Any]) -> None:
        """Put the state of the model and its run where they were.

        Warns of everything that is another than it was, and what that means.

        Raises:
            StateMismatchError: the state does not fit what was built.
        """
        with CheckpointFile(self.path) as file:
            saved = SavedFile(file, verify=True)
            self._check_window(engine, loader)
            changes = list(self._changes(saved, model, loader))
            if changes:
                warnings.warn(
                    f"the run that goes on from {self.path} has changed: {'; '.join(changes)}",
                    ArgusWarning,
                    stacklevel=4,
                )
            _load_model_state(model, saved)
        restore(engine, self.progress)
        engine.resume_at(self.progress["rng"])
        model.logger.info("goes on from %s, after %d updates", self.path, engine.state.global_step)

    def _check_window(self, engine: Engine, loader: Iterable[Any]) -> None:
        counters, before = self.progress["counters"], self.progress["loader"]
        if counters["epoch_done"] or not counters["updates_in_epoch"]:
            return
        if before["window"] != engine.window_size:
            raise StateMismatchError(
                f"{self.path} was saved in the middle of an epoch with {before['window']} loader batches to "
                f"one update, and there are {engine.window_size} now; go on with as many, or from the end of "
                "an epoch"
            )
        if before["batches"] is not None and _length(loader) not in (None, before["batches"]):
            raise StateMismatchError(
                f"{self.path} was saved in the middle of an epoch of {before['batches']} batches, and the "
                f"loader has {_length(loader)} now; go on with the same data, or from the end of an epoch"
            )

    def _changes(self, saved: SavedFile, model: Model, loader: Iterable[Any]) -> Iterator[str]:
        """Yield what has changed since the checkpoint was written, and what it means."""
        before = self.progress["loader"]["batches"]
        if before != _length(loader):
            yield f"an epoch had {before} batches and has {_length(loader)}, so samples come in another order"
        counters = self.progress["counters"]
        if not can_skip(loader) and counters["updates_in_epoch"] and not counters["epoch_done"]:
            counters["updates_in_epoch"] = 0
            yield (
                f"the train loader ({type(loader).__name__}) cannot go on in the middle of an epoch, so "
                f"epoch {counters['epoch']} begins anew with the weights of its middle"
            )
        if self.progress["device"] != model.device.type:
            yield (
                f"it trained on {self.progress['device']} and trains on {model.device.type}, so results "
                "differ in rounding and random numbers"
            )
        for name, was, now in _differences(saved.params(), model.params):
            yield f"{name} was {was!r} and is {now!r}, which holds from here on"
        for name, was, now in _version_changes(saved.versions):
            yield f"{name} was {was} and is {now}, so results may differ in rounding"


def _updates_of(file: Path) -> int | None:
    """Return how many updates a checkpoint has behind it; ``None`` if no run can go on from it."""
    try:
        progress = read_header(file).manifest.get("progress")
        return int(progress["counters"]["global_step"]) if progress else None
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        warnings.warn(f"{file} is left aside: {error}", ArgusWarning, stacklevel=4)
        return None


def _length(loader: Iterable[Any]) -> int | None:
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def _load_model_state(model: Model, saved: SavedFile) -> None:
    for slot in PREFIXES:
        module = model.get_nn_module() if slot == "nn_module" else getattr(model, slot)
        if isinstance(module, nn.Module):
            saved.load_module(slot, module, slot)
    _check_same_optimizer(model, saved)
    optimizer, network = model.optimizer, model.get_nn_module()
    state = None
    if optimizer is not None:
        state, names = saved.optimizer_state(
            lambda state, names: check_optimizer_state(optimizer, state, names, network)
        )
    if state is None:
        raise StateMismatchError("a run goes on only with its optimizer; save and build it with one")
    load_optimizer_state(optimizer, state, names, network)
    _keep_new_options(model, saved)
    load_extra_state(model, saved.extra_state())
    model.load_step_state(
        saved.step_state(part.component.name for part in model.step_parts if part.component)
    )


def _check_same_optimizer(model: Model, saved: SavedFile) -> None:
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


def _keep_new_options(model: Model, saved: SavedFile) -> None:
    """Let options of the optimizer that have changed win over the stored ones."""
    before, now = (_options(params.get("optimizer")) for params in (saved.params(), model.params))
    changed = {name: value for name, value in now.items() if before.get(name) != value}
    for group in model.optimizer.param_groups:
        group.update({name: value for name, value in changed.items() if name in group})


def _options(spec: Any) -> Mapping[str, Any]:
    if isinstance(spec, tuple | list) and len(spec) == 2:
        spec = spec[1]
    return spec if isinstance(spec, Mapping) else {}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*before, *now]):
        if name != "device" and repr(before.get(name)) != repr(now.get(name)):
            yield f"params[{name!r}]", before.get(name), now.get(name)


def _version_changes(before: Mapping[str, Any]) -> Iterator[tuple[str, Any, str | None]]:
    now = {"argus": version_of(BUILTIN), "torch": str(torch.__version__), "python": platform.python_version()}
    for name, version in now.items():
        if name in before and before[name] != version:
            yield name, before[name], version

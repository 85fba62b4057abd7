"""Writing the model to files while it is trained."""

from __future__ import annotations

import string
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from argus_core.callbacks.background import BackgroundWriter
from argus_core.callbacks.cadence import parse_cadence
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.files import checked_path, make_folder
from argus_core.callbacks.monitor import Monitor, monitored_value
from argus_core.callbacks.record import plain_metrics
from argus_core.errors import ArgusError, ParamsError, near
from argus_core.file_params import WRITES
from argus_core.hooks import hookimpl

if TYPE_CHECKING:
    from argus_core.engine import State

__all__ = ["Checkpoint", "MonitorCheckpoint"]


class Checkpoint(Callback):
    """Saves the model every so often, after the metrics and schedulers of that moment.

    Args:
        dir_path: the folder of the files.
        every: epochs, updates or minutes: ``"2ep"``, ``"500up"``, ``"10min"``.
        max_saves: how many files to keep; older ones that this callback wrote are deleted.
        optimizer_state: whether to keep the optimizer's state, for training on.
        save_after_exception: save also when an exception ends the run; such a file is never deleted.
        file_format: the files' names, with the fields ``epoch`` (counting from 0), ``step`` (updates) and
            the run's metrics. By default ``model-{epoch:03d}.safetensors``, or with ``step`` where ``every``
            is no number of epochs.
        background: write while training goes on, from a copy of the state; ``checkpoint_saved`` is raised,
            and old files are deleted, once the file is whole. An error shows at the next save or at the end.
    """

    name = "checkpoint"
    file_params: ClassVar = {"dir_path": WRITES, "file_format": WRITES}
    runs_last = True
    catches_up = True

    def __init__(
        self,
        dir_path: str | Path,
        every: str = "1ep",
        max_saves: int | None = None,
        optimizer_state: bool = False,
        save_after_exception: bool = False,
        file_format: str | None = None,
        background: bool = False,
    ) -> None:
        if max_saves is not None and (type(max_saves) is not int or max_saves < 1):
            raise ParamsError(f"{self.name} takes max_saves >= 1 or None, not {max_saves!r}")
        self.dir_path = checked_path(self.name, "dir_path", dir_path)
        self.every = parse_cadence(self.name, every)
        self.max_saves = max_saves
        self.optimizer_state = optimizer_state
        self.save_after_exception = save_after_exception
        self.background = background
        self.file_format = _checked_format(self.name, file_format or self._default_format())
        self._names: list[str] = []
        self._pending: str | None = None  # is being written
        self._writer = BackgroundWriter()
        self._last_step = 0
        self._saved_step = -1
        self._last_time = 0.0
        self._resumed = False

    @property
    def saved(self) -> list[Path]:
        """The files that the run has written and kept, oldest first."""
        return [self.dir_path / name for name in self._names]

    def start(self, state: State) -> None:
        """Make the folder; forget the files of an earlier run, except after `load_state_dict`."""
        make_folder(self.name, self.dir_path)
        if not self._resumed:
            self._names, self._last_step = [], 0
        self._resumed = False
        self._saved_step = -1
        self._last_time = time.monotonic()

    @hookimpl(trylast=True)
    def iteration_complete(self, state: State) -> None:
        """Save if the updates or minutes are due."""
        if self.every.unit != "ep" and self._is_due(state):
            self._last_step, self._last_time = state.global_step, time.monotonic()
            self.save(state)

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        """Save if the epochs are due."""
        if self.every.unit == "ep" and (state.epoch + 1) % self.every.count == 0:
            self.save(state)

    @hookimpl(trylast=True)
    def interrupted(self, state: State) -> None:
        """Save where the run can go on, if the optimizer's state is kept."""
        if self.optimizer_state and state.global_step != self._saved_step:
            self.save(state)

    @hookimpl(trylast=True)
    def complete(self, state: State) -> None:
        """Wait for the file that is being written; what went wrong with it shows here."""
        self._finish(state)

    @hookimpl(trylast=True)
    def catch_exception(self, state: State) -> None:
        """Save what there is, if wanted; a failure is logged, since the run's own exception matters more."""
        try:
            self._finish(state)
        except Exception:
            state.logger.exception("could not save the checkpoint that was being written")
        # What fails before the run has gone on changed nothing that the checkpoint before it has not.
        if not self.save_after_exception or state.global_step == 0 or not state.engine.has_begun:
            return
        path = self.dir_path / self.exception_name(state)
        try:
            self.save_model(state, path)
            self._writer.wait()
        except Exception:
            state.logger.exception("could not save %s after %s", path, type(state.exception).__name__)

    def exception_name(self, state: State) -> str:
        """Return the name of the file that is saved when ``state.exception`` ends the run."""
        reason = type(state.exception).__name__
        return f"model-{state.epoch:03d}-{state.global_step:06d}-{reason}.safetensors"

    def save(self, state: State) -> None:
        """Save the model now, delete files beyond ``max_saves``, and raise ``checkpoint_saved``.

        Weights that are not finite go into a file of their own, which takes no other's place.
        """
        self._finish(state)
        name = self._file_name(state)
        if not state.model.is_finite():
            self._save_not_finite(state, name)
            return
        self._pending = name  # before the file is written, whose own list of files it belongs to
        try:
            self.save_model(state, self.dir_path / name)
        except BaseException:
            self._pending = None
            raise
        if not self.background:
            self._finish(state)

    def _save_not_finite(self, state: State, name: str) -> None:
        path = self.dir_path / name
        path = path.with_name(f"{path.stem}-not-finite{path.suffix}")
        state.logger.warning(
            "the weights are not finite after %d updates; saved %s, and left the files before it alone",
            state.global_step,
            path,
        )
        state.model.save(path)

    def _finish(self, state: State) -> None:
        """Wait until the file that is being written is whole, and only then delete old ones."""
        name, self._pending = self._pending, None  # also if it fails: such a file takes no other's place
        self._writer.wait()
        if name is None:
            return
        state.checkpoint_path = self.dir_path / name
        self.log_saved(state)
        self._names = self._names_with(name)
        self._delete_old(state)
        state.engine.raise_event("checkpoint_saved")

    def log_saved(self, state: State) -> None:
        """Log that ``state.checkpoint_path`` is whole; override it where `save_model` logs that itself."""
        state.logger.info("saved %s", state.checkpoint_path)

    def state_dict(self) -> dict[str, Any]:
        """Return which files were written, oldest first, and at which update last."""
        return {"saved": self._names_with(self._pending), "last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; the next run goes on from it."""
        self._names = list(state_dict["saved"])
        self._last_step = state_dict["last_step"]
        self._resumed = True

    def _names_with(self, name: str | None) -> list[str]:
        """Return the files' names with that of the newest, which may have been an older one's."""
        return [other for other in self._names if other != name] + ([] if name is None else [name])

    def _default_format(self) -> str:
        step = "" if self.every.unit == "ep" else "-{step:06d}"
        return f"model-{{epoch:03d}}{step}.safetensors"

    def _is_due(self, state: State) -> bool:
        if self.every.unit == "min":
            return time.monotonic() - self._last_time >= 60 * self.every.count
        step = state.global_step  # stays where it is when an update is skipped
        return step % self.every.count == 0 and step != self._last_step

    def save_model(self, state: State, path: Path) -> None:
        """Write the model to ``path``; override it to save something else of the run there."""
        run = {
            "epoch": state.epoch,
            "global_step": state.global_step,
            "metrics": plain_metrics(state.metrics),
        }
        progress = state.engine.snapshot() if self.optimizer_state else None
        options = {"write": self._writer} if self.background else {}
        state.model.save(path, optimizer_state=self.optimizer_state, run=run, progress=progress, **options)
        self._saved_step = state.global_step

    def name_fields(self, state: State) -> dict[str, Any]:
        """Return what a file's name may tell."""
        return {**state.metrics, "epoch": state.epoch, "step": state.global_step}

    def _file_name(self, state: State) -> str:
        fields = self.name_fields(state)
        try:
            return self.file_format.format(**fields)
        except KeyError as error:
            field = str(error.args[0])
            raise ArgusError(
                f"{self.name} has file_format={self.file_format!r}, and there is no {field!r}"
                f"{near(field, fields)} (there are: {', '.join(fields)})"
            ) from None

    def _delete_old(self, state: State) -> None:
        while self.max_saves is not None and len(self._names) > self.max_saves:
            old = self.dir_path / self._names.pop(0)
            try:
                old.unlink(missing_ok=True)
            except OSError as error:  # not worth ending a run for
                state.logger.warning("could not delete %s: %s", old, error.strerror or error)


class MonitorCheckpoint(Checkpoint):
    """Saves the model whenever the monitored metric is better than ever before in the run.

    Args:
        dir_path: the folder of the files.
        monitor: a name among the run's metrics.
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric.
        every: after which epochs to look: ``"2ep"``.
        max_saves: how many files to keep, the best ones.
        optimizer_state: whether to keep the optimizer's state, for training on.
        save_after_exception: save also when an exception ends the run; such a file is never deleted.
        file_format: the files' names, with the fields ``epoch`` (counting from 0), ``step`` (updates),
            ``monitor`` (the value) and the run's metrics.
        background: as for ``checkpoint``.
    """

    name = "monitor_checkpoint"

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

    def start(self, state: State) -> None:
        """Check that the metric will be computed, and begin as `Checkpoint` does."""
        self.monitor.start(state)
        if not self._resumed:
            self.monitor.best = None
        super().start(state)

    def interrupted(self, state: State) -> None:
        """Leave the best ones alone."""

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        """Save if the epochs are due and the metric has improved."""
        monitored_value(self.name, self.monitor.metric, state)  # its absence shows in the first epoch
        if state.engine.stopped_midway:  # a run that goes on from here has not had this epoch yet
            return
        before = self.monitor.best
        if (state.epoch + 1) % self.every.count == 0 and self.monitor.improved(state):
            try:
                self.save(state)
            except BaseException:
                self.monitor.best = before  # a run that goes on from here saves again
                raise

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and which files were written, oldest first."""
        return {**super().state_dict(), "monitor": self.monitor.metric, "best": self.monitor.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; the next run goes on from it."""
        super().load_state_dict(state_dict)
        same = state_dict.get("monitor", self.monitor.metric) == self.monitor.metric
        self.monitor.best = state_dict["best"] if same else None  # another metric's best is no measure

    def name_fields(self, state: State) -> dict[str, Any]:
        value = monitored_value(self.name, self.monitor.metric, state)
        return {**super().name_fields(state), "monitor": value}


class _AnyField(dict[str, Any]):
    """Has a number for every field, as every field of a file's name is one."""

    def __missing__(self, key: str) -> float:
        return 0.0


def _checked_format(callback: str, file_format: object) -> str:
    """Return a format of file names that can be filled in.

    Raises:
        ParamsError: it cannot.
    """
    try:
        if not isinstance(file_format, str):
            raise TypeError("it is not a string")
        string.Formatter().vformat(file_format, (), _AnyField(epoch=0, step=0))
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise ParamsError(
            f"{callback} has file_format={file_format!r}, which cannot be filled in ({error}); "
            "give something like 'model-{epoch:03d}.safetensors'"
        ) from error
    return file_format

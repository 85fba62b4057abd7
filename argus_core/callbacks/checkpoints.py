"""Checkpoints of a model during training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from argus_core.callbacks.background import BackgroundWriter
from argus_core.callbacks.cadence import Due, parse_cadence
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.epoch_report import plain_metrics
from argus_core.callbacks.layout import Layout
from argus_core.callbacks.names import Pattern, formats_of, is_plain_name
from argus_core.callbacks.state import State
from argus_core.callbacks.written import WrittenFiles, check_no_link, sweep_unfinished
from argus_core.errors import ParamsError
from argus_core.files.output_files import check_writable, make_folder, place_to_write
from argus_core.files.working_folder import shown
from argus_core.hooks import hookimpl
from argus_core.registry.file_params import WRITES, FileParam
from argus_core.storage.forms import FOLDER, is_folder
from argus_core.storage.stored import COUNT, Rule, check_callback_state
from argus_core.tensors.single_process import is_first_process, met_processes

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves the model at a cadence, after metrics and schedulers have been updated.

    Args:
        dir_path: the folder of the files.
        every: epochs, updates, minutes or hours: ``"2ep"``, ``"500up"``, ``"10min"``, ``"3h"``.
        max_saves: how many files to keep; older ones that this callback wrote in this run, or in the one that
            it resumes in the same folder, are deleted.
        optimizer_state: whether to keep the optimizer's state, for training on.
        save_after_exception: save also when an exception ends the run; such a file is never deleted.
        file_format: the files' names, with the fields ``epoch`` (counting from 0), ``step`` (updates) and
            the run's metrics. By default ``model-{epoch:03d}.safetensors``, or with ``step`` where ``every``
            is not a number of epochs. Names that end in ``.sharded`` are folders of shards.
        background: write while training continues, from a copy of the state; ``checkpoint_saved`` is raised,
            and old files are deleted, once the file is whole. An error shows at the next save or at the end.
        sharded: write folders of shards, named ``.sharded`` in place of ``.safetensors``; ``"auto"``: if the
            processes of the run hold shards, as those of ``fsdp`` do.
    """

    name = "checkpoint"
    reads_predictions = False
    computes = ()
    exact_types = True
    # The names of file_format lie in dir_path: see `FileFormat`.
    file_params: ClassVar = {"dir_path": WRITES, "file_format": FileParam(WRITES.does, in_configuration=True)}
    run_paths: ClassVar = {"dir_path": "checkpoints"}
    runs_last = 2
    has_kept = False  # a file, in this run or the one that it resumes

    def __init__(
        self,
        dir_path: str | Path,
        every: str = "1ep",
        max_saves: int | None = None,
        optimizer_state: bool = False,
        save_after_exception: bool = False,
        file_format: str | None = None,
        background: bool = False,
        sharded: bool | str = False,
    ) -> None:
        if type(sharded) is not bool and sharded != "auto":
            raise ParamsError(f"sharded of {self.name} is {sharded!r}; give True, False or 'auto'")
        if max_saves is not None and (type(max_saves) is not int or max_saves < 1):
            raise ParamsError(
                f"max_saves of {self.name} is {max_saves!r}; give an integer of at least 1, or None for all"
            )
        self.dir_path = place_to_write(self.name, "dir_path", dir_path)
        self.every = parse_cadence(self.name, every)
        self.max_saves = max_saves
        self.optimizer_state = optimizer_state
        self.save_after_exception = save_after_exception
        self.background = background
        self.sharded = sharded
        self._formats = formats_of(self.name, file_format or self._default_format(), sharded)
        self._format = self._formats[0]
        self._files, self._not_finite = WrittenFiles(self.dir_path), WrittenFiles(self.dir_path)
        self._layout: Layout | None = None
        self._pending: str | None = None  # is being written
        self._writer = BackgroundWriter()
        self._cadence = Due(self.every)
        self._saved_step = -1
        self._due = 0  # saves of this run
        self._saved_finite = False
        self._resumed = False

    @property
    def file_format(self) -> str:
        """The format of the files' names."""
        return self._format.text

    def choose_form(self, has_shards: bool) -> None:
        """Choose files or folders, with ``sharded="auto"``, by whether the run's processes hold shards."""
        self._format = self._formats[has_shards]

    @property
    def saved(self) -> list[Path]:
        """The files that the run has written and kept, oldest first."""
        return [self.dir_path / name for name in self._files.names]

    def start(self, state: State) -> None:
        """Make the folder; clear the list of an earlier run's files, except after `load_state_dict`."""
        self.choose_form(state.model.parallel.is_sharded)
        if is_first_process():
            make_folder(self.name, self.dir_path)
            check_writable(self.name, self.dir_path)
        if self._resumed and self.max_saves is not None:
            self._files.adopt(self._files.names, state.engine.run_id)
        elif not self._resumed:
            self._files.clear()
            self._cadence.last_step, self.has_kept = 0, False
        self._not_finite.clear()
        self._resumed = False
        self._due, self._saved_step = 0, state.global_step if state.engine.is_resumed else -1
        self._layout = Layout(state.model)
        state.model.is_finite(optimizer_state=False)  # notes which buffers are not
        if is_first_process():
            sweep_unfinished(self.dir_path, self._format.folders, self._matches)
            self._files.look_for_others(self._format, state.engine.run_id, state.logger)
        self._cadence.start(self._cadence.last_step)

    @hookimpl(trylast=True)
    def iteration_complete(self, state: State) -> None:
        """Save if a cadence in updates or minutes is due."""
        is_within = self.every.unit != "ep" and state.exception is None
        if is_within and self._cadence.after_update(state.global_step):
            self.save(state)

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        """Save if a cadence in epochs is due."""
        if self._cadence.after_epoch(state.epoch):
            self.save(state)

    @hookimpl(trylast=True)
    def interrupted(self, state: State) -> None:
        """Save the position of the run, if the optimizer's state is kept and there has been an update."""
        has_moved = state.global_step + state.updates_skipped > 0
        if self.optimizer_state and has_moved and state.global_step != self._saved_step:
            self.save(state)

    @hookimpl(trylast=True)
    def complete(self, state: State) -> None:
        """Wait for the file that is being written, and raise its error if it failed."""
        self._finish(state)

    @hookimpl(trylast=True)
    def catch_exception(self, state: State) -> None:
        """Save the model, if wanted; a failure is logged, since the run's own exception matters more."""
        try:
            self._finish(state)
        except Exception:
            state.logger.exception("could not save the checkpoint that was being written")
        # A resumed run that fails before its first batch has changed nothing since its checkpoint.
        if not self.save_after_exception or state.global_step == 0 or state.engine.is_resumed:
            return
        if met_processes() > 1:  # the others do not take part
            return
        path = self.dir_path / self.exception_name(state)
        try:
            check_no_link(self.name, path)
            self.save_model(state, path)
            self._writer.wait()
        except Exception:
            state.logger.exception("could not save %s after %s", shown(path), type(state.exception).__name__)

    def exception_name(self, state: State) -> str:
        """Return the name of the file that is saved when ``state.exception`` ends the run."""
        reason = type(state.exception).__name__
        suffix = FOLDER if is_folder(self.file_format) else ".safetensors"
        return f"model-{state.epoch:03d}-{state.global_step:06d}-{reason}{suffix}"

    def save(self, state: State) -> None:
        """Save the model now, delete files beyond ``max_saves``, and raise ``checkpoint_saved``.

        Weights that are not finite go into a file of their own, which takes no other's place.
        """
        self._finish(state)
        self._due += 1
        name = self._format.name(self.name_fields(state))
        check_no_link(self.name, self.dir_path / name)
        if not state.model.is_finite(optimizer_state=self.optimizer_state):
            self._save_not_finite(state, name)
            return
        self._saved_finite = True
        if self._layout is not None:
            self._layout.tell_changes(state.model, self.name, self.optimizer_state)
        self._pending = name  # before the file is written, whose own list of files it belongs to
        try:
            self.save_model(state, self.dir_path / name)
        except BaseException:
            self._pending, self._saved_finite = None, False
            raise
        if not self.background:
            self._finish(state)

    def _save_not_finite(self, state: State, name: str) -> None:
        plain = PurePosixPath(name)
        name = str(plain.with_name(f"{plain.stem}-not-finite{plain.suffix}"))
        path = self.dir_path / name
        check_no_link(self.name, path)
        state.logger.warning(
            "the weights are not finite after %d updates; saved %s, and kept the files before it",
            state.global_step,
            shown(path),
        )
        state.model.save(path)
        self._saved_step = state.global_step
        self._not_finite.add(name)
        if self.max_saves is not None and is_first_process():
            self._not_finite.delete_old(self.max_saves, state.logger)

    def _finish(self, state: State) -> None:
        """Wait until the file that is being written is complete, and only then delete old ones."""
        name, self._pending = self._pending, None  # also if it fails: such a file takes no other's place
        self._writer.wait()
        if name is None:
            return
        state.checkpoint_path = self.dir_path / name
        self.log_saved(state)
        self.has_kept = True
        self._files.add(name)
        if self.max_saves is not None and is_first_process():
            self._files.delete_old(self.max_saves, state.logger)
        state.engine.raise_event("checkpoint_saved")

    def log_saved(self, state: State) -> None:
        """Log that ``state.checkpoint_path`` is complete; override it where `save_model` logs that itself."""
        if state.checkpoint_path is not None:
            state.logger.info("saved %s", shown(state.checkpoint_path))

    def state_dict(self) -> dict[str, Any]:
        """Return the written files, oldest first, and the update of the last save."""
        pending = [] if self._pending is None else [self._pending]  # whose own list of files it belongs to
        saved = [name for name in self._files.names if name not in pending]
        return {"saved": saved + pending, "last_step": self._cadence.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, for the next run.

        Raises:
            UnsafeCheckpointError: argus_core does not write such a state; names of files that lie elsewhere
                than in ``dir_path``, for example.
        """
        check_callback_state(self, state_dict, self.state_rules())
        # Another callback may have had this one's name before, and `start` looks which files are the run's.
        self._files.names = [name for name in state_dict["saved"] if self._matches(name)]
        self.has_kept = bool(self._files.names)
        self._cadence.last_step = state_dict["last_step"]
        self._resumed = True

    def state_rules(self) -> Mapping[str, Rule]:
        """Return the rule for each value of a stored state, by key."""
        expected = "a list of plain file names" + " in its sub-folders" * (self._format.folders > 0)
        return {"saved": Rule(self._are_names, expected), "last_step": COUNT}

    def path_pattern(self) -> Pattern:
        """Return the pattern of its files' paths, for `names.may_coincide`."""
        return self._format.pattern(self.dir_path)

    def missing_files(self) -> str | None:
        """Return the reason why the run kept no file though some were due; otherwise ``None``."""
        return self._why_none() if self._due and not self.has_kept else None

    def _why_none(self) -> str:
        saves = "its only save" if self._due == 1 else f"each of its {self._due} saves"
        return f"{self.name} kept no file in {shown(self.dir_path)}: the weights were not finite at {saves}"

    def _matches(self, name: str) -> bool:
        return any(each.matches(name) for each in self._formats)  # the run may have had shards before

    def _are_names(self, value: Any) -> bool:
        return isinstance(value, list) and all(is_plain_name(name, self._format.folders) for name in value)

    def _default_format(self) -> str:
        step = "" if self.every.unit == "ep" else "-{step:06d}"
        return f"model-{{epoch:03d}}{step}.safetensors"

    def save_model(self, state: State, path: Path) -> None:
        """Write the model to ``path``; override it to save something else of the run there."""
        run = {
            "id": state.engine.run_id,
            "times_resumed": state.engine.times_resumed,
            "epoch": state.epoch,
            "global_step": state.global_step,
            "metrics": plain_metrics(state.metrics),
        }
        progress = state.engine.snapshot() if self.optimizer_state else None
        options = {"write": self._writer} if self.background else {}
        state.model.save(path, optimizer_state=self.optimizer_state, run=run, progress=progress, **options)
        self._saved_step = state.global_step

    def name_fields(self, state: State) -> dict[str, Any]:
        """Return the fields that a file's name may contain."""
        return {**state.metrics, "epoch": state.epoch, "step": state.global_step}

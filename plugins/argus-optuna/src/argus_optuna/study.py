"""A study in its own folder; several processes may work on it.

::

    study.db           optuna's study, in SQLite
    best.safetensors   a copy of the best trial's best checkpoint
    trial-0000/        the run directory of each trial
    locks/             the locks of the trials that processes work on

A running trial belongs to the process that holds its lock. If no process holds it, the trial was interrupted,
and the next process resumes it.
"""

from __future__ import annotations

import math
import reprlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from argus_core import ArgusError, ConfigError
from argus_core.authors import RunDirectory, confined, place_to_write, replacement
from argus_optuna.algorithms import GRID, build_pruner, build_sampler
from argus_optuna.database import UNREADABLE, connect, disconnect, sentences
from argus_optuna.folder import check_folder
from argus_optuna.lock import Lock
from argus_optuna.record import check_record
from argus_optuna.result import SweepResult, TrialRecord
from argus_optuna.settings import Settings

__all__ = ["Claim", "Study"]

_ERROR = "argus_error"
_INTERRUPTED = "argus_interrupted"
_CHOSEN = "argus_chosen"
_KILLS = "argus_kills"
_MOST_KILLS = 3
_PATIENCE = 60.0  # seconds to wait for another process to choose its next trial

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on.

    Attributes:
        trial: the trial of optuna.
        params: the chosen value of each key.
        begun: whether an earlier process has started its run.
    """

    trial: optuna.Trial
    params: Mapping[str, Any]
    begun: bool
    lock: Lock


class Study:
    """The study in a folder, which is created if it does not exist.

    Args:
        settings: the settings of the search.
        better: ``"max"`` or ``"min"``.
        config: the configuration without what the space changes, as text by key, for comparison.

    Raises:
        ConfigError: the folder contains the study of another configuration, a file that is not a study, or
            a link.
    """

    def __init__(self, settings: Settings, better: str, config: Mapping[str, str]) -> None:
        self.settings = settings
        self.better = better
        self.path = settings.study_dir
        # Absolute, since a network may change the working folder.
        self._root = place_to_write("argus sweep", "study_dir", self.path)
        record = {"monitor": settings.monitor, "space": settings.space.described(), "config": dict(config)}
        build_sampler(settings.sampler, settings.seed, 0)  # fails before the folder is created
        pruner = build_pruner(settings.pruner)
        try:
            (self.path / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"study_dir {str(self.path)!r} cannot be created: {error.strerror}; give another --study-dir"
            ) from error
        check_folder(self.path)
        with self._alone(), sentences(self.path):
            self._study = connect(self.path, f"{better}imize", pruner)
            check_record(self._study, self.path, f"{better}imize", record)

    def close(self) -> None:
        """Close the database."""
        disconnect(self._study)

    def claim(self, trials: int) -> Claim | None:
        """Return the next trial to work on, or None if the study has enough.

        An interrupted trial comes before a new one.

        Args:
            trials: the total number of trials.

        Raises:
            ConfigError: a link in the folder leads out of it.
        """
        with self._alone(), sentences(self.path):
            check_folder(self._root)
            known = self._trials()
            for frozen in known:
                if frozen.state is TrialState.RUNNING:
                    claim = self._take_over(frozen)
                    if claim is not None:
                        return claim
            number = sum(frozen.state is not TrialState.WAITING for frozen in known)
            return self._new(known) if number < trials else None

    def finish(
        self, claim: Claim, state: TrialState, value: float | None = None, error: str = ""
    ) -> TrialRecord:
        """Copy the checkpoint of a trial if it is the best, and record its result.

        Raises:
            CheckpointError: the copy cannot be written; the trial has no result then.
        """
        with self._alone(), sentences(self.path):
            if state is TrialState.COMPLETE and self._is_best(value, claim.trial.number):
                self._copy_best(claim.trial.number)
            if error:
                claim.trial.set_user_attr(_ERROR, error)
            self._study.tell(claim.trial, value, state)
            self._release(claim)
            return self._record(self._trials()[claim.trial.number])

    def _is_best(self, value: float | None, number: int) -> bool:
        best = self.result().best
        if best is None or best.value is None or value is None:
            return value is not None
        if value == best.value:
            return number < best.number
        return (value > best.value) == (self.better == "max")

    def _copy_best(self, number: int) -> None:
        source = RunDirectory(self._root / self.directory(number).relative_to(self.path)).best
        if source.exists():
            with confined(self._root):
                _copy(source, self._root / "best.safetensors")

    def interrupt(self, claim: Claim) -> None:
        """Release a trial, so that the next process resumes it."""
        with self._alone(), sentences(self.path):
            claim.trial.set_user_attr(_INTERRUPTED, True)
            self._release(claim)

    def result(self) -> SweepResult:
        """Return the state of the study."""
        with sentences(self.path):
            known = self._trials()
            records = tuple(self._record(frozen) for frozen in known if frozen.state in _STATES)
        return SweepResult(self.path, self.settings.monitor, self.better, records)

    def directory(self, number: int) -> Path:
        """Return the run directory of a trial."""
        return self.path / f"trial-{number:04d}"

    def _take_over(self, frozen: FrozenTrial) -> Claim | None:
        lock = self._lock(frozen.number)
        if not lock.acquire():
            return None  # its process lives
        trial = optuna.Trial(self._study, frozen._trial_id)
        kills = frozen.user_attrs.get(_KILLS, 0)
        if frozen.user_attrs.get(_INTERRUPTED):
            trial.set_user_attr(_INTERRUPTED, False)
        else:
            kills += 1
            trial.set_user_attr(_KILLS, kills)
        claim = Claim(trial, frozen.params, True, lock)
        if kills < _MOST_KILLS and self._is_whole(frozen):
            return claim
        reason = f"its process was killed {kills} times" if kills > 1 else "its process was killed"
        trial.set_user_attr(_ERROR, reason)
        self._study.tell(trial, state=TrialState.FAIL)
        self._release(claim)
        return None

    def _is_whole(self, frozen: FrozenTrial) -> bool:
        """Return whether all its values were chosen before its process ended."""
        return bool(frozen.user_attrs.get(_CHOSEN, False))

    def _new(self, known: list[FrozenTrial]) -> Claim | None:
        settings = self.settings
        if settings.sampler.name == GRID:
            tried = [frozen.params for frozen in known]
            point = next((params for params in settings.space.grid() if params not in tried), None)
            if point is None:
                return None
            self._study.enqueue_trial(point)
        self._study.sampler = build_sampler(settings.sampler, settings.seed, len(known))
        with self._sampling():
            trial = self._study.ask()
        lock = self._lock(trial.number)
        lock.acquire()  # always succeeds: the trial is new, and this process holds the study's lock
        try:
            with self._sampling():
                params = settings.space.suggest(trial)
        except ArgusError:
            self._study.tell(trial, state=TrialState.FAIL)
            lock.release()
            raise
        trial.set_user_attr(_CHOSEN, True)
        return Claim(trial, params, False, lock)

    @contextmanager
    def _sampling(self) -> Iterator[None]:
        """Raise exceptions of optuna's sampler as one sentence; it checks few of its parameters."""
        try:
            yield
        except (*UNREADABLE, ImportError, MemoryError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ArgusError(
                f"sampler {self.settings.sampler.name!r} cannot choose a trial: {reason}; "
                "check its parameters, or choose another"
            ) from error

    def _trials(self) -> list[FrozenTrial]:
        """Return optuna's trials.

        Raises:
            ValueError: the database has values that a sweep does not store.
        """
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        for number, frozen in enumerate(trials):
            values = [*(frozen.values or ()), *frozen.intermediate_values.values()]
            wrong = next((each for each in values if not _is_finite(each)), None)
            if wrong is not None:
                raise ValueError(
                    f"trial {number} has the value {reprlib.repr(wrong)}, which is not a finite number"
                )
            if frozen.number != number or len(frozen.values or ()) > 1:
                raise ValueError(f"trial {number} is not one of a sweep")
            kills, error = frozen.user_attrs.get(_KILLS, 0), frozen.user_attrs.get(_ERROR, "")
            if type(kills) is not int or not isinstance(error, str):
                raise ValueError(f"trial {number} has attributes that a sweep does not store")
        return trials

    def _record(self, frozen: FrozenTrial) -> TrialRecord:
        directory = RunDirectory(self.directory(frozen.number))
        complete = frozen.state is TrialState.COMPLETE
        return TrialRecord(
            number=frozen.number,
            state=_STATES[frozen.state],
            value=frozen.value if complete else None,
            params=dict(frozen.params),
            epochs=len(frozen.intermediate_values),
            directory=directory.path,
            checkpoint=directory.shown(directory.best) if directory.best.exists() else None,
            error=frozen.user_attrs.get(_ERROR),
        )

    def _lock(self, number: int) -> Lock:
        return Lock(self._root / "locks" / f"trial-{number:04d}")

    def _release(self, claim: Claim) -> None:
        claim.lock.release()
        claim.lock.path.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other process choose or finish a trial at the same time."""
        lock = Lock(self._root / "locks" / "study")
        if not lock.acquire(_PATIENCE):
            raise ArgusError(
                f"another process has been choosing a trial of {self.path} for {_PATIENCE:.0f} s; "
                "end it if it hangs, and run the sweep again"
            )
        try:
            yield
        finally:
            lock.release()


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as file, replacement(target) as copy:
        shutil.copyfileobj(file, copy)

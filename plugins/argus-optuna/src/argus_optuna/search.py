"""The search: runs trials until the study has enough."""

from __future__ import annotations

import errno
import itertools
import json
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from optuna.trial import TrialState

from argus_core import (
    ArgusError,
    ArgusWarning,
    Callback,
    CheckpointError,
    ConfigError,
    CorruptCheckpointError,
    State,
)
from argus_core.authors import (
    Config,
    Result,
    RunDirectory,
    build_metrics,
    check_interruption,
    near,
    parse_specs,
    resume,
    run_series,
    train,
)
from argus_optuna.pruning import Pruning
from argus_optuna.result import SweepResult, TrialRecord
from argus_optuna.settings import read_settings
from argus_optuna.study import Claim, Study
from argus_optuna.variants import Variants

__all__ = ["sweep"]

_MOST_FAILURES = 3
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)

Report = Callable[[TrialRecord], None]


def sweep(
    config: str | Path,
    changes: Sequence[str] = (),
    *,
    trials: int | None = None,
    timeout: float | None = None,
    study_dir: str | Path | None = None,
    on_trial: Report | None = None,
) -> SweepResult:
    """Search the space in ``[sweep.space]`` of a configuration; return the state of the study.

    An existing study is resumed. Several processes may work on one study. Ctrl-C and SIGTERM stop the current
    trial after its update; it saves a checkpoint, and the next sweep resumes it.

    Args:
        config: a TOML file with a section ``[sweep]``.
        changes: ``key=value`` changes of the configuration of every trial.
        trials: the total number of trials, instead of ``[sweep] trials``.
        timeout: the seconds after which no trial starts, instead of ``[sweep] timeout``.
        study_dir: the folder of the study, instead of ``[sweep] study_dir``.
        on_trial: called with each trial that this process finishes.

    Raises:
        ConfigError: the configuration is wrong, or the existing study has another configuration.
        ArgusError: the first three trials, or all trials, have failed; or an interrupted trial cannot be
            resumed.
    """
    with run_series("argus sweep"):
        given = {
            "trials": trials,
            "timeout": timeout,
            "study_dir": None if study_dir is None else str(study_dir),
        }
        options = [f"sweep.{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
        variants = Variants(Path(config), [*changes, *options])
        base = variants.config()
        settings = read_settings(base, str(config))
        variants.check(settings.space)
        study = Study(settings, _better(base), variants.identity(settings.space))
        try:
            return _search(study, variants, on_trial)
        finally:
            study.close()


def _search(study: Study, variants: Variants, on_trial: Report | None) -> SweepResult:
    """Run trials until the study has enough, or its time is over; return its state."""
    settings = study.settings
    end = None if settings.timeout is None else time.monotonic() + settings.timeout
    while end is None or time.monotonic() < end:
        check_interruption()
        claim = study.claim(settings.trials)
        if claim is None:
            break
        record = _Run(study, variants, claim).record()
        if on_trial is not None:
            on_trial(record)
        _check_failures(study.result(), _MOST_FAILURES)
    result = study.result()
    _check_failures(result, len(result.trials))
    return result


class _Blocked(ArgusError):
    """A trial's run cannot continue, for a reason outside its checkpoint and its values."""


class _Run:
    """The run of one trial."""

    def __init__(self, study: Study, variants: Variants, claim: Claim) -> None:
        self.study = study
        self.claim = claim
        self.directory = RunDirectory(study.directory(claim.trial.number))
        changes = study.settings.space.changes(claim.params)
        self.changes = [*changes, f"fit.run_dir={json.dumps(str(self.directory.path), ensure_ascii=False)}"]
        self.variants = variants

    def record(self) -> TrialRecord:
        """Run the trial and record its result; a later process resumes it if this process is stopped."""
        try:
            state, value, error = self._outcome()
        except _Blocked:
            self._release()
            raise
        except Exception as failure:
            if _is_of_disk(failure):  # all later trials would fail as well
                self._release()
                raise self._stopped(failure) from failure
            state, value, error = TrialState.FAIL, None, _described(failure)
        except BaseException:
            self.study.interrupt(self.claim)
            raise
        try:
            return self.study.finish(self.claim, state, value, error)
        except CheckpointError as failure:  # the copy of the best checkpoint
            self._release()
            raise self._stopped(failure) from failure

    def _release(self) -> None:
        with suppress(ArgusError):  # the study may be on the same disk; what stopped the trial matters more
            self.study.interrupt(self.claim)

    def _stopped(self, error: Exception) -> _Blocked:
        reason = error if isinstance(error, ArgusError) else _described(error)
        return _Blocked(
            f"trial {self.claim.trial.number} is interrupted: {reason}; then run the sweep again, which "
            "resumes it"
        )

    def _outcome(self) -> tuple[TrialState, float | None, str]:
        config = self.variants.config(self.changes)
        pruning = Pruning(self.claim.trial, config.fit["monitor"])
        best = None
        try:
            best = self._run(config, pruning).best_value
        except CheckpointError:  # a stopped run may have no checkpoint
            if pruning.not_finite is None and not pruning.pruned:
                raise
        if pruning.not_finite is not None:
            return TrialState.FAIL, None, pruning.not_finite
        if pruning.pruned:
            return TrialState.PRUNED, None, ""
        if best is None:
            return TrialState.FAIL, None, f"{config.fit['monitor']} was never finite"
        return TrialState.COMPLETE, best, ""

    def _run(self, config: Config, pruning: Pruning) -> Result:
        named = {spec.name for spec in parse_specs("callback", config.fit.get("callbacks", []), "callbacks")}
        progress = [] if named & {"progress", "argus-torch/progress"} else [("progress", {"table": False})]
        if self.claim.begun and self._has_checkpoint():
            witness = _Witness()
            where = f"model.device={json.dumps(config.model['device'])}"  # the device of this sweep
            try:
                return resume(self.directory.last, [where], callbacks=[*progress, pruning, witness])
            except Exception as error:
                if witness.has_resumed:
                    raise
                if not isinstance(error, CorruptCheckpointError):
                    raise self._blocked(error) from error
                self._set_aside(error)
        return train(config, overwrite=True, callbacks=[*progress, pruning])

    def _has_checkpoint(self) -> bool:
        try:
            return self.directory.last.exists()
        except OSError as error:
            raise self._blocked(error) from error

    def _set_aside(self, error: CorruptCheckpointError) -> None:
        """Rename the folder of a run that cannot be resumed, so that the trial can start over."""
        path = self.directory.path
        names = (path.with_name(f"{path.name}-set-aside-{number}") for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        try:
            path.rename(aside)
        except OSError as failure:
            raise self._blocked(failure) from failure
        warnings.warn(
            f"trial {self.claim.trial.number} starts over, since its run cannot be resumed ({error}); "
            f"the old run is kept in {aside}",
            ArgusWarning,
            stacklevel=2,
        )

    def _blocked(self, error: Exception) -> _Blocked:
        number, path = self.claim.trial.number, self.directory.path
        reason = error if isinstance(error, ArgusError) else _described(error)
        return _Blocked(
            f"trial {number} cannot be resumed: {reason}; correct that and run the sweep again, "
            f"or move {path} away, and trial {number} starts over"
        )


class _Witness(Callback):
    """A callback that notes whether a run has resumed: an earlier exception is not a failure of the trial."""

    reads_predictions = False
    computes = ()

    def __init__(self) -> None:
        self.has_resumed = False

    def resumed(self, state: State) -> None:
        self.has_resumed = True


def _is_of_disk(error: BaseException | None) -> bool:
    """Return whether an error is, or is caused by, one of a disk, which no values of a trial cause."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_DISKS:
            return True
        error = error.__cause__
    return False


def _described(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _check_failures(result: SweepResult, most: int) -> None:
    """Raise an error if ``most`` trials have failed, and no trial has another result."""
    failed = [trial for trial in result.trials if trial.state == "failed"]
    others = [trial for trial in result.trials if trial.state in ("complete", "pruned")]
    if failed and len(failed) >= most and not others:
        last = failed[-1]
        raise ArgusError(
            f"all {len(failed)} trials of {result.study_dir} have failed, "
            f"trial {last.number} with {last.error}; "
            "correct that and run the sweep again"
        )


def _better(config: Config) -> str:
    """Return whether a higher or a lower value of the monitored metric is better.

    Raises:
        ConfigError: no metric of the run has that name, or it does not declare which is better.
    """
    monitor = config.fit["monitor"]
    val = config.data.get("val")
    validations = [f"val_{name}" for name in val] if isinstance(val, dict) else ["val"] if val else []
    phases = [*validations, "train"]
    metrics = build_metrics(config.fit.get("metrics"))
    known = {f"{phase}_{metric.name}": metric for phase in phases for metric in metrics}
    # A metric with several values adds their names to its own.
    computed = [
        metric
        for name, metric in known.items()
        if monitor == name or (getattr(metric, "several", False) and monitor.startswith(f"{name}_"))
    ]
    better = next((metric.better for metric in computed), "min" if monitor.endswith("loss") else None)
    if better is None:
        hint = near(monitor, known) or f"; the metrics are {', '.join(known)}"
        reason = (
            "whose metric does not declare whether higher or lower is better"
            if computed
            else "which no metric computes"
        )
        raise ConfigError(
            f"trials are compared by [fit] monitor = {monitor!r}, {reason}{'' if computed else hint}"
        )
    return str(better)

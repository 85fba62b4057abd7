"""The search: trials, one after the other, until the study has enough."""

from __future__ import annotations

import itertools
import json
import time
import warnings
from collections.abc import Callable, Sequence
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
    """Search the space that ``[sweep.space]`` of a configuration describes; return the study as it stands.

    A study that is there already goes on. Several processes may work on one. Ctrl-C and SIGTERM end the
    present trial after its update, saved; the next sweep goes on with it.

    Args:
        config: a TOML file with a section ``[sweep]``.
        changes: ``key=value``, made to the configuration of every trial.
        trials: how many trials the study has in the end, in place of ``[sweep] trials``.
        timeout: seconds after which no trial begins, in place of ``[sweep] timeout``.
        study_dir: the folder of the study, in place of ``[sweep] study_dir``.
        on_trial: called with each trial that this process has finished.

    Raises:
        ConfigError: the configuration is wrong, or the study that is there is of another one.
        ArgusError: the first three trials have failed, or all that there are; or something that has changed
            keeps an interrupted trial from going on.
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
    """Run trials until the study has enough, or its time is over; return the study as it stands."""
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
    """A trial's run cannot go on from its checkpoint, which is not to blame."""


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
        """Run it, and record what came of it; what ends the whole process leaves it to the next one."""
        try:
            state, value, error = self._outcome()
        except _Blocked:
            self.study.interrupt(self.claim)
            raise
        except Exception as failure:
            state, value, error = TrialState.FAIL, None, _described(failure)
        except BaseException:
            self.study.interrupt(self.claim)
            raise
        return self.study.finish(self.claim, state, value, error)

    def _outcome(self) -> tuple[TrialState, float | None, str]:
        config = self.variants.config(self.changes)
        pruning = Pruning(self.claim.trial, config.fit["monitor"])
        best = None
        try:
            best = self._run(config, pruning).best_value
        except CheckpointError:  # a run that was stopped may have kept no checkpoint
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
            where = f"model.device={json.dumps(config.model['device'])}"  # this sweep's, not that of the run
            try:
                return resume(self.directory.last, [where], callbacks=[*progress, pruning, witness])
            except Exception as error:
                if witness.went_on:
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
        """Move the run that was begun out of the way, with what is still readable in it."""
        path = self.directory.path
        names = (path.with_name(f"{path.name}-set-aside-{number}") for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        try:
            path.rename(aside)
        except OSError as failure:
            raise self._blocked(failure) from failure
        warnings.warn(
            f"trial {self.claim.trial.number} begins anew, as its run cannot be gone on with ({error}); "
            f"what there was of it is kept in {aside}",
            ArgusWarning,
            stacklevel=2,
        )

    def _blocked(self, error: Exception) -> _Blocked:
        number, path = self.claim.trial.number, self.directory.path
        reason = error if isinstance(error, ArgusError) else _described(error)
        return _Blocked(
            f"trial {number} cannot be gone on with: {reason}; correct that and sweep again, "
            f"or move {path} away to have trial {number} begin anew"
        )


class _Witness(Callback):
    """Sees whether a run went on from its checkpoint: what fails before that is no failure of the trial."""

    reads_predictions = False
    computes = ()

    def __init__(self) -> None:
        self.went_on = False

    def resumed(self, state: State) -> None:
        self.went_on = True


def _described(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _check_failures(result: SweepResult, most: int) -> None:
    """Raise an error if ``most`` trials have failed and nothing else has come."""
    failed = [trial for trial in result.trials if trial.state == "failed"]
    others = [trial for trial in result.trials if trial.state in ("complete", "pruned")]
    if failed and len(failed) >= most and not others:
        last = failed[-1]
        raise ArgusError(
            f"all {len(failed)} trials of {result.study_dir} have failed, "
            f"trial {last.number} with {last.error}; "
            "correct that and sweep again"
        )


def _better(config: Config) -> str:
    """Return which way the monitored metric is better.

    Raises:
        ConfigError: no metric of the run has that name, or it does not say which way is better.
    """
    monitor = config.fit["monitor"]
    phases = ["val", "train"] if "val" in config.data else ["train"]
    metrics = build_metrics(config.fit.get("metrics"))
    known = {f"{phase}_{metric.name}": metric for phase in phases for metric in metrics}
    # A metric may compute several values, which are named after it.
    computed = [
        metric
        for name, metric in known.items()
        if monitor == name or (getattr(metric, "several", False) and monitor.startswith(f"{name}_"))
    ]
    better = next((metric.better for metric in computed), "min" if monitor.endswith("loss") else None)
    if better is None:
        hint = near(monitor, known) or f"; there are {', '.join(known)}"
        reason = "whose metric does not say which way is better" if computed else "which no metric computes"
        raise ConfigError(
            f"trials are compared by [fit] monitor = {monitor!r}, {reason}{'' if computed else hint}"
        )
    return str(better)

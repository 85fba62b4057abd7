"""The search: trials, one after the other, until the study has enough."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from optuna.trial import TrialState

from argus_core.components import BUILTIN
from argus_core.config import Config
from argus_core.errors import ArgusError, CheckpointError, ConfigError, near
from argus_core.interruption import check_interruption, listening
from argus_core.run import Result, resume, train
from argus_core.run_directory import RunDirectory
from argus_core.spec import parse_specs
from argus_core.training import build_metrics
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
        ArgusError: the first three trials have failed, or all that there are.
    """
    given = {"trials": trials, "timeout": timeout, "study_dir": None if study_dir is None else str(study_dir)}
    options = [f"sweep.{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    variants = Variants(Path(config), [*changes, *options])
    base = variants.config()
    settings = read_settings(base, str(config))
    variants.check(settings.space)
    study = Study(settings, _better(base), variants.identity(settings.space))
    end = None if settings.timeout is None else time.monotonic() + settings.timeout
    try:
        with listening():
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
    finally:
        study.close()


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
        except Exception as failure:
            text = " ".join(f"{type(failure).__name__}: {failure}".split())
            state, value, error = TrialState.FAIL, None, text
        except BaseException:
            self.study.interrupt(self.claim)
            raise
        return self.study.finish(self.claim, state, value, error)

    def _outcome(self) -> tuple[TrialState, float | None, str]:
        config = self.variants.config(self.changes)
        pruning = Pruning(self.claim.trial, config.fit["monitor"])
        result = self._run(config, pruning)
        if pruning.not_finite is not None:
            return TrialState.FAIL, None, pruning.not_finite
        if pruning.pruned:
            return TrialState.PRUNED, None, ""
        if result.best_value is None:
            return TrialState.FAIL, None, f"{result.monitor} was never finite"
        return TrialState.COMPLETE, result.best_value, ""

    def _run(self, config: Config, pruning: Pruning) -> Result:
        named = {spec.name for spec in parse_specs("callback", config.fit.get("callbacks", []), "callbacks")}
        progress = [] if named & {"progress", f"{BUILTIN}/progress"} else [("progress", {"table": False})]
        if self.claim.begun and self.directory.last.exists():
            try:
                return resume(self.directory.path, callbacks=[*progress, pruning])
            except (CheckpointError, ConfigError):
                pass  # nothing to go on from: it begins anew
        return train(config, overwrite=True, callbacks=[*progress, pruning])


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

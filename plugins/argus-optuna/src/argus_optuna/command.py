"""``argus sweep``: search for the best hyperparameters of a configuration."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from argus_core.authors import CHANGES, BuildingCommand, echo, echo_json, examples, print_table, read_config

if TYPE_CHECKING:
    from argus_optuna.result import SweepResult, TrialRecord

__all__ = ["command"]

_ROWS = 10


@click.command(
    "sweep",
    cls=BuildingCommand,
    epilog=examples(
        "argus sweep digits.toml",
        "argus sweep digits.toml --trials 50 --timeout 3600",
        "argus sweep digits.toml --set num_epochs=3 --study-dir runs/short --json",
    ),
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--trials", type=int, metavar="N", help="Stop when the study has N trials in total.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Start no trial after this time.")
@click.option("--study-dir", metavar="DIR", help="Keep the study in DIR (default: study_dir of CONFIG).")
@CHANGES
@click.option("--device",
              help="Train on this device: auto, cpu, cuda, cuda:1, ... (default: as in CONFIG).")  # fmt: skip
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON instead of text; output of the runs goes to standard error.",
)
@click.pass_context
def command(
    ctx: click.Context,
    config: Path,
    trials: int | None,
    timeout: float | None,
    study_dir: str | None,
    changes: tuple[str, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Search for the best hyperparameters of CONFIG, a TOML file.

    The section [sweep.space] of CONFIG lists the keys to change, and their values. Each trial is a training
    run with its own run directory, and all trials together are a study. The same command resumes an existing
    study, also after Ctrl-C, SIGTERM or kill -9. In a second terminal it works on the same study.
    """
    again = shlex.join(_as_given(ctx))
    if device is not None:
        changes = (*changes, f"model.device={json.dumps(device)}")
    from argus_optuna.settings import read_settings

    read_settings(read_config(config, changes), str(config))  # before torch is imported, which takes seconds
    import optuna

    from argus_optuna.search import sweep  # imports torch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        try:
            result = sweep(
                config, changes, trials=trials, timeout=timeout, study_dir=study_dir, on_trial=_print_trial
            )
        except (KeyboardInterrupt, SystemExit):  # SystemExit: of SIGTERM
            echo(f"the study can be resumed: {again}", err=True)
            raise
    if as_json:
        echo_json(result.as_dict())
    else:
        _report(result)


def _as_given(ctx: click.Context) -> Iterator[str]:
    """Yield the words of a command line with the same arguments and options."""
    yield from ("argus", ctx.info_name or "sweep")
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if ctx.get_parameter_source(parameter.name or "") is not click.core.ParameterSource.COMMANDLINE:
            continue
        if isinstance(parameter, click.Argument):
            yield str(value)
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            yield parameter.opts[0]
        else:
            for each in value if parameter.multiple else (value,):  # type: ignore[union-attr]
                yield from (parameter.opts[0], str(each))


def _print_trial(trial: TrialRecord) -> None:
    outcome = {"complete": f"{trial.value}", "failed": f"failed: {trial.error}"}.get(trial.state, trial.state)
    echo(f"trial {trial.number}: {outcome}  ({_shown(trial)})")


def _report(result: SweepResult) -> None:
    counts = Counter(trial.state for trial in result.trials)
    shown = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no trials"
    echo("", f"study: {result.study_dir} ({shown})")
    best = result.best
    if best is None:
        echo("no trial is complete")
        return
    keys = list(dict.fromkeys(key for trial in result.ranked[:_ROWS] for key in trial.params))
    rows = [
        [str(trial.number), f"{trial.value:.6g}", *(_cell(trial.params.get(key)) for key in keys)]
        for trial in result.ranked[:_ROWS]
    ]
    print_table(["trial", result.monitor, *keys], rows)
    echo(f"best {result.monitor}: {best.value!r} (trial {best.number}: {_shown(best)})")
    echo(f"best run: {best.directory}")
    echo(f"best checkpoint: {result.best_checkpoint}")


def _shown(trial: TrialRecord) -> str:
    return ", ".join(f"{key}={_cell(value)}" for key, value in trial.params.items())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

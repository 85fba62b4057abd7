"""``argus train``: train a model from a configuration file."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from argus_core.cli.building_command import parts_options
from argus_core.cli.examples import examples
from argus_core.cli.launching_command import LaunchingCommand
from argus_core.cli.options import CHANGES
from argus_core.cli.output import echo
from argus_core.errors import ConfigError
from argus_core.hooks import hookimpl
from argus_core.tensors.single_process import is_first_started, started_processes

if TYPE_CHECKING:
    from argus_core.callbacks.state import State
    from argus_core.config import Config
    from argus_core.runs.directory import RunDirectory
    from argus_core.runs.run import Result

__all__ = ["command", "recorded", "report", "saying_how_to_resume"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.command(
    "train",
    cls=LaunchingCommand,
    epilog=examples(
        "argus train examples/digits.toml --dry-run",
        "argus train examples/digits.toml",
        "argus train examples/digits.toml --set optimizer.lr=0.01 --set num_epochs=3 --run-dir runs/short",
        "argus train examples/digits.toml --set step.accumulate.steps=4 --overwrite",
        "argus train examples/digits.toml --nproc-per-node 2",
    ),
)
@click.argument("config", type=click.Path(path_type=Path))
@CHANGES
@click.option("--run-dir", metavar="DIR", help="Keep the run in DIR (default: run_dir of CONFIG).")
@click.option("--device",
              help="Train on this device: auto, cpu, cuda, cuda:1, ... (default: as in CONFIG).")  # fmt: skip
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the run in the directory, but no other files, after the first checkpoint.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Try all parts of the run in seconds, and keep nothing.",
)
def command(
    config: Path,
    changes: tuple[str, ...],
    run_dir: str | None,
    device: str | None,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Train the model of CONFIG, a TOML file.

    The run directory receives the complete configuration (config.toml), versions.json, metrics.jsonl, log.txt
    and the folder checkpoints/ with best.safetensors and last.safetensors (last.sharded under fsdp).
    """
    from argus_core.config import read_config  # lazy: --help does not need it
    from argus_core.runs.directory import RunDirectory
    from argus_core.runs.naming import named_run

    is_one = started_processes() == 1
    if not dry_run and is_one:
        RunDirectory(config.parent).recover()
    options = {"fit.run_dir": run_dir, "model.device": device}
    if (
        run_dir is not None
        and not run_dir.isascii()
        and any("\ud800" <= char <= "\udfff" for char in run_dir)
    ):
        raise ConfigError(f"--run-dir is {run_dir!r}; it must be UTF-8, as config.toml is; choose another")
    given = [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    read = read_config(config, [*changes, *given])
    if not is_one:
        _train_together(read, overwrite, dry_run)
        return
    # The run claims a numbered directory itself: a signal may end the process while it imports torch.
    with named_run(read, overwrite, claim=False) as chosen:
        directory = RunDirectory(Path(chosen.fit["run_dir"]))
        directory.check(overwrite)  # before torch is imported, which takes seconds
    if dry_run:
        _dry_run(chosen, directory)
        return
    from argus_core.runs.run import train  # imports torch

    is_named = chosen.fit["run_dir"] == read.fit["run_dir"]
    with saying_how_to_resume(directory if is_named else None) as witness:
        report(train(read, overwrite, [witness, _Announcement(finds_path=True)]))


def _train_together(config: Config, overwrite: bool, dry_run: bool) -> None:
    """Train in one of several processes; the first chooses the run directory and prints the results."""
    from argus_core.runs.run import train  # imports torch

    if dry_run:
        _dry_run_together(config, overwrite)
        return
    with saying_how_to_resume(None) as witness:
        result = recorded(train)(config, overwrite, [witness, _Announcement(finds_path=True)])
    if is_first_started():
        report(result)


def recorded(function: _Function) -> _Function:
    """Return a function whose exception the launcher shows as the reason of the whole run's end."""
    if "TORCHELASTIC_ERROR_FILE" not in os.environ:
        return function
    from torch.distributed.elastic.multiprocessing.errors import record  # lazy: most runs have one process

    return cast(_Function, record(function))


def _dry_run_together(config: Config, overwrite: bool) -> None:
    from argus_core.runs.directory import RunDirectory
    from argus_core.runs.dry_run import dry_run  # imports torch
    from argus_core.runs.naming import named_run
    from argus_core.runs.together import in_one_group

    with in_one_group(lambda: config):
        if not is_first_started():
            dry_run(config, [_Announcement(finds_path=False)])
            return
        with named_run(config, overwrite, claim=False) as chosen:
            directory = RunDirectory(Path(chosen.fit["run_dir"]))
            directory.check(overwrite)
            _dry_run(chosen, directory)


class _Announcement:
    """A callback that prints the run directory and the origin of the weights once all checks have passed."""

    reads_predictions = False
    computes = ()
    first_process_only = True

    def __init__(self, finds_path: bool) -> None:
        self.finds_path = finds_path

    @hookimpl(trylast=True)
    def start(self, state: State) -> None:
        if self.finds_path:
            echo(f"run directory: {_directory_of(state).path}")
        if state.model.initial_weights is not None:
            echo(str(state.model.initial_weights))


def _dry_run(config: Config, directory: RunDirectory) -> None:
    from argus_core.runs.dry_run import dry_run  # imports torch

    echo(f"dry run of {config.file}: its files go into a temporary folder, which is removed")
    result = dry_run(config, [_Announcement(finds_path=False)])
    for phase, count in result.batches.items():
        echo(f"{phase}: {count} batch{'es' * (count != 1)}")
    for name, value in result.metrics.items():
        if name.startswith("test_"):
            echo(f"{name}: {value!r}")
    echo(f"checkpoint: saved and loaded, {result.checkpoint_size:,} bytes")
    echo(f"nothing failed in {result.seconds:.1f} s; {directory.path} is as it was")


class _Witness:
    """A callback that notes whether the run has a checkpoint from which it can resume."""

    reads_predictions = False
    computes = ()

    def __init__(self, directory: RunDirectory | None) -> None:
        self.directory = directory
        self.can_resume = False

    def start(self, state: State) -> None:
        self.directory = self.directory or _directory_of(state)

    def checkpoint_saved(self, state: State) -> None:
        is_last = self.directory is not None and state.checkpoint_path in self.directory.lasts
        self.can_resume = self.can_resume or is_last

    def resumed(self, state: State) -> None:
        self.can_resume = True


def _directory_of(state: State) -> RunDirectory:
    """Return the directory of a run, which its own callback has."""
    run = next(each for each in state.engine.callbacks if getattr(each, "name", None) == "run")
    return cast("RunDirectory", run.directory)


@contextmanager
def saying_how_to_resume(directory: RunDirectory | None) -> Iterator[_Witness]:
    """Print the command that resumes a run if a signal ends it; the run needs the yielded callback.

    Args:
        directory: of the run; ``None`` where the run chooses it.
    """
    witness = _Witness(directory)
    try:
        yield witness
    except (KeyboardInterrupt, SystemExit) as ended:  # SystemExit: of SIGTERM
        for note in getattr(ended, "__notes__", ()):
            echo(note, err=True)
        if witness.can_resume and witness.directory is not None and is_first_started():
            again = shlex.join(["argus", "resume", str(witness.directory.path), *parts_options()])
            echo(f"the run can be resumed: {again}", err=True)
        raise


def report(result: Result) -> None:
    """Print the results of a run and the paths of its files."""
    directory = result.directory
    echo(f"metrics: {directory.shown(directory.metrics)}")
    echo(f"last checkpoint: {directory.shown(directory.last)}")
    if result.best_epoch is None:
        echo(f"no best checkpoint: {result.monitor} was never finite")
        return
    echo(f"best checkpoint: {directory.shown(directory.best)}")
    echo(f"best {result.monitor}: {result.best_value!r} (epoch {result.best_epoch + 1})")
    for name, value in result.test_metrics.items():
        echo(f"{name}: {value!r}")

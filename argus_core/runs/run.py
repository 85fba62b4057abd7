"""A training run from a configuration, kept in a run directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from argus_core.callbacks.asking import asking_for_keys
from argus_core.checkpoint.sections import PREFIXES
from argus_core.config import Config, config_differences, read_resolved, resolved_toml, validation_phases
from argus_core.config.changes import with_params
from argus_core.errors import BuildError, ConfigError
from argus_core.files.working_folder import absolute
from argus_core.metrics.build import build_metrics
from argus_core.model.build_options import BuildOptions
from argus_core.model.loading import load_model
from argus_core.model.model import Model
from argus_core.registry.diagnosis import naming_missing
from argus_core.registry.file_params import taken_from
from argus_core.registry.registry import resolve
from argus_core.runs.callbacks import Witness, run_callbacks, validation_callbacks
from argus_core.runs.changed_settings import changed_measures, check_changes
from argus_core.runs.directory import RunDirectory
from argus_core.runs.loaders import Loader, build_loaders
from argus_core.runs.naming import named_run, with_seed
from argus_core.runs.participants import components_in, data_choices, versions
from argus_core.runs.together import (
    FollowedDirectory,
    earlier_start,
    in_one_group,
    meet,
    note_start,
    of_the_first,
    shared_choices,
)
from argus_core.storage.forms import is_folder
from argus_core.tensors.processes import is_first
from argus_core.training.dry_run import DryRun, FirstBatches
from argus_core.training.fit import seed_everything
from argus_core.training.interruption import exiting
from argus_core.training.newest import find_checkpoint

__all__ = ["Result", "build_model", "resume", "train"]

_LENGTHS = "num_epochs num_updates max_time validate_every log_every limit_train limit_val".split()


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        directory: where everything is.
        metrics: the last value of every metric.
        monitor: the metric that decides which epoch was the best.
        best_epoch: counts from 0; ``None`` if the metric was never finite.
        best_value: its value then, exactly.
        test_metrics: of the best checkpoint on the test data, empty if there are none.
    """

    directory: RunDirectory
    metrics: dict[str, float]
    monitor: str
    best_epoch: int | None
    best_value: float | None
    test_metrics: dict[str, float]


def build_model(config: Config, initial_values_wanted: bool = True) -> Model:
    """Build the model that a configuration describes.

    Args:
        config: what to build.
        initial_values_wanted: whether it is used with the values it begins with, such as pretrained weights.

    Raises:
        BuildError: the component that ``name`` in ``[model]`` chooses is not a model class.
    """
    name = config.model["name"]
    cls: Any = resolve("model", name).load()
    if not isinstance(cls, type) or not issubclass(cls, Model):
        raise BuildError(
            f"model {name!r} is {cls!r}, which is not a subclass of argus_core.Model; choose another model"
        )
    options = BuildOptions(
        source=config.source("model", *config.model),
        overwritten=frozenset() if initial_values_wanted else frozenset(PREFIXES),
    )
    model: Model = options.build(cls, config.params)
    return model


def train(
    config: Config, overwrite: bool = False, callbacks: Iterable[Any] = (), trial: DryRun | None = None
) -> Result:
    """Train as ``config`` describes, and keep the run in its run directory.

    A run that fails before its first update leaves nothing behind. A run that it replaces is kept until the
    new one has a checkpoint, and is restored if the new one fails before.

    Args:
        config: without a seed one is drawn, and kept with the run.
        overwrite: whether a run that the directory already holds is removed.
        callbacks: instances, names or specs, besides those of the configuration; not kept with the run.
        trial: makes it a dry run, whose run directory is in the folder of that.

    Raises:
        ConfigError: the directory already holds a run, or something else that is in the way; or the run that
            would be replaced is not the one whose configuration this is.
    """
    with in_one_group(lambda: config):
        before = earlier_start()
        if of_the_first(before is not None and before.has_last):
            assert before is not None
            return resume(before.path, (), callbacks)
        if not is_first():
            config = shared_choices(None, config)
            return _train(config, overwrite, callbacks, trial, FollowedDirectory(Path(config.fit["run_dir"])))
        if before is not None:  # the processes before the restart have saved nothing yet
            config, overwrite = replace(config, fit={**config.fit, "run_dir": str(before.path)}), True
        with named_run(config, overwrite) as named:
            return _train(named, overwrite, callbacks, trial, RunDirectory(Path(named.fit["run_dir"])))


def _train(
    config: Config, overwrite: bool, callbacks: Iterable[Any], trial: DryRun | None, directory: RunDirectory
) -> Result:
    with exiting(), directory.held():
        directory.check(overwrite)
        _check_whose(config, directory)
        config = with_seed(config)
        if is_first():
            shared_choices(config, config)
        model, loaders = _build(config)
        resolved, used = resolved_toml(config), versions(model, config)

        def begin() -> None:
            directory.create(resolved, used)
            note_start(directory)  # not before: what is there may be a run that this one replaces

        witness = Witness(directory, config.fit["monitor"], begin, data=data_choices(config))
        try:
            metrics = _fit(model, config, loaders, witness, callbacks, trial=trial)
            directory.settle()
        except BaseException as error:
            note = directory.give_up(discard=not witness.began)
            if note:  # as add_note does, which Python 3.10 does not have
                error.__notes__ = [*getattr(error, "__notes__", ()), note]  # type: ignore[attr-defined]
            raise
        if trial is not None and "test" in loaders:
            loaders["test"] = FirstBatches(loaders["test"], 1, trial.batches, "test")
        return _result(config, loaders, directory, witness, metrics)


def resume(path: Path, changes: Iterable[str] = (), callbacks: Iterable[Any] = ()) -> Result:
    """Resume the run in a run directory, from its last checkpoint or from a file in it.

    Changes are kept in the run's configuration once the run has resumed.

    Args:
        path: the run directory, or one of its checkpoints.
        changes: ``key=value``, made to the run's configuration, such as more epochs.
        callbacks: as in `train`.

    Raises:
        ConfigError: there is no run, or a change that a resumed run cannot adopt.
        CheckpointError: there is no checkpoint to resume from.
    """
    directory = RunDirectory.of(path)
    with in_one_group(lambda: read_resolved(directory.config, changes)):
        if not is_first():
            meet()
            return _resume(FollowedDirectory(directory.path), path, changes, callbacks)
        with exiting(), directory.held():
            RunDirectory.of(path)  # also once a run that was being replaced is back
            meet()
            return _resume(directory, path, changes, callbacks)


def _resume(directory: RunDirectory, path: Path, changes: Iterable[str], callbacks: Iterable[Any]) -> Result:
    config = replace(read_resolved(directory.config, changes), folder=str(directory.root))
    changed = list(config_differences(read_resolved(directory.config), config))
    check_changes(directory, changed)
    checkpoint = (
        find_checkpoint(directory.root, directory.last)
        if path.is_dir() and not is_folder(path)
        else find_checkpoint(absolute(path))
    )
    with naming_missing(directory.providers):
        _ = [*components_in(config)]  # those that only the fit would ask for, too
        model, loaders = _build(config, initial_values_wanted=False)
    told = [f"{key} was {was!r} and is {now!r}" for key, was, now in changed if key.startswith("data.")]
    notes = [*changed_measures(directory, config.fit["monitor"], [key for key, *_ in changed])]
    if told:
        data = "; ".join(told)
        notes.append(f"the run in {directory.path} resumes with other data: {data}, which holds from here")
    witness = Witness(
        directory,
        config.fit["monitor"],
        config=resolved_toml(config) if changed else None,
        versions=versions(model, config),
        notes=notes,
        data=data_choices(config),
    )
    metrics = _fit(model, config, loaders, witness, callbacks, checkpoint)
    return _result(config, loaders, directory, witness, metrics)


def _check_whose(config: Config, directory: RunDirectory) -> None:
    """Raise if ``config`` names the run directory of another run, as a copied folder's does."""
    own = RunDirectory(Path(config.file).parent)
    is_given = any(path[:2] == ("fit", "run_dir") for path in config.given)
    is_own = os.path.realpath(own.path) == os.path.realpath(directory.path)
    if is_given or is_own or not directory.owns(directory.config) or not own.owns(Path(config.file)):
        return
    raise ConfigError(
        f"{config.file} belongs to the run in {own.path}, and has run_dir = {str(directory.path)!r}, where "
        "another run is; choose one of the two with --run-dir, or a third folder"
    )


def _build(config: Config, initial_values_wanted: bool = True) -> tuple[Model, dict[str, Any]]:
    if "num_threads" in config.fit:
        torch.set_num_threads(config.fit["num_threads"])
    seed_everything(config.fit["seed"])  # before the network draws its initial weights
    loaders = build_loaders(config)
    return build_model(config, initial_values_wanted), loaders


def _result(
    config: Config,
    loaders: dict[str, Any],
    directory: RunDirectory,
    witness: Witness,
    metrics: dict[str, float],
) -> Result:
    meet()  # the first process has written all files
    tested = _test(config, loaders.get("test"), directory)
    return Result(directory, metrics, config.fit["monitor"], witness.best_epoch, witness.best_value, tested)


def _fit(
    model: Model,
    config: Config,
    loaders: dict[str, Any],
    witness: Witness,
    callbacks: Iterable[Any],
    checkpoint: Path | None = None,
    trial: DryRun | None = None,
) -> dict[str, float]:
    fit = config.fit
    # Of its own, for another run in another thread not to write to this one's log.
    model.logger = model.logger.getChild(str(witness.directory.root).replace(".", "_"))
    with taken_from(config.source("fit", *fit)), asking_for_keys():
        metrics = fit.get("metrics")
        if "val" not in loaders and "test" in loaders and not fit["metrics_on_train"]:
            build_metrics(metrics)  # the test uses them, after training: what is wrong in them is found now
            metrics = None
        return model.fit(
            loaders["train"],
            loaders.get("val"),
            **dict[str, Any]({key: fit.get(key) for key in _LENGTHS}),
            metrics=metrics,
            metrics_on_train=fit["metrics_on_train"],
            callbacks=run_callbacks(
                witness, fit["checkpoint_every"], [*fit.get("callbacks", []), *callbacks], checkpoint
            ),
            val_callbacks=validation_callbacks(
                witness.directory, fit.get("val_callbacks"), validation_phases(config.data)
            ),
            lr_scheduler=fit.get("lr_scheduler"),
            resume=checkpoint,
            seed=fit["seed"],
            dry_run=trial or False,
        )


def _test(config: Config, loader: Loader | None, directory: RunDirectory) -> dict[str, float]:
    """Evaluate the best checkpoint on the test data, once, after training."""
    if loader is None or not directory.best.exists():
        return {}
    model = load_model(directory.best, optimizer=None, device=config.model["device"], **_chosen(config))
    with taken_from(config.source("fit", "metrics")):
        values = model.validate(loader, config.fit.get("metrics"))
    tested = {f"test_{name.removeprefix('val_')}": value for name, value in values.items()}
    directory.write_test(tested)
    return tested


def _chosen(config: Config) -> dict[str, Any]:
    """Return the parameters that the run was built with, which are trusted in its own checkpoint."""
    specs = {part: config.model[part] for part in PREFIXES if part in config.model}
    chosen = {
        part: spec if isinstance(spec, Mapping) else with_params(spec)[1] for part, spec in specs.items()
    }
    return chosen | {key: config.model[key] for key in ("step",) if key in config.model}

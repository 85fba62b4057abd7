"""A training run from a configuration, kept in a run directory."""

from __future__ import annotations

import json
import platform
import secrets
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from argus_core.build import build_component
from argus_core.callbacks.callback import Callback
from argus_core.checkpoint import PREFIXES
from argus_core.components import BUILTIN, Component
from argus_core.config import SECTIONS, Config, config_differences, read_config, resolved_toml
from argus_core.data import build_dataset, make_loader
from argus_core.distributions import version_of
from argus_core.errors import ArgusWarning, BuildError, ConfigError
from argus_core.loading import load_model
from argus_core.model import Model
from argus_core.registry import resolve
from argus_core.resume import find_checkpoint
from argus_core.run_directory import RunDirectory
from argus_core.spec import Spec, parse_specs
from argus_core.training import seed_everything

if TYPE_CHECKING:
    from argus_core.engine import State

__all__ = ["Result", "build_model", "resume", "train"]

_LARGEST_SEED = 2**32

Loader = DataLoader[Any]


@dataclass(frozen=True)
class Result:
    """What came of a run.

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
    """Return the model that a configuration describes.

    Args:
        config: what to build.
        initial_values_wanted: whether it is used with the values it begins with, such as pretrained weights.

    Raises:
        BuildError: the component that ``name`` in ``[model]`` chooses is no class of model.
    """
    name = config.model["name"]
    cls: Any = resolve("model", name).load()
    if not isinstance(cls, type) or not issubclass(cls, Model):
        raise BuildError(
            f"model {name!r} is {cls!r}, which is no subclass of argus_core.Model; choose another"
        )
    model: Model = cls.__new__(cls)
    if not initial_values_wanted:
        model.overwritten = frozenset(PREFIXES)
    model.__init__(config.params)  # type: ignore[misc]
    return model


def train(config: Config, overwrite: bool = False, callbacks: Iterable[Any] = ()) -> Result:
    """Train as ``config`` says and keep the run in its run directory.

    A run that fails before its first update leaves nothing behind.

    Args:
        config: without a seed one is drawn, and kept with the run.
        overwrite: whether a run that the directory already holds is removed.
        callbacks: instances, names or specs, besides those of the configuration; not kept with the run.

    Raises:
        ConfigError: the directory already holds a run, or something else that is in the way.
    """
    directory = RunDirectory(Path(config.fit["run_dir"]))
    directory.check(overwrite)
    seed = config.fit.get("seed", secrets.randbelow(_LARGEST_SEED))
    config = replace(config, fit={**config.fit, "seed": seed})
    model, loaders = _build(config)
    versions = _versions([*_components_of(model), *_components_in(config)])
    directory.create(resolved_toml(config), versions, overwrite)
    witness = _Witness(directory)
    try:
        metrics = _fit(model, config, loaders, witness, callbacks)
    except BaseException:
        if not witness.began:
            directory.discard()
        raise
    return _result(config, loaders, directory, witness, metrics)


def resume(path: Path, changes: Iterable[str] = (), callbacks: Iterable[Any] = ()) -> Result:
    """Go on with the run that a run directory holds, from its last checkpoint or from a file in it.

    Changes are kept in the run's configuration once the run goes on.

    Args:
        path: the run directory, or one of its checkpoints.
        changes: ``key=value``, made to the run's configuration, such as more epochs.
        callbacks: as in `train`.

    Raises:
        ConfigError: there is no run, or a change that a run which goes on cannot take.
        CheckpointError: there is no checkpoint that it could go on from.
    """
    directory = RunDirectory.of(path)
    config = read_config(directory.config, changes)
    changed = list(config_differences(read_config(directory.config), config))
    _check_changes(directory, changed)
    checkpoint = find_checkpoint(directory.path if path.is_dir() else path)
    with directory.naming_what_is_missing():
        _ = [*_components_in(config)]  # those that only the fit would ask for, too
        model, loaders = _build(config, initial_values_wanted=False)
    told = [f"{key} was {was!r} and is {now!r}" for key, was, now in changed if key.startswith("data.")]
    if told:
        warnings.warn(
            f"the run in {directory.path} goes on with other data: {'; '.join(told)}, which holds from here",
            ArgusWarning,
            stacklevel=2,
        )
    witness = _Witness(directory, resolved_toml(config) if changed else None)
    metrics = _fit(model, config, loaders, witness, callbacks, checkpoint)
    return _result(config, loaders, directory, witness, metrics)


def _check_changes(directory: RunDirectory, changed: list[tuple[str, Any, Any]]) -> None:
    """Refuse changes that a run which goes on could only pretend to take."""
    reasons = {
        "fit.seed": "the order of its batches and its random numbers follow from the seed that it began with",
        "fit.run_dir": f"it stays in {directory.path}; copy the folder first to have two runs",
        "model.name": "its checkpoints are of another class; take the weights with load_model and train anew",
    }
    for key, was, now in changed:
        if key in reasons:
            raise ConfigError(
                f"--set {key.removeprefix('fit.')}={now}: a run that goes on keeps {was!r}, as "
                f"{reasons[key]}; leave the change out, or train anew with argus train"
            )


def _build(config: Config, initial_values_wanted: bool = True) -> tuple[Model, dict[str, Loader]]:
    if "num_threads" in config.fit:
        torch.set_num_threads(config.fit["num_threads"])
    seed_everything(config.fit["seed"])  # before the network draws its initial weights
    loaders = _build_loaders(config.data, config.fit["seed"])
    return build_model(config, initial_values_wanted), loaders


def _result(
    config: Config,
    loaders: dict[str, Loader],
    directory: RunDirectory,
    witness: _Witness,
    metrics: dict[str, float],
) -> Result:
    tested = _test(config, loaders.get("test"), directory)
    return Result(directory, metrics, config.fit["monitor"], witness.best_epoch, witness.best_value, tested)


class _Witness(Callback):
    """Sees whether a run got as far as an update, and which epoch was the best.

    Args:
        directory: of the run.
        config: takes the place of the run's configuration once the run goes on.
    """

    def __init__(self, directory: RunDirectory, config: str | None = None) -> None:
        self.directory = directory
        self.config = config
        self.began = False
        self.best_epoch: int | None = None
        self.best_value: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_epoch = state_dict["best_epoch"]

    def catch_exception(self, state: State) -> None:
        self.began = state.global_step + state.updates_skipped > 0

    def resumed(self, state: State) -> None:
        if self.config is not None:
            self.directory.change_config(self.config)

    def checkpoint_saved(self, state: State) -> None:
        if state.checkpoint_path == self.directory.best:
            self.best_epoch = state.epoch


def _fit(
    model: Model,
    config: Config,
    loaders: dict[str, Loader],
    witness: _Witness,
    callbacks: Iterable[Any],
    checkpoint: Path | None = None,
) -> dict[str, float]:
    fit, directory = config.fit, witness.directory
    best = build_component("callback", _best_checkpoint(directory, fit["monitor"]), "callbacks")
    metrics = model.fit(
        loaders["train"],
        loaders.get("val"),
        fit["num_epochs"],
        metrics=fit.get("metrics"),
        metrics_on_train=fit["metrics_on_train"],
        callbacks=[
            *_reports(directory, [*fit.get("callbacks", []), *callbacks], fit["monitor"]),
            best,
            _last_checkpoint(directory, fit["checkpoint_every"]),
            witness,
        ],
        val_callbacks=fit.get("val_callbacks"),
        lr_scheduler=fit.get("lr_scheduler"),
        resume=checkpoint,
        seed=fit["seed"],
    )
    witness.best_value = best.monitor.best
    return metrics


def _reports(directory: RunDirectory, own: list[Any], monitor: str) -> list[Any]:
    """Return the callbacks that report a run, and the user's own."""
    specs = [each for each in own if isinstance(each, str | tuple | list)]
    named = {spec.name for spec in parse_specs("callback", specs, "callbacks")}
    progress = ("progress", {"table": True, "monitor": monitor})
    return [
        *([] if named & {"progress", f"{BUILTIN}/progress"} else [progress]),
        ("logging_to_file", {"file_path": str(directory.log)}),
        ("metrics_jsonl", {"file_path": str(directory.metrics)}),
        *own,
    ]


def _best_checkpoint(directory: RunDirectory, monitor: str) -> tuple[str, dict[str, Any]]:
    params = {"monitor": monitor, "file_format": directory.best.name, "max_saves": 1}
    return "monitor_checkpoint", {"dir_path": str(directory.checkpoints), **params}


def _last_checkpoint(directory: RunDirectory, every: str) -> tuple[str, dict[str, Any]]:
    params = {"every": every, "file_format": directory.last.name, "max_saves": 1, "optimizer_state": True}
    return "checkpoint", {"dir_path": str(directory.checkpoints), **params}


def _build_loaders(data: Any, seed: int) -> dict[str, Loader]:
    """Return the loaders of the datasets that there are; only training is shuffled."""
    shared = {key: data[key] for key in ("num_workers", "pin_memory")} | {"seed": seed}
    loaders: dict[str, Loader] = {}
    for split in ("train", "val", "test"):
        if split in data:
            dataset = build_dataset(data[split], f"[data] {split}")
            if split == "train":
                options = {key: data[key] for key in ("batch_size", "shuffle", "drop_last")}
            else:
                options = {"batch_size": data["val_batch_size"]}
            loaders[split] = make_loader(dataset, **options, **shared)
    return loaders


def _test(config: Config, loader: Loader | None, directory: RunDirectory) -> dict[str, float]:
    """Measure the best checkpoint on the test data, once, after training."""
    if loader is None or not directory.best.exists():
        return {}
    model = load_model(directory.best, optimizer=None, device=config.model["device"])
    values = model.validate(loader, config.fit.get("metrics"))
    tested = {f"test_{name.removeprefix('val_')}": value for name, value in values.items()}
    directory.test.write_text(json.dumps(tested, indent=2) + "\n", encoding="utf-8")
    return tested


def _components_of(model: Model) -> Iterator[Component]:
    yield from (
        part.component for part in [*model.parts.values(), *model.step_parts] if part and part.component
    )


def _components_in(config: Config) -> Iterator[Component]:
    """Yield the components that a configuration names outside the model's parts."""
    yield resolve("model", config.model["name"])
    for section, values in (("data", config.data), ("fit", config.fit)):
        for key, known in SECTIONS[section].items():
            if known.kind and key in values:
                specs: list[Spec] = parse_specs(known.kind, values[key], f"[{section}] {key}")
                yield from (resolve(known.kind, spec.name) for spec in specs)


def _versions(components: list[Component]) -> dict[str, Any]:
    """Return the versions of everything that takes part in a run."""
    providers = {each.provider: each.version for each in components if each.provider not in (None, BUILTIN)}
    return {
        BUILTIN: version_of(BUILTIN),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "providers": dict(sorted(providers.items(), key=str)),
    }

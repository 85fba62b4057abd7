"""The evaluation of a checkpoint on the validation and test sets of its run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from argus_core.checkpoint.records import find, missing
from argus_core.config import Config, validation_phases
from argus_core.config.changes import with_params
from argus_core.config.split import PARTS
from argus_core.config.stored_data import stored_data
from argus_core.data.description import DataDescription, check_names, describe_data
from argus_core.errors import ArgusWarning, ConfigError, MissingPluginError, near
from argus_core.metrics import Accuracy, Metric
from argus_core.metrics.class_table import ClassResult, ClassTable
from argus_core.model.loading import load_model
from argus_core.model.model import Model
from argus_core.registry.diagnosis import missing_message
from argus_core.registry.factory import build_many
from argus_core.registry.file_params import taken_from
from argus_core.runs.best_checkpoint import checkpoint_at
from argus_core.runs.directory import RunDirectory
from argus_core.runs.loaders import Loader, build_loaders
from argus_core.runs.prediction import for_evaluation
from argus_core.storage import read_header
from argus_core.storage.stored import COUNT
from argus_core.training.validation import validate

__all__ = ["SetResult", "evaluate"]

_TEST = "test"


@dataclass(frozen=True)
class SetResult:
    """The result of a checkpoint on one set.

    Attributes:
        spec: the dataset, as the configuration chooses it; ``None`` for a part of a split.
        samples: their number, or ``None`` for a stream.
        metrics: by name, ``val_loss``, ``test_accuracy`` and so on.
        classes: name and result of each class, in order; empty if the model is not a classifier.
    """

    spec: Any
    samples: int | None
    metrics: dict[str, float]
    classes: list[tuple[str, ClassResult]]


def evaluate(
    path: Path,
    changes: Iterable[str] = (),
    metrics: Sequence[Any] = (),
    sets: Sequence[str] = (),
    device: Any = "auto",
) -> dict[str, SetResult]:
    """Evaluate a checkpoint on the validation and test sets of its run; return the result of each by name.

    The datasets are built from the specs in the checkpoint. A checkpoint in its run directory may set what a
    configuration may, such as paths to read; of another one the caller has to set these. The values equal
    those that the run printed, to the last digit on the same kind of device, unless the run limited its
    validation.

    Args:
        path: the checkpoint, or a run directory, which stands for its best checkpoint.
        changes: ``key=value`` for keys of ``[data]``, such as ``data.test=digits``.
        metrics: names, specs or instances, besides those of the run.
        sets: the sets to evaluate, by default all: ``val``, or ``val_clean`` of several, and ``test``.
        device: on which to evaluate.

    Raises:
        MissingPluginError: no installed package provides a dataset or metric.
        ConfigError: there is no such set, or a change is not allowed.
        UnsafeCheckpointError: a checkpoint in no run directory sets a parameter that only the caller may set.
        StateMismatchError: a set has other classes than the data that the model was trained on.
        CheckpointError: as of `load_model`.
    """
    path = checkpoint_at(path)
    model = load_model(path, optimizer=None, device=device, change_params_func=for_evaluation)
    seed = model.data.seed or 0
    specs, is_trusted = model.data.specs, _is_in_run(path)
    config = _with_sets(stored_data(specs, path, seed, device, changes, is_trusted), sets)
    _check_installed(config, model.data)
    loaders = _by_set(build_loaders(config), config, sets)
    for name, loader in loaders.items():
        check_names(name, loader, model.data)
    return {name: _evaluated(model, config, name, loader, metrics) for name, loader in loaders.items()}


def _is_in_run(path: Path) -> bool:
    try:
        return RunDirectory.of(path).holds_run()
    except ConfigError:
        return False


def _with_sets(config: Config, sets: Sequence[str]) -> Config:
    """Return a configuration without the datasets that the sets do not need."""
    known = _sets(config)
    if not known:
        raise ConfigError(
            f"{config.file} names neither validation nor test data; choose some: --set data.val=NAME"
        )
    for name in sets:
        if name not in known:
            raise ConfigError(
                f"there is no set {name!r}{near(name, known) or '; choose ' + ' or '.join(known)}"
            )
    needed = {_TEST if name == _TEST else "val" for name in sets or known}
    needed |= {"train"} if "split" in config.data else set()
    unneeded = {"train", *PARTS, "sampler"} - needed
    return replace(config, data={key: value for key, value in config.data.items() if key not in unneeded})


def _sets(config: Config) -> list[str]:
    has_test = _TEST in config.data or _TEST in config.data.get("split", ())
    return [*validation_phases(config.data), *([_TEST] if has_test else [])]


def _check_installed(config: Config, data: DataDescription) -> None:
    needed = {(kind, spec.name) for kind, _, spec in config.specs("data")}
    needed |= {
        ("metric", with_params(spec)[0]) for spec in data.metrics if isinstance(spec, str | tuple) and spec
    }
    lost = [
        missing(kind, record)
        for kind, records in data.components.items()
        for record in records
        if (kind, record["as"]) in needed and find(kind, record) is None
    ]
    if lost:
        raise MissingPluginError(missing_message(lost))


def _by_set(loaders: Mapping[str, Any], config: Config, sets: Sequence[str]) -> dict[str, Loader]:
    val: Any = loaders.get("val")
    found: dict[str, Any] = {"val": val, _TEST: loaders.get(_TEST)}
    if isinstance(val, dict):
        found |= {f"val_{name}": each for name, each in val.items()}
    return {name: found[name] for name in _sets(config) if name in sets or not sets}


def _evaluated(model: Model, config: Config, name: str, loader: Loader, metrics: Sequence[Any]) -> SetResult:
    with taken_from(config.source("fit", "metrics")):
        own = build_many("metric", [*model.data.metrics], "metrics")
    names = {getattr(each, "name", None) for each in own}
    asked = [
        each
        for each in build_many("metric", [*metrics], "metrics")
        if getattr(each, "name", None) not in names
    ]
    table = _table(own)
    phase = "val" if name == _TEST else name
    values = validate(
        model,
        loader if phase == "val" else {phase.removeprefix("val_"): loader},
        metrics=[*own, *asked, table],
        callbacks=None,
        # The run tests its best checkpoint by itself, and validates after its epochs.
        seed=None if name == _TEST else config.fit["seed"],
        epoch=0 if name == _TEST else _epoch(Path(config.file)),
    )
    return SetResult(
        config.data["val"][phase.removeprefix("val_")] if phase != "val" else config.data.get(name),
        describe_data({name: loader}).samples.get(name),
        {f"{name}_{key.removeprefix(f'{phase}_')}": value for key, value in values.items()},
        [*zip(_class_names(model.data, len(table.rows)), table.rows, strict=True)] if table.rows else [],
    )


def _table(metrics: Iterable[Metric]) -> ClassTable:
    """Return a table that counts as the accuracy of the run does."""
    for metric in metrics:
        if isinstance(metric, Accuracy):
            return ClassTable(metric.threshold, metric.ignore_index)
    return ClassTable()


def _class_names(data: DataDescription, count: int) -> Iterator[str]:
    if data.classes and len(data.classes) != count:
        warnings.warn(
            f"the model predicts {count} classes, and the data that it was trained on have "
            f"{len(data.classes)} names, so the table has numbers; correct classes of the dataset",
            ArgusWarning,
            stacklevel=4,
        )
    return iter(data.classes if data.classes and len(data.classes) == count else map(str, range(count)))


def _epoch(path: Path) -> int:
    """Return the epoch of the run in which the checkpoint was saved, counting from 0."""
    run = read_header(path).manifest.get("run")
    epoch = run.get("epoch") if isinstance(run, dict) else None
    return epoch if isinstance(epoch, int) and COUNT.holds(epoch) else 0

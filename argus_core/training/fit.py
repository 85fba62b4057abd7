"""Training and validation: engines with their metrics, callbacks and schedules."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.asking import ask_for_epochs, ask_for_validation, called
from argus_core.callbacks.audience import named
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.epoch_report import FIELDS
from argus_core.callbacks.keeping import check_apart, check_kept
from argus_core.callbacks.lr_schedule import build_schedules, check_steps
from argus_core.callbacks.state import State
from argus_core.data.order import draw_seed, loader_length, ordered
from argus_core.data.workers import with_workers_that_leave_signals
from argus_core.errors import ArgusWarning, ConflictError, ParamsError
from argus_core.files.working_folder import shown
from argus_core.hooks import hookimpl
from argus_core.metrics import Loss, Metric
from argus_core.registry.factory import build_many, described
from argus_core.steps.reading import reads_predictions
from argus_core.tensors.device import check_has_values
from argus_core.tensors.rng import is_seed
from argus_core.tensors.single_process import check_single_process
from argus_core.training.engine import Engine
from argus_core.training.finite_loss import FiniteLoss
from argus_core.training.interruption import listening
from argus_core.training.resumption import Resumption
from argus_core.training.sole_writer import SoleWriter

__all__ = ["build_metrics", "fit", "seed_everything", "validate"]

_MOST_EPOCHS = 2**31 - 1


def fit(
    model: AbstractModel,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any] | None = None,
    *,
    num_epochs: int,
    metrics: Any,
    metrics_on_train: bool,
    callbacks: Any,
    val_callbacks: Any,
    lr_scheduler: Any,
    resume: str | Path | None,
    seed: int | None,
) -> dict[str, float]:
    """Train ``model`` and return the last value of every metric; see `Model.fit`."""
    _check_arguments(model, train_loader, val_loader, num_epochs)
    resumption = None if resume is None else Resumption(resume)
    if seed is not None:
        seed_everything(seed)
    order_seed = resumption.seed if resumption else draw_seed(train_loader) if seed is None else seed
    train_loader = ordered(train_loader, order_seed, "train")
    val_loader = None if val_loader is None else ordered(val_loader, order_seed, "val")
    chosen = build_metrics(metrics)
    sole_writer = SoleWriter()
    if val_loader is None:
        _warn_of_no_validation([] if metrics_on_train else chosen[1:], val_callbacks)
    validation = [] if val_loader is None else [_Validation(model, val_loader, chosen, val_callbacks)]
    engine = Engine(
        model.train_step,
        model,
        "train",
        window_size=model.window_size(),
        callbacks=[
            *validation,
            FiniteLoss(),
            *build_many("callback", callbacks, "callbacks"),
            *build_schedules(lr_scheduler, model),
            sole_writer,
        ],
        metrics=chosen if metrics_on_train else chosen[:1],
    )
    for part in validation:
        _connect(engine, part.engine)
    engine.seed = order_seed
    check_apart([*engine.callbacks, *(each for part in validation for each in part.engine.callbacks)])
    if resumption is not None:
        resumption.restore(model, engine, train_loader)
        _tell_if_complete(engine, num_epochs, resumption.path)
    check_steps(engine, loader_length(train_loader), num_epochs)
    workers = with_workers_that_leave_signals(train_loader, val_loader)
    with sole_writer.releasing(), listening(), workers, model.training():
        model.train()
        state = engine.run(train_loader, num_epochs)
    check_kept(engine.callbacks, model.logger)
    return dict(state.metrics)


def _check_arguments(model: AbstractModel, train_loader: Any, val_loader: Any, num_epochs: Any) -> None:
    check_single_process("fit")
    check_has_values(model.device, "train")
    for phase, loader in (("train", train_loader), ("val", val_loader)):
        _check_batched(phase, loader)
    if type(num_epochs) is not int or not 1 <= num_epochs <= _MOST_EPOCHS:
        raise ParamsError(f"num_epochs is {described(num_epochs)}; give an integer from 1 to 2**31 - 1")


def _connect(training: Engine, validation: Engine) -> None:
    """Let the callbacks of each phase see the other's state, and read the predictions of both."""
    training.state.phase_states["val"] = validation.state
    validation.state.phase_states["train"] = training.state
    if reads_predictions([*training.callbacks, *validation.callbacks]):
        training.reading.is_kept = validation.reading.is_kept = True


def validate(
    model: AbstractModel, val_loader: Iterable[Any], *, metrics: Any, callbacks: Any
) -> dict[str, float]:
    """Return the value of every metric over ``val_loader``; see `Model.validate`."""
    check_has_values(model.device, "validate")
    _check_batched("val", val_loader)
    val_loader = ordered(val_loader, draw_seed(val_loader), "val")
    engine = _validation_engine(model, build_metrics(metrics), callbacks)
    with (
        listening(),
        with_workers_that_leave_signals(val_loader),
        _mode_restored(model),
        model.evaluation(),
    ):
        return dict(engine.run(val_loader).metrics)


def _check_batched(phase: str, loader: Any) -> None:
    """Raise for data in place of a loader: they would give samples, keys or characters."""
    if isinstance(loader, Mapping | str | bytes):
        given = "characters" if isinstance(loader, str) else "bytes" if isinstance(loader, bytes) else "keys"
        raise ParamsError(
            f"the {phase} loader is a {type(loader).__name__}, which gives its {given} as batches; give a "
            "loader of batches: torch.utils.data.DataLoader(dataset, batch_size=32)"
        )
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        raise ParamsError(
            f"the {phase} loader is the dataset {type(loader).__name__}, which gives samples; give a loader "
            "of its batches: torch.utils.data.DataLoader(dataset, batch_size=32)"
        )


def _warn_of_no_validation(metrics: list[Metric], val_callbacks: Any) -> None:
    """Warn of what only a validation would use, in a run that has none."""
    callbacks = build_many("callback", val_callbacks, "val_callbacks")
    unused = {
        "metrics": ([each.name for each in metrics], "set metrics_on_train to compute them in training"),
        "val_callbacks": ([name for name, _ in named(callbacks)], f"move them to {called('callbacks')}"),
    }
    for argument, (names, action) in unused.items():
        if names:
            warnings.warn(
                f"{called(argument)} has {', '.join(map(repr, names))}, and the run has no validation, so it "
                f"has no effect; {ask_for_validation()}, or {action}",
                ArgusWarning,
                stacklevel=4,
            )


def _tell_if_complete(engine: Engine, num_epochs: int, path: Path) -> None:
    done = engine.state.epoch + engine.position.done
    if done >= num_epochs:
        count = f"{done} of {done} epochs" + (
            "" if done == num_epochs else f", and num_epochs is {num_epochs}"
        )
        engine.state.logger.warning(
            "the run of %s is complete (%s); to train longer, %s or more",
            shown(path),
            count,
            ask_for_epochs(done + 1),
        )


def build_metrics(metrics: Any) -> list[Metric]:
    """Build the loss metric and the chosen metrics (names, specs or instances), in that order."""
    chosen: dict[str, Metric] = {"loss": Loss()}
    for metric in build_many("metric", metrics, "metrics"):
        if not isinstance(metric, Metric):
            raise ParamsError(f"metrics has {described(metric)}; give a name, a spec or an argus_core.Metric")
        if not isinstance(getattr(metric, "name", None), str):
            raise ParamsError(f"metric {type(metric).__name__} has no name; set name = '...' in its class")
        if metric.name in FIELDS:
            raise ConflictError(
                f"a metric is named {metric.name!r}, which is a field of every epoch's line; give it "
                "another name"
            )
        if metric.name == "loss" != getattr(type(metric), "name", None):
            raise ConflictError(
                f"{type(metric).__name__} is named 'loss', as the loss is; give it another name"
            )
        if metric.name in chosen and metric.name != "loss":
            raise ConflictError(f"two metrics are named {metric.name!r}; give one of them another name")
        chosen[metric.name] = metric
    return list(chosen.values())


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, torch and (where it is used) numpy.

    Raises:
        ParamsError: torch does not take the seed.
    """
    if not is_seed(seed):
        raise ParamsError(f"seed is {described(seed)}; give an integer that fits into 64 bits, such as 0")
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


class _Validation(Callback):
    """Validates at the end of each epoch, before any other callback sees the metrics."""

    reads_predictions = False
    computes = ()

    def __init__(
        self, model: AbstractModel, loader: Iterable[Any], metrics: list[Metric], callbacks: Any
    ) -> None:
        self.loader = loader
        self.engine = _validation_engine(model, metrics, callbacks, [_Relay()])
        self.engine.num_batches = loader_length(loader)  # a progress bar asks before the first validation

    @hookimpl(tryfirst=True)
    def epoch_complete(self, state: State) -> None:
        state.engine.raise_event("validation_start")
        with _mode_restored(state.model), state.model.evaluation():
            self.engine.run(self.loader, state.epoch + 1, state.epoch)
        state.metrics.update(self.engine.state.metrics)
        state.engine.raise_event("validation_complete")


@contextmanager
def _mode_restored(model: AbstractModel) -> Iterator[None]:
    """Restore the training mode of a model after a validation, also after an exception."""
    was_training = model.nn_module.training
    try:
        yield
    finally:
        if was_training:
            model.train()


class _Relay(Callback):
    """Passes the events of a validation on to the training run's callbacks."""

    reads_predictions = False
    computes = ()

    @hookimpl(trylast=True)
    def iteration_complete(self, state: State) -> None:
        state.phase_states["train"].engine.raise_event("validation_iteration_complete")


def _validation_engine(
    model: AbstractModel, metrics: list[Metric], callbacks: Any, own: Iterable[Callback] = ()
) -> Engine:
    return Engine(
        model.val_step,
        model,
        "val",
        callbacks=[*own, *build_many("callback", callbacks, "val_callbacks")],
        metrics=metrics,
    )

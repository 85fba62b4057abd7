"""Validation: once by itself, and after each epoch of a training run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.asking import ask_for_validation, called
from argus_core.callbacks.audience import named
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.state import State
from argus_core.data.order import draw_seed, loader_length, ordered
from argus_core.data.workers import with_workers_that_leave_signals
from argus_core.errors import ArgusWarning, ParamsError
from argus_core.hooks import hookimpl
from argus_core.metrics import Metric
from argus_core.metrics.build import build_metrics
from argus_core.registry.factory import build_many
from argus_core.tensors.device import check_has_values
from argus_core.training.engine import Engine
from argus_core.training.interruption import listening

__all__ = ["Validation", "check_batched", "validate", "warn_of_no_validation"]


def validate(
    model: AbstractModel, val_loader: Iterable[Any], *, metrics: Any, callbacks: Any
) -> dict[str, float]:
    """Return the value of every metric over ``val_loader``; see `Model.validate`."""
    check_has_values(model.device, "validate")
    check_batched("val", val_loader)
    val_loader = ordered(val_loader, draw_seed(val_loader), "val")
    engine = _validation_engine(model, build_metrics(metrics), callbacks)
    with (
        listening(),
        with_workers_that_leave_signals(val_loader),
        _mode_restored(model),
        model.evaluation(),
    ):
        return dict(engine.run(val_loader).metrics)


class Validation(Callback):
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


def check_batched(phase: str, loader: Any) -> None:
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


def warn_of_no_validation(metrics: list[Metric], val_callbacks: Any) -> None:
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

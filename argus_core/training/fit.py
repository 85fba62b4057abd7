"""A training run: its engine, with metrics, callbacks, schedules and validations."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.keeping import check_apart, check_kept
from argus_core.callbacks.lr_schedule import build_schedules
from argus_core.callbacks.schedule_steps import check_steps
from argus_core.data.order import draw_seed, ordered
from argus_core.data.workers import with_workers_that_leave_signals
from argus_core.errors import ParamsError
from argus_core.metrics.build import build_metrics
from argus_core.registry.factory import build_many, described
from argus_core.steps.reading import reads_predictions
from argus_core.tensors.device import check_has_values
from argus_core.tensors.rng import is_seed
from argus_core.tensors.single_process import check_single_process
from argus_core.training.bounds import RunBounds, warn_if_complete
from argus_core.training.engine import Engine
from argus_core.training.finite_loss import FiniteLoss
from argus_core.training.interruption import listening
from argus_core.training.lengths import Lengths
from argus_core.training.resumption import Resumption
from argus_core.training.running_log import RunningLog
from argus_core.training.sole_writer import SoleWriter
from argus_core.training.validation import Validation, check_batched, warn_of_no_validation
from argus_core.training.validation_schedule import is_midway, scheduled

__all__ = ["fit", "seed_everything"]


def fit(
    model: AbstractModel,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any] | None = None,
    *,
    metrics: Any,
    metrics_on_train: bool,
    callbacks: Any,
    val_callbacks: Any,
    lr_scheduler: Any,
    resume: str | Path | None,
    seed: int | None,
    **lengths: Any,
) -> dict[str, float]:
    """Train ``model`` and return the last value of every metric; see `Model.fit`."""
    _check_arguments(model, train_loader, val_loader)
    chosen_lengths = Lengths(**lengths)
    bounds, cadence = chosen_lengths.bounds, chosen_lengths.validate_every
    resumption = None if resume is None else Resumption(resume)
    if seed is not None:
        seed_everything(seed)
    order_seed = resumption.seed if resumption else draw_seed(train_loader) if seed is None else seed
    train_loader = ordered(train_loader, order_seed, "train")
    val_loader = None if val_loader is None else ordered(val_loader, order_seed, "val")
    chosen = build_metrics(metrics)
    trained = chosen if metrics_on_train else chosen[:1]
    sole_writer = SoleWriter()
    if val_loader is None:
        warn_of_no_validation([] if metrics_on_train else chosen[1:], val_callbacks)
    validation = [] if val_loader is None else [Validation(model, val_loader, chosen, val_callbacks)]
    first, last = scheduled(validation, cadence)
    engine = Engine(
        model.train_step,
        model,
        "train",
        window_size=model.window_size(),
        callbacks=[
            *first,
            FiniteLoss(),
            *RunBounds.of(bounds),
            *build_many("callback", callbacks, "callbacks"),
            *build_schedules(lr_scheduler, model),
            *RunningLog.at(chosen_lengths.log_every),
            *last,
            sole_writer,
        ],
        metrics=copy.deepcopy(trained) if is_midway(cadence) else trained,
    )
    for part in validation:
        _connect(engine, part.engine)
    if first is not validation:  # a schedule validates
        engine.state.validated_at = -1
    chosen_lengths.apply(engine, train_loader, validation)
    engine.seed = order_seed
    check_apart([*engine.callbacks, *(each for part in validation for each in part.engine.callbacks)])
    if resumption is not None:
        resumption.restore(model, engine, train_loader)
        warn_if_complete(engine, bounds, resumption.path)
    check_steps(engine)
    workers = with_workers_that_leave_signals(train_loader, val_loader)
    with sole_writer.releasing(), listening(), workers, model.training():
        model.train()
        state = engine.run(train_loader, bounds.num_epochs)
    check_kept(engine.callbacks, model.logger)
    return dict(state.metrics)


def _check_arguments(model: AbstractModel, train_loader: Any, val_loader: Any) -> None:
    check_single_process("fit")
    check_has_values(model.device, "train")
    for phase, loader in (("train", train_loader), ("val", val_loader)):
        check_batched(phase, loader)


def _connect(training: Engine, validation: Engine) -> None:
    """Let the callbacks of each phase see the other's state, and read the predictions of both."""
    training.state.phase_states["val"] = validation.state
    validation.state.phase_states["train"] = training.state
    if reads_predictions([*training.callbacks, *validation.callbacks]):
        training.reading.is_kept = validation.reading.is_kept = True


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

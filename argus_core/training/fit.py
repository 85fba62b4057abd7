"""A training run: its engine, with metrics, callbacks, schedules and validations."""

from __future__ import annotations

import copy
import random
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.keeping import check_apart, check_kept, choose_forms
from argus_core.callbacks.lr_schedule import build_schedules
from argus_core.callbacks.run_length import RunLength
from argus_core.callbacks.schedule_steps import check_steps
from argus_core.data.description import check_names, describe_data
from argus_core.data.order import draw_seed, ordered, with_workers
from argus_core.errors import ParamsError
from argus_core.metrics import Metric
from argus_core.metrics.build import build_metrics
from argus_core.registry.factory import build_many, described
from argus_core.steps.reading import reads_predictions
from argus_core.tensors.device import check_has_values
from argus_core.tensors.processes import is_first
from argus_core.tensors.rng import is_seed
from argus_core.training.bounds import RunBounds, warn_if_complete
from argus_core.training.dry_run import DryRun
from argus_core.training.engine import Engine
from argus_core.training.finite_loss import FiniteLoss
from argus_core.training.first_sample import FirstSample
from argus_core.training.interruption import listening
from argus_core.training.lengths import Lengths
from argus_core.training.resumption import Resumption
from argus_core.training.running_log import RunningLog
from argus_core.training.sole_writer import SoleWriter
from argus_core.training.together import running_together, share_of, taking_part
from argus_core.training.validation import Validation, warn_of_no_validation
from argus_core.training.validation_schedule import EACH_EPOCH, is_midway, scheduled
from argus_core.training.validation_sets import check_batched, loaders_by_phase

__all__ = ["fit", "seed_everything"]


def fit(
    model: AbstractModel,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None,
    *,
    metrics: Any,
    metrics_on_train: bool,
    callbacks: Any,
    val_callbacks: Any,
    lr_scheduler: Any,
    resume: str | Path | None,
    seed: int | None,
    dry_run: DryRun | None = None,
    **lengths: Any,
) -> dict[str, float]:
    """Train ``model`` and return the last value of every metric; see `Model.fit`.

    A dry run changes the model itself; `argus_core.training.copies` gives it copies.
    """
    check_has_values(model.device, "train")
    check_batched("train", train_loader)
    val_loaders = loaders_by_phase(val_loader)
    chosen = Lengths(**lengths)
    resumption = None if resume is None else Resumption(resume)
    if seed is not None:
        seed_everything(seed)
    order_seed = resumption.seed if resumption else draw_seed(train_loader) if seed is None else seed
    model.data = describe_data({"train": train_loader, **val_loaders})
    for phase, loader in val_loaders.items():
        check_names(phase, loader, model.data)
    run_id = None
    if model.parallel.several:
        order_seed, run_id = _agree(model, {"train": train_loader, **val_loaders}, order_seed, seed)
    share = share_of(model)
    train_loader = ordered(train_loader, order_seed, "train", share)
    val_loaders = {phase: ordered(loader, order_seed, phase, share) for phase, loader in val_loaders.items()}
    all_metrics = build_metrics(metrics)
    if not val_loaders:
        warn_of_no_validation([] if metrics_on_train else all_metrics[1:], val_callbacks)
    validation = _validation(model, val_loaders, all_metrics, val_callbacks, order_seed)
    trained = all_metrics if metrics_on_train else all_metrics[:1]
    own = _callbacks(model, callbacks, lr_scheduler, chosen.of_run(train_loader, model.window_size()))
    sole_writer = SoleWriter()
    engine = _engine(model, trained, own, validation, chosen, [sole_writer], dry_run)
    chosen.apply(engine, train_loader, validation)
    engine.seed, engine.run_id = order_seed, run_id or engine.run_id
    engine.read_first = FirstSample(model)
    if resumption is not None:
        resumption.restore(model, engine, train_loader)
        warn_if_complete(engine, chosen.bounds, resumption.path)
    check_steps(engine)
    batches, end = train_loader, chosen.bounds.num_epochs
    if dry_run:
        batches, end = dry_run.shorten(engine, train_loader, validation)
    writers = [*engine.callbacks, *(each for part in validation for each in part.callbacks)]
    workers = with_workers([train_loader, *val_loaders.values()])
    with sole_writer.releasing(), listening(), workers, model.training(), running_together(engine):
        _begin(model, engine, sole_writer, writers, lengths)
        state = engine.run(batches, end)
        if dry_run:
            dry_run.load(engine, train_loader)
    check_kept(engine.callbacks, model.logger)
    return dict(state.metrics)


def _begin(
    model: AbstractModel,
    engine: Engine,
    sole_writer: SoleWriter,
    writers: list[Any],
    lengths: Mapping[str, Any],
) -> None:
    """Prepare the model and its logs for a run, in which all processes have the same parts."""
    if model.parallel.several:
        from argus_core.training.comparison import agree_on_parts  # lazy: most runs have one process

        agree_on_parts(engine, lengths)
    if is_first():
        sole_writer.lock_logs(writers, model.logger)
    model.train()


def _agree(
    model: AbstractModel, loaders: Mapping[str, Any], order_seed: int, seed: int | None
) -> tuple[int, str]:
    """Compare the processes of a run; return the seed of its order and its identifier."""
    # lazy: most runs have one process
    from argus_core.training.comparison import agree_on_start, check_loaders

    check_loaders(model, loaders)
    return agree_on_start(model, loaders, order_seed, seed is not None, secrets.token_hex(16))


def _validation(
    model: AbstractModel, loaders: Mapping[str, Any], metrics: list[Metric], callbacks: Any, seed: int
) -> list[Validation]:
    """Return the validation of a run, none without loaders."""
    if not loaders:
        return []
    return [Validation(model, loaders, metrics, callbacks, "val_callbacks", dict.fromkeys(loaders, seed))]


def _callbacks(model: AbstractModel, chosen: Any, lr_scheduler: Any, length: RunLength) -> list[Any]:
    """Return the callbacks of training: those of the step strategies, those chosen, and schedules."""
    return [
        *model.step_callbacks(length.updates, length.epochs),
        *build_many("callback", chosen, "callbacks"),
        *build_schedules(lr_scheduler, model, length),
    ]


def _engine(
    model: AbstractModel,
    metrics: list[Metric],
    callbacks: list[Any],
    validation: list[Validation],
    chosen: Lengths,
    last: list[Any],
    dry_run: DryRun | None,
) -> Engine:
    """Return the engine of training, connected with those of validation.

    Args:
        model: to train.
        metrics: of training.
        callbacks: the caller's, and schedules.
        validation: none or one.
        chosen: the lengths; a dry run validates once, at its end.
        last: callbacks that are listed last.
        dry_run: if it is one.
    """
    cadence = EACH_EPOCH if dry_run else chosen.validate_every
    validating, following = scheduled(validation, cadence)
    engine = Engine(
        model.train_step,
        model,
        "train",
        window_size=model.window_size(),
        callbacks=taking_part(
            [
                *validating,
                FiniteLoss(),
                *([] if dry_run else RunBounds.of(chosen.bounds)),
                *callbacks,
                *RunningLog.at(chosen.log_every),
                *following,
                *last,
                *(dry_run.callbacks() if dry_run else ()),
            ]
        ),
        metrics=copy.deepcopy(metrics) if is_midway(cadence) else metrics,
    )
    for part in validation:
        _connect(engine, part)
    if validating is not validation:  # a schedule validates
        engine.state.validated_at = -1
    all_callbacks = [*engine.callbacks, *(each for part in validation for each in part.callbacks)]
    choose_forms(all_callbacks, model.parallel.is_sharded)  # before their files are compared or restored
    check_apart(all_callbacks)
    return engine


def _connect(training: Engine, validation: Validation) -> None:
    """Let the callbacks of each phase see the states of all others, and read the predictions of all."""
    engines = {"train": training, **validation.engines}
    states = {phase: engine.state for phase, engine in engines.items()}
    is_read = reads_predictions([each for engine in engines.values() for each in engine.callbacks])
    for engine in engines.values():
        engine.state.phase_states.update(states)
        engine.reading.is_kept = engine.reading.is_kept or is_read


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

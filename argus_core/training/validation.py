"""Validation: once by itself, and after each epoch of a training run."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.asking import ask_for_validation, called
from argus_core.callbacks.audience import named
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.state import State
from argus_core.data.order import draw_seed, loader_length, ordered, with_workers
from argus_core.errors import ArgusWarning, ConflictError, ParamsError
from argus_core.hooks import hookimpl
from argus_core.metrics import Metric
from argus_core.metrics.build import build_metrics
from argus_core.registry.factory import build_many
from argus_core.tensors.device import check_has_values
from argus_core.tensors.rng import key_seed, own_random_numbers
from argus_core.training.engine import Engine
from argus_core.training.interruption import listening
from argus_core.training.together import evaluating_together, share_of, taking_part
from argus_core.training.validation_sets import callbacks_by_phase, check_names, loaders_by_phase

__all__ = ["Validation", "validate", "warn_of_no_validation"]


def validate(
    model: AbstractModel,
    val_loader: Any,
    *,
    metrics: Any,
    callbacks: Any,
    seed: int | None = None,
    epoch: int = 0,
) -> dict[str, float]:
    """Return the value of every metric over one validation set or several; see `Model.validate`.

    Args:
        model: validated.
        val_loader: a loader, or a dict of them by name.
        metrics: names, specs or instances.
        callbacks: names, specs or instances.
        seed: of the run whose validation this repeats; by default one is drawn.
        epoch: of that run, counting from 0.
    """
    check_has_values(model.device, "validate")
    loaders = loaders_by_phase(val_loader)
    if not loaders:
        raise ParamsError("val_loader is None; give a loader, or a dict of loaders by name")
    seeds = _seeds(loaders) if seed is None else dict.fromkeys(loaders, seed)
    share = share_of(model)
    if share is not None:
        from argus_core.training.comparison import (
            agree_on_seeds,
            check_loaders,
        )  # lazy, as most runs have one

        check_loaders(model, loaders)
        seeds = agree_on_seeds(model, seeds)
    loaders = {phase: ordered(loader, seeds[phase], phase, share) for phase, loader in loaders.items()}
    validation = Validation(model, loaders, build_metrics(metrics), callbacks, "callbacks", seeds)
    with listening(), with_workers(loaders.values()), evaluating_together(model):
        return validation.run(epoch)


class Validation(Callback):
    """Validates at the end of each epoch, before any other callback sees the metrics.

    Several sets are independent of each other: each has metrics and callbacks of its own, and random numbers
    that follow from its name.

    Args:
        model: validated.
        loaders: of each set by phase: ``val`` of a single one, ``val_clean`` of a set with a name.
        metrics: of each set; every set after the first gets copies.
        callbacks: names, specs or instances; of all sets, or a dict of those of each set.
        argument: the name of ``callbacks``, for messages.
        seeds: of the sets' random numbers by phase.
    """

    reads_predictions = False
    computes = ()

    def __init__(
        self,
        model: AbstractModel,
        loaders: Mapping[str, Iterable[Any]],
        metrics: list[Metric],
        callbacks: Any,
        argument: str,
        seeds: Mapping[str, int],
    ) -> None:
        check_names(loaders, metrics)
        self.model = model
        self.loaders = dict(loaders)
        self.engines: dict[str, Engine] = {}
        self._seeds = seeds
        built = callbacks_by_phase(loaders, callbacks, argument)
        for phase, loader in loaders.items():
            own = _copied(metrics, phase) if self.engines else metrics
            engine = Engine(
                model.val_step, model, phase, callbacks=taking_part([_Relay(), *built[phase]]), metrics=own
            )
            engine.num_batches = loader_length(loader)  # a progress bar asks before the first validation
            self.engines[phase] = engine

    @property
    def callbacks(self) -> list[Any]:
        """The callbacks of all sets; one that several share is listed once."""
        return list(
            {id(each): each for engine in self.engines.values() for each in engine.callbacks}.values()
        )

    def run(self, epoch: int = 0) -> dict[str, float]:
        """Validate on every set; return the values of all metrics.

        Args:
            epoch: of the training run, counting from 0.

        Raises:
            ConflictError: two sets compute a value of the same name.
        """
        values: dict[str, float] = {}
        if self.model.parallel.several:
            self.model.parallel.begin_evaluation(self.model)
        with _mode_restored(self.model), self.model.evaluation():
            for phase, engine in self.engines.items():
                with self._random_numbers(phase, epoch):
                    own = engine.run(self.loaders[phase], epoch + 1, epoch).metrics
                for name in own.keys() & values.keys():
                    raise ConflictError(
                        f"two validation sets compute {name!r}; give one of them another name, or put the "
                        "value into state.metrics under a name that begins with state.phase"
                    )
                values.update(own)
        return values

    @hookimpl(tryfirst=True)
    def epoch_complete(self, state: State) -> None:
        state.engine.raise_event("validation_start")
        state.metrics.update(self.run(state.epoch))
        state.engine.raise_event("validation_complete")

    def _random_numbers(self, phase: str, epoch: int) -> Any:
        """Return the context of a set's own random numbers; a single set uses those of the run."""
        return (
            nullcontext()
            if phase == "val"
            else own_random_numbers(key_seed(self._seeds[phase], phase, epoch))
        )


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
        training = state.phase_states.get("train")
        if training is not None:
            training.validating = state
            training.engine.raise_event("validation_iteration_complete")
            training.validating = None


def _copied(metrics: list[Metric], phase: str) -> list[Metric]:
    """Return copies of metrics, whose state is that of one set only."""
    copies: list[Metric] = []
    for metric in metrics:
        try:
            copies.append(copy.deepcopy(metric))
        except Exception as error:  # of whatever its class keeps
            raise ParamsError(
                f"metric {metric.name!r} cannot be copied for {phase} ({type(error).__name__}: {error}); "
                "each validation set needs one, so make its class one that copy.deepcopy can copy"
            ) from error
    return copies


def _seeds(loaders: Mapping[str, Iterable[Any]]) -> dict[str, int]:
    """Return the seed of each loader: one number from torch's generator, or from a loader's own."""
    if "val" in loaders:
        return {"val": draw_seed(loaders["val"])}
    shared = int(torch.randint(2**62, ()))
    owned = {phase: getattr(each, "generator", None) is not None for phase, each in loaders.items()}
    return {phase: draw_seed(each) if owned[phase] else shared for phase, each in loaders.items()}


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

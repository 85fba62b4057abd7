"""The model: trains, validates and predicts as pytorch-argus does, and saves its files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from argus import types
from argus.callbacks.callback import FunctionCallback, attach_callbacks
from argus.callbacks.logging import default_logging
from argus.engine.engine import Engine, Events, State
from argus.errors import LearningRateError, also
from argus.metrics.loss import Loss
from argus.metrics.metric import attach_metrics
from argus.model.build import BuildModel
from argus_core import ArgusError, ArgusWarning, SpecError, resolve
from argus_core.authors import build_many, deep_map, replacement

__all__ = ["Model"]


class Model(BuildModel, name="argus.Model"):
    """Network, optimizer, loss, device and prediction transform, which are trained and used together.

    A subclass has them as class attributes: a class, a dict of classes, or a name.
    """

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        name = name or cls.__name__
        before = _target(name)
        with warnings.catch_warnings():
            # Classes that are defined in functions do not warn.
            warnings.simplefilter("ignore", ArgusWarning)
            super().__init_subclass__(name=name, **kwargs)
        if before:
            warnings.warn(
                f"model {name!r} was {before} and is {cls.__module__}:{cls.__qualname__} now; give one of "
                "them another name",
                ArgusWarning,
                stacklevel=3,  # past `ABCMeta.__new__`
            )

    def fit(  # type: ignore[override]
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        num_epochs: int = 1,
        metrics: Any = None,
        metrics_on_train: bool = False,
        callbacks: Any = None,
        val_callbacks: Any = None,
    ) -> dict[str, Any]:
        """Train, validate before the first epoch and after each, and return the last metrics.

        Args:
            train_loader: an iterable of batches; its order is not changed.
            val_loader: the batches to validate on.
            num_epochs: the number of passes over ``train_loader``.
            metrics: names and instances; computed in validation.
            metrics_on_train: whether to compute them in training too.
            callbacks: for the events of training.
            val_callbacks: for the events of validation.
        """
        self._check_train_ready()
        metrics = build_many("metric", metrics, "metrics")
        phase_states: dict[str, State] = {}
        engine = _engine(self.train_step, phase_states, metrics if metrics_on_train else [])
        if val_loader is not None:
            validation = _engine(self.val_step, phase_states, metrics)
            attach_callbacks(validation, val_callbacks)
            for event in (Events.START, Events.EPOCH_COMPLETE):
                attach_callbacks(engine, [_validation(event, validation, val_loader)])
        attach_callbacks(engine, callbacks)
        return engine.run(train_loader, 0, num_epochs).metrics

    def validate(
        self, val_loader: Iterable[Any], metrics: Any = None, callbacks: Any = None
    ) -> dict[str, Any]:
        """Return ``val_loss`` and the value of every metric over ``val_loader``."""
        self._check_train_ready()
        engine = _engine(self.val_step, {}, metrics)
        attach_callbacks(engine, callbacks)
        return engine.run(val_loader, -1, 0).metrics

    def train_step(self, batch: Any, state: Any = None) -> dict[str, Any]:
        """Make one optimizer update from a batch; return prediction, target and loss."""
        self._check_train_ready()
        with also(TypeError):
            return dict(super().train_step(batch, state))

    def val_step(self, batch: Any, state: Any = None) -> dict[str, Any]:
        """Return prediction, target and loss of a batch, in evaluation mode, without gradients."""
        self._check_train_ready()
        with also(TypeError):
            return dict(super().val_step(batch, state))

    def predict(self, input: Any) -> Any:
        """Return the prediction for an input batch, after prediction_transform, on the device."""
        self._check_predict_ready()
        with also(TypeError):
            return super().predict(input)

    def get_lr(self) -> float | list[float]:
        """Return the learning rate, or a list with one for each parameter group."""
        self._check_train_ready()
        return super().get_lr()

    def set_lr(self, lr: float | Iterable[float]) -> None:
        """Set the learning rate of all parameter groups, or one for each from a list.

        Raises:
            LearningRateError: a value is not a rate, or their number is not that of the groups.
        """
        self._check_train_ready()
        try:
            super().set_lr(lr)
        except SpecError as error:
            raise LearningRateError(str(error)) from error

    def train(self, mode: bool = True) -> None:
        """Put the network in training mode, or in evaluation mode; the loss keeps its own."""
        self.nn_module.train(mode)

    def eval(self) -> None:
        """Put the network in evaluation mode; the loss keeps its own."""
        self.nn_module.eval()

    def save(
        self,
        file_path: types.Path,
        optimizer_state: bool = False,
        run: Mapping[str, Any] | None = None,
        progress: Mapping[str, Any] | None = None,
        write: Callable[..., None] | None = None,
    ) -> None:
        """Write the model to a file, whole or not at all, to be loaded with `load_model`; log which.

        Args:
            file_path: a name that ends in ``.safetensors`` or ``.sharded`` gives a checkpoint of
                argus_core; any other name
                one of pytorch-argus, which that library can read too.
            optimizer_state: whether to keep the optimizer's state.
            run, progress, write: of a checkpoint of argus_core only; see `argus_core.Model.save`.
        """
        if Path(file_path).suffix.lower() in (".safetensors", ".sharded"):
            given = {} if write is None else {"write": write}
            super().save(file_path, optimizer_state, run, progress, **given)
        else:
            state = self._state(optimizer_state)
            with replacement(file_path) as file:
                torch.save(state, file)
        if run is None:  # from a checkpoint callback of argus_core, which logs the file
            self.logger.info("saved %s", file_path)

    def _state(self, optimizer_state: bool) -> dict[str, Any]:
        """Return the contents of a file of pytorch-argus, on the CPU."""
        state: dict[str, Any] = {
            "model_name": type(self).__name__,
            "params": self.params,
            "nn_state_dict": dict(self.get_nn_module().state_dict()),
        }
        if optimizer_state and self.optimizer is not None:
            state["optimizer_state_dict"] = self.optimizer.state_dict()
        return {key: deep_map(value, torch.Tensor.cpu) for key, value in state.items()}


def _target(name: str) -> str:
    """Return the class of a model's name, or ``""``."""
    try:
        return resolve("model", name).target
    except ArgusError:  # the name is unknown, or several plugins have it
        return ""


def _engine(step: Callable[..., Any], phase_states: dict[str, State], metrics: Any) -> Engine:
    engine = Engine(step, phase_states)
    attach_metrics(engine, [Loss()])
    attach_metrics(engine, metrics)
    attach_callbacks(engine, [default_logging])
    return engine


def _validation(event: Events, validation: Engine, val_loader: Iterable[Any]) -> FunctionCallback:
    def validate(state: State) -> None:
        epoch = -1 if event is Events.START else state.epoch
        validation.run(val_loader, epoch, epoch + 1)
        if event is Events.EPOCH_COMPLETE:
            state.metrics.update(validation.state.metrics)

    return FunctionCallback(event, validate)

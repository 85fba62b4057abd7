"""The model: a network, loss, optimizer, device and prediction transform, trained and used as one."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from argus_core.checkpoint import saving as checkpoint
from argus_core.checkpoint.finiteness import Finiteness
from argus_core.errors import (
    ArgusWarning,
    BuildError,
    ConflictError,
    ParamsError,
    SpecError,
    StateMismatchError,
)
from argus_core.files.output_files import checked_path
from argus_core.model.assembly import Assembly, unchanged
from argus_core.model.choice import build_strategies, check_params
from argus_core.registry import registry
from argus_core.registry.file_params import check_file_params
from argus_core.registry.part import load_all
from argus_core.steps.composition import Composed
from argus_core.steps.modes import Modes
from argus_core.steps.output import StepOutput, Window
from argus_core.steps.reading import lets_go
from argus_core.steps.reduction import check_loss, mean_divisor
from argus_core.steps.updater import Updater
from argus_core.steps.weights import method_of
from argus_core.storage import write
from argus_core.tensors.dimensions import BatchDim, check_batch_dim
from argus_core.tensors.samples import batch_size

__all__ = ["Model"]


class Model(Assembly):
    """Everything that training, saving and predicting need, each part chosen by name.

    Args:
        params: plain data: for each of ``nn_module``, ``loss``, ``optimizer`` and
            ``prediction_transform`` a name, ``(name, {params})`` or ``None``; ``step``: a strategy or a
            list of them; ``device``: ``"auto"``, a device or a list of CUDA devices; ``batch_dim``: where the
            samples of a batch are, if they are not in the first dimension of its tensors.

    A subclass may fix a part by a class attribute (a class), offer a choice (a dict of classes) or name
    one; ``params`` then hold ``{params}``, ``(name, {params})`` or a name. It is registered in process
    under its class name, or another: ``class Segmenter(Model, name="medseg-segmenter")``.

    Raises:
        ParamsError: ``params`` are not plain data, or a factory does not take them.
        SpecError: a choice has the wrong shape.
        UnknownNameError: nobody provides a name.
        ConflictError: step strategies do not go together.

    Attributes:
        params: as given.
        parts: what was chosen for each part.
        nn_module: the network, on the device; wrapped in `torch.nn.DataParallel` on several devices.
        loss: called with prediction and target, returns a 0-d tensor.
        optimizer: over the parameters of network and loss that require grad.
        prediction_transform: called with the network's prediction; returns it as it is if none is chosen.
        device: where batches go and predictions come from.
        batch_dim: the dimension of the samples in all tensors of a batch, or a list or dict like the batch
            with one for each entry (``"entries"`` for a list of samples, ``None`` for what belongs to every
            sample); a subclass may set it.
    """

    batch_dim: BatchDim = None
    warned_unregistered = False

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _register(cls, name or cls.__name__)

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.logger = self.build_logger()
        self.params = self.check_params(params)
        self.batch_dim = check_batch_dim(self.params.get("batch_dim", type(self).batch_dim))
        self.parts = self.choose_parts()
        self.step_parts = self.choose_steps()
        load_all([*self.parts.values(), *self.step_parts])
        self._check_sources()
        self._check_overrides()
        with self._limited("step", "step"):
            self._composed = Composed(build_strategies(self.step_parts))
        self._updater: Updater | None = None
        self._finiteness = Finiteness()
        for slot in self.build_order:
            self.build_slot(slot)
        if self.prediction_transform is None:
            self.prediction_transform = unchanged
        self._modes = Modes(self)
        self._composed.check(self)

    def __repr__(self) -> str:
        shown = [f"{slot}={part.shown}" for slot, part in getattr(self, "parts", {}).items() if part]
        steps = [part.shown for part in getattr(self, "step_parts", ())]
        shown += [f"step=[{', '.join(steps)}]"] if steps else []
        shown += [f"device={str(self.get_device())!r}"] if hasattr(self, "_devices") else []
        return f"{type(self).__name__}({', '.join(shown)})"

    def build_logger(self) -> logging.Logger:
        """Return the logger for the messages of callbacks."""
        return logging.getLogger("argus_core.runs.run")

    def check_params(self, params: Any) -> dict[str, Any]:
        """Return the model's own copy of ``params``.

        Raises:
            ParamsError: they are not plain data.
            SpecError: they are no dict, or have a key that nobody reads.
        """
        return check_params(params, open_ended=type(self) is not Model)

    # Training and prediction.

    def fit(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        num_epochs: int = 1,
        metrics: Any = None,
        metrics_on_train: bool = False,
        callbacks: Any = None,
        val_callbacks: Any = None,
        lr_scheduler: Any = None,
        resume: str | Path | None = None,
        seed: int | None = None,
    ) -> dict[str, float]:
        """Train and return the last value of every metric: ``train_loss``, ``val_accuracy`` and so on.

        Args:
            train_loader: any iterable of batches.
            val_loader: validated on after each epoch.
            num_epochs: how often to go through ``train_loader``.
            metrics: names, specs or instances; computed in validation.
            metrics_on_train: compute them in training, too.
            callbacks: names, specs or instances.
            val_callbacks: callbacks for the events of validation.
            lr_scheduler: a spec, or several, of a torch scheduler, with ``interval="epoch"`` (default) or
                ``"update"``; `ReduceLROnPlateau` also takes ``monitor="val_loss"``.
            resume: a checkpoint with the state of its run, or a folder that holds some: the run goes on from
                there, up to ``num_epochs`` in all, as if it had never stopped: on a CPU to the last bit, with
                any ordinary DataLoader.
            seed: seeds the generators of Python, numpy and torch, and the order of an ordinary DataLoader.
        """
        if type(self).train_step is Model.train_step:
            self._check_ready("train", "loss", "optimizer")
        from argus_core.training.fit import fit  # predicting needs none of it

        return fit(
            self,
            train_loader,
            val_loader,
            num_epochs=num_epochs,
            metrics=metrics,
            metrics_on_train=metrics_on_train,
            callbacks=callbacks,
            val_callbacks=val_callbacks,
            lr_scheduler=lr_scheduler,
            resume=resume,
            seed=seed,
        )

    def validate(
        self, val_loader: Iterable[Any], metrics: Any = None, callbacks: Any = None
    ) -> dict[str, float]:
        """Return ``val_loss`` and the value of every metric over ``val_loader``."""
        if type(self).val_step is Model.val_step:
            self._check_ready("validate", "loss")
        from argus_core.training.fit import validate

        return validate(self, val_loader, metrics=metrics, callbacks=callbacks)

    @lets_go
    def train_step(self, batch: Any, state: Any = None) -> Mapping[str, Any]:
        """Make one optimizer update from a loader batch, or a `Window` of several.

        Returns ``prediction`` and ``target`` on the device and ``loss``, a float.
        """
        updater = self._updater or self._compile()
        if self.optimizer is None:
            self._check_ready("train", "loss", "optimizer")
        if updater.evaluation.held is not None:  # a callback trains while others evaluate
            with updater.evaluation.left():
                return self.train_step(batch, state)
        if not self.nn_module.training:
            self.train()
        if type(batch) is not Window:
            if updater.slots.is_plain:
                return updater.run_plain(batch)
            batch = (batch,)
        return updater.run(batch, getattr(getattr(state, "engine", None), "reading", None))

    @lets_go
    def val_step(self, batch: Any, state: Any = None) -> Mapping[str, Any]:
        """Return prediction, target and loss of a loader batch, in evaluation mode, without gradients."""
        updater = self._updater or self._compile()
        if self.nn_module.training:
            self.eval()
        with torch.no_grad(), updater.evaluation.going_on():
            prepared = updater.prepare(batch)
            with updater.slots.forward_context():
                prediction, target, loss = self.forward_loss(prepared)
        check_loss(loss, on_graph=False)
        is_sum = updater.weights.is_sum()
        weight = updater.weights.of_batch(prepared, prediction, target, is_sum)
        return StepOutput(self, [(prediction, target)], loss, weight, stepped=True, is_sum=is_sum)

    def forward_loss(self, batch: Any) -> tuple[Any, Any, torch.Tensor]:
        """Return prediction, target and loss (0-d, on the graph) of a batch on the device.

        Override it for another computation: every step strategy keeps working.
        """
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:  # a tensor of two samples unpacks, too
            raise BuildError(
                f"a batch is {type(batch).__name__}, not a pair (input, target); "
                "override forward_loss for others, or give a loader of pairs: "
                "torch.utils.data.DataLoader(torch.utils.data.TensorDataset(input, target), batch_size=32)"
            )
        input, target = batch
        prediction = self.nn_module(input)
        loss = self.loss
        if loss is None:
            self._check_ready("compute a loss", "loss")
        return prediction, target, loss(prediction, target)

    def loss_reduction(self) -> str:
        """Return how the loss joins its samples: ``"mean"``, or ``"sum"``.

        Micro-batches then just add up, and an epoch's loss is the mean over the samples.
        """
        reduction: str = getattr(self.loss, "reduction", "mean")
        return reduction

    def batch_size(self, batch: Any) -> int:
        """Return the number of samples of a batch on the device; see `argus_core.tensors.samples.batch_size`.

        Override it for batches that do not tell it, such as graphs.

        Raises:
            ParamsError: it cannot be told without guessing.
        """
        return batch_size(batch, self.batch_dim)

    def loss_weight(self, batch: Any) -> float | torch.Tensor:
        """Return what a batch on the device counts in the mean of its window, and of its epoch.

        That is what its mean loss divides by: its samples, or the class weights of the targets that are not
        ignored. Override it beside a `forward_loss` that takes another mean, over tokens for example.
        """
        return mean_divisor(self.loss, batch, method_of(self, "batch_size"))

    def predict(self, input: Any) -> Any:
        """Return the prediction for an input batch, after prediction_transform, on the device.

        Raises:
            ParamsError: ``input`` is a loader, or holds no tensor and the network raised an exception.
        """
        if isinstance(input, DataLoader):
            raise ParamsError(
                "predict takes the input of one batch, not a DataLoader; call it for each batch, as in "
                "[model.predict(batch[0]) for batch in loader]"
            )
        updater = self._updater or self._compile()
        if self.nn_module.training:
            self.eval()
        try:
            with torch.no_grad(), self.evaluation():
                prepared = updater.prepare(input)
                with updater.slots.forward_context():
                    prediction = self.nn_module(prepared)
                return self.transform_prediction(prediction)
        except Exception as error:
            from argus_core.training.exception_note import note_prediction  # few predictions fail

            note_prediction(error, self, input)
            raise

    def transform_prediction(self, prediction: Any) -> Any:
        """Return a network's prediction after prediction_transform, off the graph."""
        finish_prediction = (self._updater or self._compile()).finish_prediction
        if not finish_prediction and self.prediction_transform is unchanged:
            return prediction
        with torch.no_grad():
            for finish in finish_prediction:
                prediction = finish(prediction)
            return self.prediction_transform(prediction)

    def evaluation(self) -> AbstractContextManager[None]:
        """Return the context that step strategies put around a whole validation or prediction."""
        return (self._updater or self._compile()).evaluation.going_on()

    def training(self) -> AbstractContextManager[None]:
        """Return the context in which the model is as it is trained, within an `evaluation` too."""
        return self._updater.evaluation.left() if self._updater else nullcontext()

    # State.

    def save(
        self,
        file_path: str | Path,
        optimizer_state: bool = False,
        run: Mapping[str, Any] | None = None,
        progress: Mapping[str, Any] | None = None,
        write: checkpoint.Write = write,
    ) -> None:
        """Write the model to ``file_path``, whole or not at all, to be loaded with `load_model`.

        Args:
            file_path: ``*.safetensors``; parent folders are made.
            optimizer_state: whether to keep the optimizer's state, and `extra_state`, for training on.
            run: plain data about the run (epoch, metrics) that `argus inspect` shows.
            progress: how far the run is, where ``fit(resume=...)`` is to go on from the file.
            write: puts tensors and manifest into the file; the storage's own writer by default.
        """
        with self.training():
            checkpoint.save_model(
                self,
                checked_path("save", "file_path", file_path),
                optimizer_state=optimizer_state,
                run=run,
                progress=progress,
                write=write,
            )

    def train(self) -> None:
        """Put network and loss in training mode; a submodule that was in evaluation mode is so again."""
        self._modes.train(self)

    def eval(self) -> None:
        """Put network and loss in evaluation mode."""
        self._modes.eval(self)

    def module_modes(self) -> dict[str, list[str]]:
        """Return which submodules stay in evaluation mode in training, by slot, for a checkpoint."""
        return self._modes.state(self)

    def load_module_modes(self, modes: Mapping[str, Sequence[str]]) -> None:
        """Restore what `module_modes` returned; the model itself stays in its mode."""
        self._modes.load_state(self, modes)

    def is_finite(self, optimizer_state: bool = True) -> bool:
        """Return whether neither nan nor inf is in the model's weights; waits for the device.

        Those of network and loss count, their averages, and buffers that were finite when this was first
        asked: a mask may hold ``-inf``.

        Args:
            optimizer_state: whether the optimizer's state counts, too.
        """
        with self.training():
            return self._finiteness.holds(self, optimizer_state)

    def train_ready(self) -> bool:
        """Return whether there is what training needs: network, loss and optimizer."""
        return not self._missing("loss", "optimizer")

    def predict_ready(self) -> bool:
        """Return whether there is what prediction needs: a network."""
        return isinstance(self.nn_module, nn.Module)

    def get_lr(self) -> float | list[float]:
        """Return the learning rate, or a list with one for each parameter group."""
        rates = [float(group["lr"]) for group in self._optimizer().param_groups]
        return rates[0] if len(rates) == 1 else rates

    def set_lr(self, lr: float | Iterable[float]) -> None:
        """Set the learning rate of all parameter groups, or one for each from a list."""
        groups = self._optimizer().param_groups
        rates = _rates(lr, len(groups))
        if len(rates) != len(groups):
            raise SpecError(
                f"set_lr got {len(rates)} rates for {len(groups)} parameter groups; give one for each"
            )
        for group, rate in zip(groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def explain(self) -> str:
        """Return a drawing of one optimizer update: every slot, who sits in it and from which package."""
        from argus_core.steps.explanation import explain  # few runs draw their update

        return explain(self, self._composed)

    def traits(self) -> set[str]:
        """Return what step strategies may conflict with or require, such as ``optimizer:LBFGS``."""
        traits = {f"optimizer:{type(self.optimizer).__name__}"} if self.optimizer is not None else set()
        if any(group.get("fused") for group in getattr(self.optimizer, "param_groups", ())):
            traits.add("fused_optimizer")
        if isinstance(self.optimizer, Optimizer) and _needs_closure(self.optimizer):
            traits.add("needs_closure")
        if len(self._devices) > 1:
            traits.add("data_parallel")
        return traits

    def step_traits(self) -> set[str]:
        """Return the traits of all its step strategies: their names, and ``grad_scaler`` for one."""
        return set().union(*self._composed.traits(self).values())

    def step_members(self, slot: str) -> list[str]:
        """Return the names of the step strategies that act in a slot, in order."""
        return [strategy.name for strategy in self._composed.members(slot, self)]

    def step_state(self) -> dict[str, dict[str, Any]]:
        """Return the state of each step strategy that has some, by name: averages, loss scale."""
        return self._composed.state()

    def evaluated_state(self) -> dict[str, str]:
        """Return for each step strategy whose tensors evaluation uses their key in its state."""
        return self._composed.evaluated()

    def load_step_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Give each step strategy its state back, all of it before the next update or prediction.

        Raises:
            StateMismatchError: a state does not fit its strategy or the network.
        """
        self._composed.load_state(state)
        self._compile()

    def extra_state(self) -> dict[str, Any]:
        """Return what training on needs and no part holds, such as a second optimizer's state.

        Plain data and tensors; `save` keeps it where it keeps the optimizer's state. Override it together
        with `load_extra_state`.
        """
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `extra_state` returned; `load_model` calls it last, but not with ``optimizer=None``.

        Raises:
            StateMismatchError: the state does not fit; whatever else is raised becomes one.
        """
        raise StateMismatchError(
            f"the file has extra state ({', '.join(map(str, state))}), and {type(self).__name__} takes none; "
            "override load_extra_state, or load with optimizer=None"
        )

    def window_size(self) -> int:
        """Return how many loader batches make one update."""
        return (self._updater or self._compile()).window_size

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        """Return a copy as it is trained, whatever is going on with this one."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        with self.training():
            vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    # Inside.

    def _compile(self) -> Updater:
        self._composed.check(self)  # the device may be another one now
        self._updater = Updater(self, self._composed, Model)
        return self._updater

    def _check_sources(self) -> None:
        """Refuse what a file must not set before anything is built."""
        for part in filter(None, (*self.parts.values(), *self.step_parts)):
            check_file_params(part.label, part.factory, part.params)

    def _check_overrides(self) -> None:
        others = [part.label for part in self.step_parts if part.name != "default"]
        if others and type(self).train_step is not Model.train_step:
            raise ConflictError(
                f"{type(self).__name__} overrides train_step, so {others[0]} would never be called; "
                "override forward_loss instead, or leave step out"
            )

    def _optimizer(self) -> Optimizer:
        self._check_ready("use a learning rate", "optimizer")
        optimizer: Optimizer = self.optimizer
        return optimizer

    def _missing(self, *slots: str) -> list[str]:
        """Return which parts are not there; whoever computes the loss alone needs no loss part."""
        own_loss = type(self).forward_loss is not Model.forward_loss
        return [slot for slot in slots if getattr(self, slot) is None and not (slot == "loss" and own_loss)]

    def _check_ready(self, purpose: str, *slots: str) -> None:
        missing = self._missing(*slots)
        if missing:
            raise BuildError(
                f"the model has no {' and no '.join(missing)}, so it cannot {purpose}; "
                f"name one in params, or load it without {missing[0]}=None"
            )


def _rates(lr: Any, count: int) -> list[float]:
    """Return learning rates, as many as were given or ``count`` times one."""
    several = isinstance(lr, Iterable) and not isinstance(lr, str) and getattr(lr, "ndim", 1) > 0
    try:
        rates = [float(rate) for rate in lr] if several else [float(lr)] * count
    except (TypeError, ValueError):
        rates = [math.nan]
    if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
        raise SpecError(f"set_lr got {lr!r}; give a number that is not negative, or a list of such numbers")
    return rates


def _needs_closure(optimizer: Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _register(cls: type[Model], name: str) -> None:
    """Register a model class; where two share a name the newest has it, since no import may fail for it."""
    try:
        registry.register("model", name, cls)
    except ConflictError as error:
        registry.register("model", name, cls, override=True)
        if "<locals>" not in cls.__qualname__:  # classes made in functions come and go
            warnings.warn(
                f"{error}; the name now means {cls.__module__}:{cls.__qualname__}, "
                f'and class {cls.__name__}(Model, name="...") gives it another',
                ArgusWarning,
                stacklevel=4,  # past `ABCMeta.__new__`
            )

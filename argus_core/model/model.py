"""`Model`: a network, loss, optimizer, device and prediction transform, for training and prediction.

The module is long because it is one class, which users read and override as a whole.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from argus_core.model.untrained import warn_of_untrained
from argus_core.parallel.single import Single, alike_in_all
from argus_core.registry import registry
from argus_core.registry.file_params import check_file_params
from argus_core.registry.part import load_all
from argus_core.steps.composition import Composed
from argus_core.steps.modes import Modes
from argus_core.steps.output import StepOutput, Window
from argus_core.steps.reading import releases_output
from argus_core.steps.reduction import mean_divisor, reduction_of
from argus_core.steps.shares import check_loss
from argus_core.steps.updater import Updater
from argus_core.steps.weights import Weights, method_of
from argus_core.tensors.dimensions import BatchDim, check_batch_dim
from argus_core.tensors.samples import batch_size
from argus_core.tensors.single_process import started_processes

if TYPE_CHECKING:
    from argus_core.data.description import DataDescription
    from argus_core.model.summary import Summary
    from argus_core.prediction.predictions import Predictions
    from argus_core.training.dry_run import DryRun

__all__ = ["Model"]


class Model(Assembly):
    """A network with loss, optimizer, prediction transform and device, each chosen by name.

    Args:
        params: plain data: for each of ``nn_module``, ``loss``, ``optimizer`` and
            ``prediction_transform`` a name, ``(name, {params})`` or ``None``; ``step``: a strategy or a
            list of them; ``device``: ``"auto"``, a device or a list of CUDA devices; ``parallel``: the
            engine of a run of several processes, ``"auto"`` by default; ``batch_dim``: the
            dimension of the samples in a batch, if it is not the first dimension of its tensors; ``freeze``:
            a pattern, or a list of patterns, of the names of parameters that do not learn; ``init_from``: a
            file of weights to start from, or a dict with its ``path`` and what to take of it.

    A subclass may fix a part by a class attribute (a class), offer a choice (a dict of classes) or name
    one; ``params`` then hold ``{params}``, ``(name, {params})`` or a name. A subclass is registered in this
    process under its class name, or under ``name``: ``class Segmenter(Model, name="medseg-segmenter")``.

    Raises:
        ParamsError: ``params`` are not plain data, or a factory does not take them.
        SpecError: a choice has the wrong shape.
        UnknownNameError: no installed package provides a name.
        ConflictError: two step strategies conflict.

    Attributes:
        params: as given.
        parts: the chosen component of each part.
        nn_module: the network, on the device; wrapped in `torch.nn.DataParallel` on several devices.
        loss: called with prediction and target, returns a 0-d tensor.
        optimizer: over the parameters of network and loss that require grad.
        prediction_transform: called with the network's prediction; by default returns it unchanged.
        device: of batches and predictions.
        parallel: the engine of several processes; `Single` in a run of one.
        initial_weights: what was taken from the file of ``init_from``, if any; ``print`` it.
        batch_dim: the dimension of the samples in all tensors of a batch, or a list or dict like the batch
            with one for each entry (``"entries"`` for a list of samples, ``None`` for an entry that belongs
            to every sample); a subclass may set it.
    """

    batch_dim: BatchDim = None
    warned_unregistered = False
    _finiteness: Finiteness | None = None
    _data: DataDescription | None = None

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _register(cls, name or cls.__name__)

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.logger = self.build_logger()
        self.params = self.check_params(params)
        self.batch_dim = check_batch_dim(self.params.get("batch_dim", type(self).batch_dim))
        self.parts = self.choose_parts()
        self.step_parts = self.choose_steps()
        self.parallel = self.choose_parallel()
        load_all([*self.parts.values(), *self.step_parts])
        self._check_sources()
        self._check_overrides()
        with self._limited("step", "step"):
            self._composed = Composed(build_strategies(self.step_parts))
        self._updater: Updater | None = None
        with alike_in_all():
            for part in self.build_order:
                self.set_part(part)
        if self.prediction_transform is None:
            self.prediction_transform = unchanged
        self._modes = Modes(self)
        self._composed.check(self)
        for strategy in self._composed.unfreezing():
            strategy.hold(self)

    def __repr__(self) -> str:
        shown = [f"{name}={part.shown}" for name, part in getattr(self, "parts", {}).items() if part]
        steps = [part.shown for part in getattr(self, "step_parts", ())]
        shown += [f"step=[{', '.join(steps)}]"] if steps else []
        shown += [f"device={str(self.get_device())!r}"] if hasattr(self, "_devices") else []
        return f"{type(self).__name__}({', '.join(shown)})"

    def build_logger(self) -> logging.Logger:
        """Return the logger for the messages of callbacks."""
        return logging.getLogger("argus_core.runs.run")

    def build_weights(self, of_step: Callable[[Any], float | torch.Tensor] | None) -> Weights:
        """Return the object that weights losses in the means of windows and epochs.

        Override it to weight them in another way than by `loss_weight`.

        Args:
            of_step: the weight of a micro-batch that a step strategy gives, if any.
        """
        return Weights(self, Model, of_step)

    def check_params(self, params: Any) -> dict[str, Any]:
        """Return a copy of ``params`` after checks.

        Raises:
            ParamsError: they are not plain data.
            SpecError: they are not a dict, or have an unknown key.
        """
        return check_params(params, open_ended=type(self) is not Model)

    # Training and prediction.

    def fit(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None,
        num_epochs: int | None = None,
        metrics: Any = None,
        metrics_on_train: bool = False,
        callbacks: Any = None,
        val_callbacks: Any = None,
        lr_scheduler: Any = None,
        resume: str | Path | None = None,
        seed: int | None = None,
        *,
        num_updates: int | None = None,
        max_time: str | None = None,
        validate_every: str = "1ep",
        log_every: str | None = None,
        limit_train: float | None = None,
        limit_val: float | None = None,
        dry_run: bool | DryRun = False,
    ) -> dict[str, float]:
        """Train, and return the last value of every metric: ``train_loss``, ``val_accuracy`` and so on.

        Args:
            train_loader: any iterable of batches.
            val_loader: for a validation after each epoch, or as ``validate_every`` says; for several sets a
                dict of loaders by name, ``{"clean": loader}``, which gives ``val_clean_loss`` and so on.
            num_epochs: the most passes over ``train_loader``; without any bound the run makes one.
            metrics: names, specs or instances; computed in validation.
            metrics_on_train: whether to compute them in training, too.
            callbacks: names, specs or instances.
            val_callbacks: callbacks for the events of validation; a dict for own ones of each set.
            lr_scheduler: a spec, or several, of a torch scheduler, with ``interval="epoch"`` (default) or
                ``"update"``; `ReduceLROnPlateau` also takes ``monitor="val_loss"``.
            resume: a checkpoint with the state of its run, or a folder of such checkpoints. The run resumes
                from there, and its bounds count all of it. With an ordinary DataLoader on a CPU the result is
                bit for bit that of an uninterrupted run.
            seed: seeds the generators of Python, numpy and torch, and the order of an ordinary DataLoader.
            num_updates: the most updates that move the weights.
            max_time: the most time, ``"90min"`` or ``"3h"``. The run ends after the update that reaches the
                first of its bounds, and ``state.stop_reason`` says which.
            validate_every: ``"2ep"``, ``"500up"`` or ``"30min"``; the end of the run validates in any case.
            log_every: ``"100up"`` or ``"1min"``: how often to log the metrics of training so far.
            limit_train: the most updates in an epoch, or a share of an epoch such as ``0.1``.
            limit_val: the most batches in a validation, or a share.
            dry_run: whether to try the run on copies of the model and of callbacks and metrics: one update,
                one batch of each validation set, and a checkpoint saved and loaded. Nothing of it is kept.
        """
        if type(self).train_step is Model.train_step:
            self._check_ready("train", "loss", "optimizer")
            warn_of_untrained(self)
        from argus_core.training.copies import rehearse  # lazy: prediction does not need them
        from argus_core.training.fit import fit
        from argus_core.training.together import fitting_together

        options = {
            "num_epochs": num_epochs,
            "num_updates": num_updates,
            "max_time": max_time,
            "validate_every": validate_every,
            "log_every": log_every,
            "limit_train": limit_train,
            "limit_val": limit_val,
            "metrics": metrics,
            "metrics_on_train": metrics_on_train,
            "callbacks": callbacks,
            "val_callbacks": val_callbacks,
            "lr_scheduler": lr_scheduler,
            "resume": resume,
            "seed": seed,
        }
        with fitting_together(self):
            if dry_run is True:
                return rehearse(fit, self, {"train_loader": train_loader, "val_loader": val_loader}, options)
            return fit(self, train_loader, val_loader, **options, dry_run=dry_run or None)

    def validate(
        self,
        val_loader: Iterable[Any] | Mapping[str, Iterable[Any]],
        metrics: Any = None,
        callbacks: Any = None,
    ) -> dict[str, float]:
        """Return ``val_loss`` and the value of every metric over ``val_loader``.

        A dict of loaders by name, ``{"clean": loader}``, gives ``val_clean_loss`` and so on.
        """
        if type(self).val_step is Model.val_step:
            self._check_ready("validate", "loss")
        from argus_core.training.validation import validate

        return validate(self, val_loader, metrics=metrics, callbacks=callbacks)

    @releases_output
    def train_step(self, batch: Any, state: Any = None) -> Mapping[str, Any]:
        """Make one optimizer update from a loader batch, or a `Window` of several.

        Returns ``prediction`` and ``target`` on the device and ``loss``, a float.
        """
        updater = self._updater or self._compile()
        if self.optimizer is None:
            self._check_ready("train", "loss", "optimizer")
        if updater.evaluation.held is not None:  # a callback trains during an evaluation
            with updater.evaluation.left():
                return self.train_step(batch, state)
        if not self.nn_module.training:
            self.train()
        if type(batch) is not Window:
            if updater.slots.is_plain:
                return updater.run_plain(batch)
            batch = (batch,)
        return updater.run(batch, getattr(getattr(state, "engine", None), "reading", None))

    @releases_output
    def val_step(self, batch: Any, state: Any = None) -> Mapping[str, Any]:
        """Return prediction, target and loss of a loader batch, in evaluation mode, without gradients."""
        updater = self._updater or self._compile()
        if self.nn_module.training:
            self.eval()
        with torch.no_grad(), updater.evaluation.entered():
            prepared = updater.prepare(batch)
            with updater.slots.forward_context():
                prediction, target, loss = self.forward_loss(prepared)
        check_loss(loss, on_graph=False)
        if updater.weights.is_new(self.loss):
            updater.weights.observe(prepared, prediction, target)
        is_sum = updater.weights.is_sum()
        weight = updater.weights.of_batch(prepared, prediction, target, is_sum)
        return StepOutput(self, [(prediction, target)], loss, weight, stepped=True, is_sum=is_sum)

    def forward_loss(self, batch: Any) -> tuple[Any, Any, torch.Tensor]:
        """Return prediction, target and loss (0-d, on the graph) of a batch on the device.

        Override it for another computation; step strategies work with any.
        """
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:  # a tensor of two samples also unpacks
            name = type(batch).__name__
            article = "an" if name.startswith(("a", "e", "i", "o", "nd")) else "a"
            count = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise BuildError(
                f"a batch is {article} {name}{count}, not a pair (input, target); "
                "give a loader of pairs: "
                "torch.utils.data.DataLoader(torch.utils.data.TensorDataset(input, target), batch_size=32), "
                "or override forward_loss for other batches"
            )
        input, target = batch
        prediction = self.nn_module(input)
        loss = self.loss
        if loss is None:
            self._check_ready("compute a loss", "loss")
        return prediction, target, loss(prediction, target)

    def loss_reduction(self) -> str:
        """Return the loss's reduction over samples: ``"mean"`` or ``"sum"``.

        With ``"sum"``, losses of micro-batches are added, and an epoch's loss is the mean over the samples.
        """
        return reduction_of(self.loss)

    def batch_size(self, batch: Any) -> int:
        """Return the number of samples of a batch on the device; see `argus_core.tensors.samples.batch_size`.

        Override it for batches of another structure, such as graphs.

        Raises:
            ParamsError: the number is ambiguous or unknown.
        """
        return batch_size(batch, self.batch_dim)

    def loss_weight(self, batch: Any) -> float | torch.Tensor:
        """Return the weight of a batch on the device in the mean loss of its window and of its epoch.

        It is the divisor of the batch's mean loss: its samples, or the class weights of the targets that are
        not ignored. Override it together with a `forward_loss` that takes another mean, as over tokens.
        """
        return mean_divisor(self.loss, batch, method_of(self, "batch_size"))

    def predict(self, input: Any) -> Any:
        """Return the prediction for an input batch, after prediction_transform, on the device.

        Raises:
            ParamsError: ``input`` is a loader, or has no tensors and the network raised an exception.
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
            from argus_core.training.exception_note import note_prediction  # lazy: few predictions fail

            note_prediction(error, self, input)
            raise

    def predict_on(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        reader: Any = None,
        prepare: Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]] | None = None,
        top: int = 1,
        all_classes: bool = False,
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> Predictions:
        """Return the predictions for the samples of files, to iterate over, or to ``write`` to a table.

        Samples are prepared as those of the validation data were. An item is a dict: ``file``, ``row`` (of a
        file with several samples), ``class`` and ``probability``, or the predicted values by their names.

        Args:
            paths: files, folders or patterns, such as ``"photos/*.jpg"``.
            reader: the reader for all files, by name; by default the suffix of each decides.
            prepare: a function that makes an input of a sample, or a dict of them by sort of sample, in
                place of what the validation data did.
            top: the number of classes for each sample, the likeliest first.
            all_classes: whether to give the probability of each class.
            batch_size: samples that are predicted at a time.
            num_workers: processes that read files.

        Raises:
            ArgusError: there are no files, or it is unknown how to prepare their samples.
        """
        from argus_core.prediction.on_files import predict_on  # lazy: few processes need it

        return predict_on(
            self,
            paths,
            reader=reader,
            prepare=prepare,
            top=top,
            all_classes=all_classes,
            batch_size=batch_size,
            num_workers=num_workers,
        )

    def transform_prediction(self, prediction: Any) -> Any:
        """Return a network's prediction after prediction_transform, detached."""
        finish_prediction = (self._updater or self._compile()).finish_prediction
        if not finish_prediction and self.prediction_transform is unchanged:
            return prediction
        with torch.no_grad():
            for finish in finish_prediction:
                prediction = finish(prediction)
            return self.prediction_transform(prediction)

    def evaluation(self) -> AbstractContextManager[None]:
        """Return the context of step strategies for a whole validation or prediction."""
        return (self._updater or self._compile()).evaluation.entered()

    def training(self) -> AbstractContextManager[None]:
        """Return the context in which the model has its training state, even inside an `evaluation`."""
        return self._updater.evaluation.left() if self._updater else nullcontext()

    # State.

    @property
    def data(self) -> DataDescription:
        """The description of the data that it was trained on; `fit` sets it, and a checkpoint keeps it."""
        if self._data is None:
            from argus_core.data.description import DataDescription  # lazy: prediction does not need it

            self._data = DataDescription()
        return self._data

    @data.setter
    def data(self, description: DataDescription) -> None:
        from argus_core.data.description import DataDescription  # lazy, as above

        if not isinstance(description, DataDescription):
            raise ParamsError(
                f"{type(self).__name__}.data is a {type(description).__name__}; it must be a description of "
                'the data, such as dataclasses.replace(model.data, classes=("cat", "dog")); give an '
                "attribute of your own another name"
            )
        self._data = description

    def save(
        self,
        file_path: str | Path,
        optimizer_state: bool = False,
        run: Mapping[str, Any] | None = None,
        progress: Mapping[str, Any] | None = None,
        write: checkpoint.Write = checkpoint.write_together,
    ) -> None:
        """Write the model to ``file_path`` atomically; `load_model` loads it.

        Args:
            file_path: ``*.safetensors`` for one file, ``*.sharded`` for a folder of shards, which each
                process
                of the run writes with the others; parent folders are made.
            optimizer_state: whether to save the optimizer's state, and `extra_state`, for further training.
            run: plain data about the run (epoch, metrics) that `argus inspect` shows.
            progress: the position of the run, for ``fit(resume=...)``.
            write: writes tensors and manifest to the file; by default the storage's own writer.
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
        """Put network and loss in training mode; submodules that stay in evaluation mode keep it."""
        self._modes.train(self)

    def eval(self) -> None:
        """Put network and loss in evaluation mode."""
        self._modes.eval(self)

    def module_modes(self) -> dict[str, list[str]]:
        """Return, by part, the submodules that stay in evaluation mode in training, for a checkpoint."""
        return self._modes.state(self)

    def hold_modules(self, modules: Sequence[nn.Module]) -> None:
        """Keep these submodules in evaluation mode until the next call; a step strategy calls it."""
        self._modes.hold(self, modules)

    def load_module_modes(self, modes: Mapping[str, Sequence[str]]) -> None:
        """Restore the modes that `module_modes` returned; the model itself stays in its mode."""
        self._modes.load_state(self, modes)

    def is_finite(self, optimizer_state: bool = True) -> bool:
        """Return whether the model's weights contain neither nan nor inf; waits for the device.

        The check covers the weights of network and loss, their averages, and buffers that were finite at the
        first call: a mask may hold ``-inf``.

        Args:
            optimizer_state: whether to check the optimizer's state, too.
        """
        with self.training():
            self._finiteness = self._finiteness or Finiteness()
            return self._finiteness.holds(self, optimizer_state)

    def train_ready(self) -> bool:
        """Return whether the model has the parts for training: network, loss and optimizer."""
        return not self._missing("loss", "optimizer")

    def predict_ready(self) -> bool:
        """Return whether the model has the part for prediction: a network."""
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
        """Return a drawing of one optimizer update: each slot with its strategies and their packages."""
        from argus_core.steps.explanation import explain  # lazy: few runs draw their update

        return explain(self, self._composed)

    def summary(self, input: Any = None) -> Summary:
        """Return the network's modules with their parameters, memory, output shapes and operations.

        Args:
            input: a batch as the network takes it, of any number of samples. The network runs on it once, in
                evaluation mode; without it shapes and operations are unknown.

        Raises:
            ParamsError: the network has lazy modules that have seen no input yet.
        """
        from argus_core.model.summary import summarize  # lazy: few runs need it

        return summarize(self, self._composed, input)

    def traits(self) -> set[str]:
        """Return traits that step strategies may conflict with or require, such as ``optimizer:LBFGS``."""
        traits = {f"optimizer:{type(self.optimizer).__name__}"} if self.optimizer is not None else set()
        if any(group.get("fused") for group in getattr(self.optimizer, "param_groups", ())):
            traits.add("fused_optimizer")
        if isinstance(self.optimizer, Optimizer) and _needs_closure(self.optimizer):
            traits.add("needs_closure")
        if len(self._devices) > 1:
            traits.add("data_parallel")
        return traits | self.parallel.traits(self)

    def step_traits(self) -> set[str]:
        """Return the traits of all its step strategies: their names, and others such as ``grad_scaler``."""
        return set().union(*self._composed.traits(self).values())

    def step_members(self, slot: str) -> list[str]:
        """Return the names of the step strategies that act in a slot, in order."""
        return [strategy.name for strategy in self._composed.members(slot, self)]

    def step_callbacks(self, updates: int | None, epochs: int | None) -> list[Any]:
        """Return the callbacks of its step strategies for a run of this length; ``None``: not known."""
        return [strategy.run_callback(updates, epochs) for strategy in self._composed.unfreezing()]

    def step_state(self) -> dict[str, dict[str, Any]]:
        """Return the state of each step strategy with state, by name: averages, loss scale."""
        return self._composed.state()

    def evaluated_state(self) -> dict[str, str]:
        """Return, by strategy, the key in its state of the tensors that evaluation uses."""
        return self._composed.evaluated()

    def load_step_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore the state of each step strategy; call it once, before the next update or prediction.

        Raises:
            StateMismatchError: a state does not fit its strategy or the network.
        """
        self._composed.load_state(state)
        self._compile()

    def extra_state(self) -> dict[str, Any]:
        """Return additional state for further training that no part holds, such as a second optimizer's.

        It consists of plain data and tensors; `save` writes it together with the optimizer's state. Override
        it together with `load_extra_state`.
        """
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state from `extra_state`; `load_model` calls it last, unless ``optimizer=None``.

        Raises:
            StateMismatchError: the state does not fit; any other exception is converted to this one.
        """
        raise StateMismatchError(
            f"the file has extra state ({', '.join(map(str, state))}), and {type(self).__name__} takes none; "
            "override load_extra_state, or load with optimizer=None"
        )

    def window_size(self) -> int:
        """Return the number of loader batches in one update."""
        return (self._updater or self._compile()).window_size

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        """Return a copy in its training state, even during an evaluation."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        with self.training():
            vars(copied).update(copy.deepcopy(vars(self), memo))
            if isinstance(self.optimizer, Optimizer):
                _copy_own_attributes(self.optimizer, copied.optimizer, memo)
        return copied

    # Inside.

    def _compile(self) -> Updater:
        self._composed.check(self)  # the device may have changed
        self._updater = Updater(self, self._composed, Model)
        return self._updater

    def _check_sources(self) -> None:
        """Raise, before building, for parameters that a file must not set."""
        for part in filter(None, (*self.parts.values(), *self.step_parts)):
            check_file_params(part.label, part.factory, part.params)

    def _check_overrides(self) -> None:
        others = [part.label for part in self.step_parts if part.name != "default"]
        is_own = type(self).train_step is not Model.train_step
        if is_own and not isinstance(self.parallel, Single):  # its group opens later
            raise ConflictError(
                f"{type(self).__name__} overrides train_step, which would train unrelated models in "
                f"{started_processes()} processes; override forward_loss instead, or start one process"
            )
        if others and is_own:
            raise ConflictError(
                f"{type(self).__name__} overrides train_step, so {others[0]} would never be called; "
                "override forward_loss instead, or leave step out"
            )

    def _optimizer(self) -> Optimizer:
        self._check_ready("use a learning rate", "optimizer")
        optimizer: Optimizer = self.optimizer
        return optimizer

    def _missing(self, *parts: str) -> list[str]:
        """Return the missing parts; a model with its own ``forward_loss`` needs no loss."""
        own_loss = type(self).forward_loss is not Model.forward_loss
        return [part for part in parts if getattr(self, part) is None and not (part == "loss" and own_loss)]

    def _check_ready(self, purpose: str, *parts: str) -> None:
        missing = self._missing(*parts)
        if missing:
            raise BuildError(
                f"the model has no {' and no '.join(missing)}, so it cannot {purpose}; "
                f"name {'one' if len(missing) == 1 else 'them'} in params, or load it without "
                f"{' and '.join(f'{slot}=None' for slot in missing)}"
            )


def _rates(lr: Any, count: int) -> list[float]:
    """Return a list of learning rates: the given ones, or one repeated ``count`` times."""
    several = isinstance(lr, Iterable) and not isinstance(lr, str) and getattr(lr, "ndim", 1) > 0
    try:
        rates = [float(rate) for rate in lr] if several else [float(lr)] * count
    except (TypeError, ValueError):
        rates = [math.nan]
    if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
        raise SpecError(f"set_lr got {lr!r}; give a number that is not negative, or a list of such numbers")
    return rates


def _copy_own_attributes(optimizer: Any, copied: Any, memo: dict[int, Any]) -> None:
    """Copy what the class of an optimizer keeps besides options and state, which torch leaves out."""
    left = vars(optimizer).keys() - vars(copied).keys() - {"step"}  # a schedule's wrapper of the original
    for name in left:
        setattr(copied, name, copy.deepcopy(vars(optimizer)[name], memo))


def _needs_closure(optimizer: Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _register(cls: type[Model], name: str) -> None:
    """Register a model class; a later class of the same name replaces it, so that no import fails."""
    try:
        registry.register("model", name, cls)
    except ConflictError as error:
        registry.register("model", name, cls, override=True)
        if "<locals>" not in cls.__qualname__:  # classes defined in functions are temporary
            warnings.warn(
                f"{error}; the name now means {cls.__module__}:{cls.__qualname__}, "
                f'and class {cls.__name__}(Model, name="...") gives it another',
                ArgusWarning,
                stacklevel=4,  # past `ABCMeta.__new__`
            )

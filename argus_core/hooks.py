"""Every hook of a run: *when* plugins are called. The registry says *what* is called.

`RunHooks` are the events of a run, implemented by callbacks. `StepHooks` are the slots of one
optimizer update, implemented by step strategies and drawn below; `argus explain` prints the drawing
with the names of those who sit in each slot.

::

    window ─► prepare_batch ─► split_window ─► run_procedure ─► after_update(stepped)

    run_procedure   calls gradients() once (default), twice (sam) or as often as the optimizer asks;
                    then transform_gradients ─► allow_update ─► apply_update
    gradients()     zero_grad; for each micro-batch:
                        sync_context⟨forward_context⟨forward_loss⟩⟩ ; weigh ; scale_loss ; backward
                    then unscale
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

if TYPE_CHECKING:
    import torch
    from torch import nn

    from argus_core.engine import State
    from argus_core.model import Model
    from argus_core.steps.update import Update

__all__ = ["Composition", "RunHooks", "StepHooks", "composition_of", "hookimpl", "hookspec"]

PROJECT = "argus_core"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

_Hook = TypeVar("_Hook", bound=Callable[..., Any])

Closure = Callable[[], "torch.Tensor"]


class Composition(enum.Enum):
    """How the implementations of one slot work together."""

    OWNER = "owner"
    """Exactly one: the default's, or one strategy's in its place."""
    EACH = "each"
    """All, one after the other."""
    PIPE = "pipe"
    """All; each gets what the one before it returned."""
    WRAP = "wrap"
    """All, as nested context managers."""
    VOTE = "vote"
    """All; one ``False`` decides."""


def _slot(composition: Composition) -> Callable[[_Hook], _Hook]:
    def mark(function: _Hook) -> _Hook:
        function.composition = composition  # type: ignore[attr-defined]
        return hookspec(function)

    return mark


def composition_of(slot: str) -> Composition:
    """Return how the implementations of the slot of that name work together."""
    composition: Composition = getattr(StepHooks, slot).composition
    return composition


class RunHooks:
    """The events of a run, each raised with the run's `State`."""

    @hookspec
    def start(self, state: State) -> None:
        """The run begins: nothing has been computed."""

    @hookspec
    def complete(self, state: State) -> None:
        """The run is over, because all epochs are done or ``state.stopped`` was set."""

    @hookspec
    def epoch_start(self, state: State) -> None:
        """An epoch begins; ``state.epoch`` counts from 0."""

    @hookspec
    def epoch_complete(self, state: State) -> None:
        """An epoch is done, validation included; ``state.metrics`` holds its values."""

    @hookspec
    def iteration_start(self, state: State) -> None:
        """An update is about to be made from ``state.batch``."""

    @hookspec
    def iteration_complete(self, state: State) -> None:
        """An update has been made; ``state.step_output`` holds prediction, target and loss."""

    @hookspec
    def catch_exception(self, state: State) -> None:
        """``state.exception`` was raised and ends the run; it is raised again afterwards."""

    @hookspec
    def interrupted(self, state: State) -> None:
        """A signal asks the run to end; it does so after this event, in which checkpoints are written."""

    @hookspec
    def update_skipped(self, state: State) -> None:
        """The weights did not move in this update: a vote or the loss scaler said no."""

    @hookspec
    def validation_start(self, state: State) -> None:
        """Validation begins within a training run; raised with the training state."""

    @hookspec
    def validation_iteration_complete(self, state: State) -> None:
        """A batch of a validation within a training run is done; raised with the training state."""

    @hookspec
    def validation_complete(self, state: State) -> None:
        """Validation is done; raised with the training state, whose metrics hold its values."""

    @hookspec
    def checkpoint_saved(self, state: State) -> None:
        """A callback wrote ``state.checkpoint_path``."""

    @hookspec
    def resumed(self, state: State) -> None:
        """The run continues from a checkpoint; counters and callbacks have their old values."""


class StepHooks:
    """The slots of one optimizer update, in the order in which they are reached.

    A strategy implements a slot by a method of that name marked with ``hookimpl``; it may leave out
    arguments that it does not use. A method of a slot's name without the mark is refused.
    """

    @_slot(Composition.EACH)
    def set_up(self, model: Model) -> None:
        """Prepare the model for training or evaluation; called again when its device changes."""

    @_slot(Composition.OWNER)
    def window_size(self) -> int:
        """Return how many loader batches make one update."""

    @_slot(Composition.PIPE)
    def prepare_batch(self, batch: Any, device: torch.device) -> Any:
        """Return a loader batch as the network needs it; the default has moved it to ``device``."""

    @_slot(Composition.OWNER)
    def split_window(self, window: Sequence[Any]) -> Sequence[Any]:
        """Return the micro-batches of a window of prepared loader batches."""

    @_slot(Composition.OWNER)
    def micro_batch_weight(self, micro_batch: Any) -> float | torch.Tensor:
        """Return what a micro-batch counts within its window; by default what its mean loss divides by."""

    @_slot(Composition.WRAP)
    def sync_context(self, last: bool) -> AbstractContextManager[Any]:
        """Return the context for one micro-batch's forward and backward; gradients meet in the last."""

    @_slot(Composition.WRAP)
    def forward_context(self) -> AbstractContextManager[Any]:
        """Return the context for forward and loss, in training, validation and prediction."""

    @_slot(Composition.WRAP)
    def evaluation_context(self) -> AbstractContextManager[Any]:
        """Return the context for a whole validation or prediction."""

    @_slot(Composition.PIPE)
    def finish_prediction(self, prediction: Any) -> Any:
        """Return a network's prediction as ``prediction_transform`` and the user get it; off the graph."""

    @_slot(Composition.PIPE)
    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the loss to run backward from."""

    @_slot(Composition.OWNER)
    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of ``loss`` to those of the parameters."""

    @_slot(Composition.OWNER)
    def out_of_memory(self) -> bool:
        """Return whether to split the window anew and start over; the device's memory is full."""

    @_slot(Composition.OWNER)
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo in the gradients what ``scale_loss`` did; called once for each gradients()."""

    @_slot(Composition.EACH)
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        """Change the gradients of the whole window in place; they are unscaled."""

    @_slot(Composition.VOTE)
    def allow_update(self, loss: torch.Tensor, parameters: tuple[nn.Parameter, ...]) -> bool | torch.Tensor:
        """Return whether this update may happen: a bool, or a 0-d bool tensor on the device."""

    @_slot(Composition.OWNER)
    def run_procedure(self, update: Update) -> bool:
        """Take gradients, move the weights, and return whether they moved."""

    @_slot(Composition.OWNER)
    def apply_update(self, optimizer: torch.optim.Optimizer, closure: Closure | None) -> bool:
        """Move the weights by the gradients and return whether they moved.

        ``closure`` takes fresh gradients and returns the loss, where the procedure offers it, else ``None``.
        """

    @_slot(Composition.EACH)
    def after_update(self, model: Model, stepped: bool) -> None:
        """Follow an update; ``stepped`` says whether the weights moved."""

    @_slot(Composition.EACH)
    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep of this strategy, as plain data and tensors; maybe nothing."""

    @_slot(Composition.EACH)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` returned; called before ``set_up``."""

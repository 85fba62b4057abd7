"""The hooks of one optimizer update ("slots"), which step strategies implement.

`argus explain` prints this drawing with the strategies that implement each slot.

::

    window ─► prepare_batch ─► split_window ─► run_procedure ─► after_update(stepped)

    run_procedure   calls gradients() once (default), twice (sam) or as often as the optimizer calls it;
                    then transform_gradients ─► allow_update ─► apply_update
    gradients()     zero_grad; for each micro-batch:
                        sync_context⟨forward_context⟨forward_loss⟩⟩ ; weigh ; scale_loss ; backward
                    then unscale
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from argus_core.hooks import hookspec

if TYPE_CHECKING:  # the doctor reads the slots without torch
    import torch
    from torch import nn

    from argus_core.abstract_model import AbstractModel

__all__ = ["AbstractUpdate", "Closure", "Composition", "StepHooks", "composition_of"]

_Hook = TypeVar("_Hook", bound=Callable[..., Any])

Closure = Callable[[], "torch.Tensor"]


class AbstractUpdate(Protocol):
    """The interface of an update for ``run_procedure``; `argus_core.steps.update.Update` documents it."""

    model: AbstractModel

    def gradients(self) -> torch.Tensor: ...

    def apply(self) -> bool: ...

    def step(self, closure: Closure | None = None) -> bool: ...

    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None: ...

    def allowed(self, parameters: tuple[nn.Parameter, ...]) -> bool: ...

    def parameters(self) -> tuple[nn.Parameter, ...]: ...


class Composition(enum.Enum):
    """The rule by which the implementations of one slot are combined."""

    OWNER = "owner"
    """Exactly one is called: the default's, or one strategy's in its place."""
    EACH = "each"
    """All are called, one after the other."""
    PIPE = "pipe"
    """All are called; each receives the value that the one before it returned."""
    WRAP = "wrap"
    """All are entered, as nested context managers."""
    VOTE = "vote"
    """All are called; one ``False`` decides."""


def _slot(composition: Composition) -> Callable[[_Hook], _Hook]:
    def mark(function: _Hook) -> _Hook:
        function.composition = composition  # type: ignore[attr-defined]
        return hookspec(function)

    return mark


def composition_of(slot: str) -> Composition:
    """Return the rule by which the implementations of the slot of that name are combined."""
    composition: Composition = getattr(StepHooks, slot).composition
    return composition


class StepHooks:
    """The slots of one optimizer update, in the order in which they run.

    A strategy implements a slot by a method of that name marked with ``hookimpl``; it may omit arguments
    that it does not use. A method of a slot's name without the mark is an error.
    """

    @_slot(Composition.EACH)
    def set_up(self, model: AbstractModel) -> None:
        """Prepare the model for training or evaluation; called again when its device changes."""

    @_slot(Composition.OWNER)
    def window_size(self) -> int:
        """Return how many loader batches make one update."""

    @_slot(Composition.PIPE)
    def prepare_batch(self, batch: Any, device: torch.device) -> Any:
        """Return a loader batch in the form that the network takes; it is already on ``device``."""

    @_slot(Composition.OWNER)
    def split_window(self, window: Sequence[Any]) -> Sequence[Any]:
        """Return the micro-batches of a window of prepared loader batches."""

    @_slot(Composition.OWNER)
    def micro_batch_weight(self, micro_batch: Any) -> float | torch.Tensor:
        """Return the weight of a micro-batch in its window; by default the divisor of its mean loss."""

    @_slot(Composition.WRAP)
    def sync_context(self, last: bool) -> AbstractContextManager[Any]:
        """Return the context for one micro-batch's forward and backward; gradients are synced in the last."""

    @_slot(Composition.WRAP)
    def forward_context(self) -> AbstractContextManager[Any]:
        """Return the context for forward and loss, in training, validation and prediction."""

    @_slot(Composition.WRAP)
    def evaluation_context(self) -> AbstractContextManager[Any]:
        """Return the context for a whole validation or prediction."""

    @_slot(Composition.PIPE)
    def finish_prediction(self, prediction: Any) -> Any:
        """Return a network's prediction in the form that ``prediction_transform`` takes; it is detached."""

    @_slot(Composition.PIPE)
    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the loss to run backward from."""

    @_slot(Composition.OWNER)
    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of ``loss`` to those of the parameters."""

    @_slot(Composition.OWNER)
    def out_of_memory(self) -> bool:
        """Return whether to split the window again and start over; called when device memory is full."""

    @_slot(Composition.OWNER)
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the factor of ``scale_loss``; called once for each gradients()."""

    @_slot(Composition.EACH)
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        """Change the gradients of the whole window in place; they are unscaled."""

    @_slot(Composition.VOTE)
    def allow_update(self, loss: torch.Tensor, parameters: tuple[nn.Parameter, ...]) -> bool | torch.Tensor:
        """Return whether this update may happen: a bool, or a 0-d bool tensor on the device.

        Such a tensor then gets the verdict of all processes, in place.
        """

    @_slot(Composition.OWNER)
    def run_procedure(self, update: AbstractUpdate) -> bool:
        """Compute gradients, move the weights, and return whether they moved."""

    @_slot(Composition.OWNER)
    def apply_update(self, optimizer: torch.optim.Optimizer, closure: Closure | None) -> bool:
        """Move the weights by the gradients and return whether they moved.

        ``closure`` computes the gradients again and returns the loss; ``None`` if the procedure gives none.
        """

    @_slot(Composition.EACH)
    def after_update(self, model: AbstractModel, stepped: bool) -> None:
        """React to an update; ``stepped`` says whether the weights moved."""

    @_slot(Composition.EACH)
    def state_dict(self) -> dict[str, Any]:
        """Return this strategy's state for a checkpoint, as plain data and tensors; it may be empty."""

    @_slot(Composition.EACH)
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned; called before ``set_up``."""

"""One optimizer update of a window of loader batches; a strategy's ``run_procedure`` calls its methods.

The default strategy's slots and ``Model.forward_loss`` are inlined here where no strategy or subclass
replaces them: between two kernels of torch, each Python function that runs costs a microsecond or more of
cold caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any

from torch import Tensor, nn

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError
from argus_core.steps.contexts import nested
from argus_core.steps.hooks import AbstractUpdate, Closure
from argus_core.steps.output import Part, StepOutput
from argus_core.steps.parameters import clear_gradients
from argus_core.steps.reading import Reading
from argus_core.steps.shares import check_loss, joined, shares, silence, weigh
from argus_core.steps.slots import Slots, checked_stepped
from argus_core.steps.weights import Weights
from argus_core.tensors.device import ran_out_of_memory
from argus_core.tensors.joining import Layout
from argus_core.tensors.processes import verdicts
from argus_core.tensors.samples import without_empty

__all__ = ["Update"]

_Keep = Callable[[Part, Tensor, "float | Tensor"], object]

_PAIR = (tuple, list)


class Update(AbstractUpdate):
    """One optimizer update, from prepared batches to moved weights; ``run_procedure`` calls its methods.

    Args:
        model: the model that is trained.
        slots: the strategies' methods in each slot.
        weights: returns the weight of a batch's loss.
        usual: the ``forward_loss`` that is inlined here where the model does not override it.
        reading: the metrics that read predictions; without it the output keeps them.

    Attributes:
        model: the model that is trained.
        micro_batches: the parts of the window, on the device.
    """

    _always_cuts = False

    def __init__(
        self, model: AbstractModel, slots: Slots, weights: Weights, usual: Any, reading: Reading | None
    ) -> None:
        self.model = model
        self.micro_batches: Sequence[Any] = ()
        self._slots = slots
        self._weights = weights
        self._usual = usual
        self._reading = reading
        weights.is_new(model.loss)
        self._is_sum = weights.is_sum()
        self._prepared: Sequence[Any] = ()
        self._window_weights: list[Any] = [None]  # None where it is computed after the loss
        self._shares: list[Any] = [None]  # of the micro-batches; None where the losses are summed
        # Of the first call of gradients():
        self._loss: Tensor | None = None
        self._parts: list[Part] = []
        self._layout: Layout | None = None
        self._losses: Sequence[Tensor | float] = ()
        self._counts: Sequence[Tensor | float] = ()

    def make(self, window: Sequence[Any]) -> StepOutput:
        """Make the update from a window of loader batches, once, and return its output."""
        slots = self._slots
        prepared: Iterable[Any] = window
        for prepare in slots.prepare_batch:
            prepared = map(prepare, prepared, repeat(self.model.device))
        self.micro_batches = self._prepared = [*prepared]
        if slots.split_window is not None or len(self._prepared) > 1 or self._always_cuts:
            self._cut()
        if slots.run_procedure is None:
            self.gradients()
            stepped = self.apply()
        else:
            stepped = checked_stepped(slots.run_procedure(self), "run_procedure")
        loss = self._loss
        if loss is None:
            raise BuildError("the step procedure took no gradients; call update.gradients() in run_procedure")
        for follow in slots.after_update:
            follow(self.model, stepped)
        parts, counts, is_sum, layout = self._parts, self._counts, self._is_sum, self._layout
        weight = counts[0] if len(counts) == 1 else sum(counts)
        losses = [*zip(self._losses, counts, strict=True)] if len(parts) > 1 else ()
        return StepOutput(
            self.model, parts, loss, weight, stepped, is_sum=is_sum, part_losses=losses, layout=layout
        )

    def gradients(self) -> Tensor:
        """Compute the gradients of the whole window, unscaled, and return its loss (0-d, detached).

        ``run_procedure`` may call it several times in one update; the step output is that of the first call.
        """
        while True:
            try:
                return self._take_gradients()
            except Exception as error:
                make_room = self._slots.out_of_memory
                if make_room is None or not ran_out_of_memory(error) or not make_room():
                    raise
                if self._reading is not None:
                    self._reading.undo_parts()
            # Outside the handler, where the error no longer holds the graph that filled the memory.
            self._cut()

    def _take_gradients(self) -> Tensor:
        optimizer = self.model.optimizer
        clear_gradients(optimizer)
        micro_batches, shares_of, weights = self.micro_batches, self._shares, self._window_weights
        self._parts = [] if self._loss is None else self._parts
        losses: list[Tensor | float] = []
        counts: list[Tensor | float] = []
        sync = self._slots.sync_context
        if sync:
            for index, micro_batch in enumerate(micro_batches):
                with nested(sync, index == len(micro_batches) - 1):
                    self._accumulate((micro_batch,), (shares_of[index],), (weights[index],), losses, counts)
        else:
            self._accumulate(micro_batches, shares_of, weights, losses, counts)
        loss = losses[0] if len(losses) == 1 else joined(losses, shares_of)
        assert isinstance(loss, Tensor)
        if self._slots.unscale is not None:
            self._slots.unscale(optimizer)
        if self._loss is None:
            self._losses, self._loss, self._counts = losses, loss, counts or weights
            if len(self._parts) > 1:
                self._layout = self._weights.layout_of(micro_batches, self._parts[0][1])
        return loss

    def apply(self) -> bool:
        """Transform the gradients, check that the update is allowed, and move the weights.

        Returns whether they moved.
        """
        if self._slots.transform_gradients or self._slots.allow_update:
            parameters = self.parameters()
            self.transform_gradients(parameters)
            if not self.allowed(parameters):
                return False
        return self.step()

    def step(self, closure: Closure | None = None) -> bool:
        """Move the weights by the current gradients, and return whether they moved.

        Args:
            closure: computes the gradients again and returns the loss, for optimizers that call it.
        """
        optimizer: Any = self.model.optimizer
        if self._slots.apply_update is not None:
            return checked_stepped(self._slots.apply_update(optimizer, closure), "apply_update")
        if closure is None:  # not every optimizer's step takes one
            optimizer.step()
        else:
            optimizer.step(closure)
        return True

    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        """Let the strategies change the gradients of ``parameters`` in place."""
        for transform in self._slots.transform_gradients:
            transform(parameters)

    def allowed(self, parameters: tuple[nn.Parameter, ...]) -> bool:
        """Return whether every strategy, in every process, allows the update.

        Every strategy is called, also after a ``False``: another process may wait for each answer.
        """
        if not self._slots.allow_update:
            return True
        votes = [vote(self._loss, parameters) for vote in self._slots.allow_update]
        if any(vote is None for vote in votes):  # a forgotten return would stop the training silently
            raise BuildError("a step strategy's allow_update returned None; return whether to update")
        return all(verdicts(votes, self.model.device))

    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Return the optimizer's parameters."""
        optimizer: Any = self.model.optimizer
        return tuple(chain.from_iterable(group["params"] for group in optimizer.param_groups))

    def _cut(self) -> None:
        """Split the prepared window into micro-batches, without those that have no samples."""
        split = self._slots.split_window
        micro_batches = self._prepared if split is None else [*split(self._prepared)]
        if not micro_batches:
            raise BuildError("a step strategy's split_window returned no micro-batches; return at least one")
        # The mean loss of no samples is nan, and nan times a share of 0 is still nan.
        self.micro_batches = without_empty(micro_batches)
        self._window_weights, self._shares = [], []
        self._weigh()

    def _weigh(self) -> None:
        """Set the weights and shares of the micro-batches, in the lists that a loop may be reading.

        The mean of a loss may be unknown until the first micro-batch.
        """
        self._is_sum = self._weights.is_sum()
        if len(self.micro_batches) == 1 or self._is_sum:
            self._window_weights[:] = self._shares[:] = [None] * len(self.micro_batches)
            return
        self._window_weights[:] = self._weights.of_window(self.micro_batches)
        self._shares[:] = shares(self._window_weights)

    def _accumulate(
        self,
        micro_batches: Sequence[Any],
        shares: Sequence[Any],
        weights: Sequence[Any],
        losses: list[Tensor | float],
        counts: list[Tensor | float],
    ) -> None:
        """Add the weighted gradients of micro-batches, and their losses to ``losses``.

        A weight that is not in ``weights`` is appended to ``counts``.

        The share is the initial gradient of backward, since the derivative of w L is w times that of L. It
        is a new tensor each time: a parameter of which the loss is a view takes it as its gradient, and
        adds to it in place.
        """
        slots, weighing = self._slots, self._weights
        forward_context, needs_weighed = slots.forward_context, bool(slots.scale_loss or slots.backward)
        forward_loss, network, criterion = self.model.forward_loss, self.model.nn_module, self.model.loss
        is_usual = criterion is not None and getattr(forward_loss, "__func__", None) is self._usual
        keep, is_asked = self._keeping(), self._loss is None and weights[0] is None
        for micro_batch, share, weight in zip(micro_batches, shares, weights, strict=True):
            with forward_context():
                if is_usual and isinstance(micro_batch, _PAIR) and len(micro_batch) == 2:
                    input, target = micro_batch
                    prediction = network(input)
                    loss = criterion(prediction, target)
                else:
                    prediction, target, loss = forward_loss(micro_batch)
            if type(loss) is not Tensor or loss.ndim or not loss.requires_grad:
                check_loss(loss, on_graph=True)
            if criterion is not weighing.known and weighing.observe(micro_batch, prediction, target):
                self._weigh()
                share, weight = self._shares[0], self._window_weights[0]
                is_asked = self._loss is None and weight is None
            if is_asked:
                weight = weighing.of_batch(micro_batch, prediction, target, self._is_sum)
                counts.append(weight)
            if type(share) is float:
                if not share:
                    silence(prediction, share)
                share = loss.new_full((), share)
            elif share is not None:
                share = share.to(loss, copy=True)  # a weight may be on a CPU and the loss on a GPU
                silence(prediction, share)
            if needs_weighed:
                self._pass_back(loss if share is None else weigh(loss, share))
            else:
                loss.backward(share)
            if keep is not None:
                # Detached, so that the graph's memory is free for the next one.
                prediction = prediction.detach() if type(prediction) is Tensor else prediction
                keep((prediction, target), loss.detach(), weight)
            # A small tensor kept after each large one would fragment a CPU's memory.
            losses.append(loss.item() if losses and loss.is_cpu else loss.detach())
            del prediction, loss

    def _keeping(self) -> _Keep | None:
        """Return the function that a micro-batch's output is passed to; ``None`` if there is no reader."""
        reading = self._reading
        if self._loss is not None:  # not the first gradients of the update
            return None
        if reading is None or len(self.micro_batches) == 1 or reading.needs_parts():
            return self._keep_part
        return self._give_part if reading.reads else None

    def _keep_part(self, part: Part, loss: Tensor, weight: float | Tensor) -> None:
        self._parts.append(part)

    def _give_part(self, part: Part, loss: Tensor, weight: float | Tensor) -> None:
        assert self._reading is not None
        self._reading.take(StepOutput(self.model, (part,), loss, weight, True, is_sum=self._is_sum))

    def _pass_back(self, loss: Tensor) -> None:
        for scale in self._slots.scale_loss:
            loss = scale(loss)
        if self._slots.backward is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self._slots.backward(loss)

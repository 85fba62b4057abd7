"""One optimizer update, compiled from a model's strategies to tuples of bound methods.

The slots are `argus_core.steps.hooks.StepHooks`. An empty slot costs an empty loop, never a pluggy call. What
the default does in a slot that nobody owns is written out here rather than called, and so is what
`Model.forward_loss` does: between two kernels of torch, each Python function that runs costs a microsecond
or more of cold caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError
from argus_core.steps.composition import SLOTS, Composed
from argus_core.steps.contexts import Evaluation, nested
from argus_core.steps.hooks import Closure
from argus_core.steps.output import Part, StepOutput
from argus_core.steps.reading import Reading
from argus_core.steps.reduction import ask_others, check_loss, joined, shares, silence, weigh
from argus_core.steps.weights import Weights
from argus_core.tensors.processes import all_agree
from argus_core.tensors.samples import without_empty

__all__ = ["Update"]


_Keep = Callable[[Part, Tensor, "float | Tensor"], object]

_PAIR = (tuple, list)
_NOTHING = nullcontext()

# Slots that take no part in making an update, or that the default fills.
_BESIDE_THE_UPDATE = frozenset(
    "set_up window_size prepare_batch evaluation_context finish_prediction state_dict load_state_dict".split()
)


class Update:
    """Runs one optimizer update after another; a procedure strategy calls its methods.

    Args:
        model: the model that is trained.
        composed: its strategies.
        usual: the class whose methods are written out here where the model does not override them.

    Attributes:
        model: the model that is trained.
        window_size: how many loader batches make one update.
        weights: what the loss of a batch counts.
        evaluation: the contexts in which validation and prediction see the network.
        finish_prediction: what each prediction goes through before its transform.
        micro_batches: what the current window was split into, on the device.
        is_plain: whether no strategy shapes the update.
    """

    def __init__(self, model: AbstractModel, composed: Composed, usual: type[AbstractModel]) -> None:
        self.model = model
        self._usual = usual.forward_loss
        slots = {slot: composed.implementations(slot, model) for slot in SLOTS}
        for set_up in slots["set_up"]:
            set_up(model)
        self.window_size: int = slots["window_size"][0]()
        self.micro_batches: Sequence[Any] = ()
        self._prepare = slots["prepare_batch"]
        self._split = _owner(slots["split_window"])
        self._out_of_memory = _owner(slots["out_of_memory"])
        self.weights = Weights(model, usual, _owner(slots["micro_batch_weight"]))
        self._sync = slots["sync_context"]
        self._forward = slots["forward_context"]
        self._forward_context = self._forward[0] if len(self._forward) == 1 else self.forward_context
        self._needs_weighed_loss = bool(slots["scale_loss"] or slots["backward"])
        self._scale = slots["scale_loss"]
        self._backward = _owner(slots["backward"])
        self._unscale = _owner(slots["unscale"])
        self._transform = slots["transform_gradients"]
        self._votes = slots["allow_update"]
        self._procedure = _owner(slots["run_procedure"])
        self._apply = _owner(slots["apply_update"])
        self._after = slots["after_update"]
        self._weights: Sequence[Any] = ()  # of the micro-batches; None where they are asked after the loss
        self._shares: Sequence[Any] = ()  # of the micro-batches in the window; None where they just add up
        self._is_sum = False
        self._reading: Reading | None = None
        self._parts: list[Part] = []  # of the first gradients that are taken, as are losses and counts
        self._losses: Sequence[Tensor | float] = ()
        self._counts: Sequence[Tensor | float] = ()  # of the micro-batches' losses
        self._loss: Tensor | None = None
        self._prepared: Sequence[Any] = ()
        self.finish_prediction = slots["finish_prediction"]
        self.evaluation = Evaluation(slots["evaluation_context"])
        shaping = (slots[slot] for slot in SLOTS if slot not in _BESIDE_THE_UPDATE)
        self.is_plain = not any(shaping) and len(self._prepare) == 1

    def run_plain(self, batch: Any) -> StepOutput:
        """Make an update that no strategy shapes from a loader batch.

        It is what `run` comes to, in one function: the loop that most people write, at its speed. Tests hold
        the two together.
        """
        model = self.model
        batch = self._prepare[0](batch, model.device)
        _clear_gradients(model.optimizer)
        forward_loss, criterion = model.forward_loss, model.loss
        weight: float | Tensor | None = None
        if (
            criterion is not None
            and getattr(forward_loss, "__func__", None) is self._usual
            and isinstance(batch, _PAIR)
            and len(batch) == 2
        ):
            input, target = batch
            prediction = model.nn_module(input)
            loss = criterion(prediction, target)
            weight = self.weights.divisors.get(type(criterion), ask_others)(criterion, target)
        else:
            prediction, target, loss = forward_loss(batch)
        if type(loss) is not Tensor or loss.ndim or not loss.requires_grad:
            check_loss(loss, on_graph=True)
        is_sum = weight is None and self.weights.is_sum()
        if weight is None:
            weight = self.weights.of_batch(batch, prediction, target, is_sum)
        loss.backward()
        model.optimizer.step()
        return StepOutput(model, ((prediction, target),), loss.detach(), weight, True, is_sum=is_sum)

    def run(self, window: Sequence[Any], reading: Reading | None = None) -> StepOutput:
        """Make one update from a window of loader batches and return its output.

        Args:
            window: of loader batches.
            reading: who reads predictions; without it the output keeps them.
        """
        self._reading = reading
        prepared: Iterable[Any] = window
        for prepare in self._prepare:
            prepared = map(prepare, prepared, repeat(self.model.device))
        self._prepared = [*prepared]
        self._is_sum = self.weights.is_sum()
        if self._split is None and len(self._prepared) == 1:
            self.micro_batches, self._weights, self._shares = self._prepared, (None,), (None,)
        else:
            self._cut()
        self._loss = None
        if self._procedure is None:
            self.gradients()
            stepped = self.apply()
        else:
            stepped = _checked_stepped(self._procedure(self), "run_procedure")
        loss = self._loss
        if loss is None:
            raise BuildError("the step procedure took no gradients; call update.gradients() in run_procedure")
        for follow in self._after:
            follow(self.model, stepped)
        parts, counts = self._parts, self._counts
        weight = counts[0] if len(counts) == 1 else sum(counts)
        losses = [*zip(self._losses, counts, strict=True)] if len(parts) > 1 else ()
        # The next window needs their memory.
        self._parts, self._losses, self._loss, self.micro_batches, self._prepared = [], (), None, (), ()
        return StepOutput(self.model, parts, loss, weight, stepped, is_sum=self._is_sum, part_losses=losses)

    def prepare(self, batch: Any) -> Any:
        """Return a loader batch as the network needs it, on the device."""
        for prepare in self._prepare:
            batch = prepare(batch, self.model.device)
        return batch

    def gradients(self) -> Tensor:
        """Take fresh gradients of the whole window, unscaled, and return its loss (0-d, detached).

        A procedure may call it several times in one update; the output is that of the first time.
        """
        while True:
            try:
                return self._take_gradients()
            except Exception as error:
                if self._out_of_memory is None or not _ran_out(error) or not self._out_of_memory():
                    raise
                if self._reading is not None:
                    self._reading.take_back()
            # Only here has the error let go of the graph that filled the memory.
            self._cut()

    def _take_gradients(self) -> Tensor:
        optimizer = self.model.optimizer
        _clear_gradients(optimizer)
        micro_batches, shares_of, weights = self.micro_batches, self._shares, self._weights
        self._parts = [] if self._loss is None else self._parts
        losses: list[Tensor | float] = []
        counts: list[Tensor | float] = []
        if self._sync:
            for index, micro_batch in enumerate(micro_batches):
                with nested(self._sync, index == len(micro_batches) - 1):
                    self._accumulate((micro_batch,), (shares_of[index],), (weights[index],), losses, counts)
        else:
            self._accumulate(micro_batches, shares_of, weights, losses, counts)
        loss = losses[0] if len(losses) == 1 else joined(losses, shares_of)
        assert isinstance(loss, Tensor)
        if self._unscale is not None:
            self._unscale(optimizer)
        if self._loss is None:
            self._losses, self._loss, self._counts = losses, loss, counts or weights
        return loss

    def apply(self) -> bool:
        """Transform the gradients, ask whether the update may happen, and move the weights.

        Returns whether they moved.
        """
        if self._transform or self._votes:
            parameters = self.parameters()
            self.transform_gradients(parameters)
            if not self.allowed(parameters):
                return False
        return self.step()

    def step(self, closure: Closure | None = None) -> bool:
        """Move the weights by the gradients as they are, and return whether they moved.

        Args:
            closure: takes fresh gradients and returns the loss, for optimizers that ask several times.
        """
        optimizer: Any = self.model.optimizer
        if self._apply is not None:
            return _checked_stepped(self._apply(optimizer, closure), "apply_update")
        if closure is None:  # not every optimizer's step takes one
            optimizer.step()
        else:
            optimizer.step(closure)
        return True

    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        """Let the strategies change the gradients of ``parameters`` in place."""
        for transform in self._transform:
            transform(parameters)

    def allowed(self, parameters: tuple[nn.Parameter, ...]) -> bool:
        """Return whether every strategy, in every process, agrees that the update happens.

        All are asked, also after one has said no: another process may be waiting for the answer of each.
        """
        if not self._votes:
            return True
        allowed = True
        for vote in self._votes:
            answer = vote(self._loss, parameters)
            if answer is None:  # a forgotten return would stop the training silently
                raise BuildError("a step strategy's allow_update returned None; return whether to update")
            allowed = bool(answer) and allowed
        return all_agree(allowed, self.model.device)

    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Return the parameters that the optimizer moves."""
        optimizer = self.model.optimizer
        assert optimizer is not None
        groups = optimizer.param_groups
        if len(groups) == 1:
            return tuple(groups[0]["params"])
        return tuple(parameter for group in groups for parameter in group["params"])

    def forward_context(self) -> AbstractContextManager[Any]:
        """Return the context for forward and loss."""
        return nested(self._forward) if self._forward else _NOTHING

    def _cut(self) -> None:
        """Make the micro-batches of the prepared window, without those that have no samples."""
        micro_batches = self._prepared if self._split is None else [*self._split(self._prepared)]
        if not micro_batches:
            raise BuildError("a step strategy's split_window returned no micro-batches; return at least one")
        # The mean loss of no samples is nan, and so is its share of nothing.
        self.micro_batches = micro_batches = without_empty(micro_batches)
        if len(micro_batches) == 1 or self._is_sum:
            self._weights = self._shares = (None,) * len(micro_batches)
            return
        self._weights = self.weights.of_window(micro_batches)
        self._shares = shares(self._weights)

    def _accumulate(
        self,
        micro_batches: Sequence[Any],
        shares: Sequence[Any],
        weights: Sequence[Any],
        losses: list[Tensor | float],
        counts: list[Tensor | float],
    ) -> None:
        """Add the weighted gradients of micro-batches, and their losses to ``losses``.

        What each counts goes to ``counts``, unless it is in ``weights``.

        A share is what backward begins with, since the derivative of w L is w times that of L. Each time it
        is a tensor of its own: a parameter of which the loss holds a view takes it for its gradient, and
        adds to it in place.
        """
        forward_context, needs_weighed = self._forward_context, self._needs_weighed_loss
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
            if is_asked:
                weight = self.weights.of_batch(micro_batch, prediction, target, self._is_sum)
                counts.append(weight)
            if type(share) is float:
                if not share:
                    silence(prediction, share)
                share = loss.new_full((), share)
            elif share is not None:
                share = share.to(loss, copy=True)  # somebody may weigh on a CPU what a GPU computes
                silence(prediction, share)
            if needs_weighed:
                self._pass_back(loss if share is None else weigh(loss, share))
            else:
                loss.backward(share)
            if keep is not None:
                if type(prediction) is Tensor:
                    prediction = prediction.detach()  # its graph goes, and the next one takes the memory
                keep((prediction, target), loss.detach(), weight)
            # A small tensor that stays behind each large one would leave a CPU's memory in pieces.
            losses.append(loss.item() if losses and loss.is_cpu else loss.detach())
            del prediction, loss

    def _keeping(self) -> _Keep | None:
        """Return what takes what came of a micro-batch; ``None`` where nothing reads it."""
        reading = self._reading
        if self._loss is not None:  # these gradients are not the first of the update
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
        for scale in self._scale:
            loss = scale(loss)
        if self._backward is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self._backward(loss)


def _owner(implementations: Sequence[Any]) -> Any:
    """Return the strategy's implementation of a slot, or ``None`` where the default is written out here."""
    return implementations[0] if implementations else None


def _clear_gradients(optimizer: Any) -> None:
    """Do what torch's ``zero_grad`` does, without the profiling that takes a fifteenth of a small update."""
    if getattr(optimizer.zero_grad, "__func__", None) is not Optimizer.zero_grad:
        optimizer.zero_grad()  # the optimizer has its own
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def _ran_out(error: Exception) -> bool:
    """Return whether a device has no memory left; a CPU's allocator has no error class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _checked_stepped(stepped: Any, slot: str) -> bool:
    if type(stepped) is not bool:
        raise BuildError(
            f"a step strategy's {slot} returned {stepped!r}; return from it whether the weights moved"
        )
    return stepped

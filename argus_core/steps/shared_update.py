"""One optimizer update of several processes, each of which has its slice of the window's batches.

A micro-batch's backward begins with its share of the *global* window, and the engine adds the gradients. The
sum of the weights is under way during the first forward. A process without samples runs a copied sample of
weight 0, since every process must make as many collective operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from argus_core.errors import BuildError
from argus_core.steps.contexts import nested
from argus_core.steps.parameters import clear_gradients
from argus_core.steps.reduction import TORCHS
from argus_core.steps.shares import check_loss, joined, silence, weigh
from argus_core.steps.shares import shares as shares_of
from argus_core.steps.update import Update
from argus_core.steps.weights import is_pair
from argus_core.tensors.device import ran_out_of_memory
from argus_core.tensors.processes import all_agree
from argus_core.tensors.samples import UnknownSizeError, without_empty

__all__ = ["SharedUpdate"]

_Number = float | Tensor


class SharedUpdate(Update):
    """One optimizer update of all processes; see `Update`."""

    _always_cuts = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._engine = self.model.parallel
        self._wholes = self._engine.wholes
        self._engine.wholes = ()  # another update, of a callback, has other batches
        self._real = 0  # micro-batches that are not copied
        self._total: _Number | None = None  # the sum of the weights of all processes
        self._is_under_way = False
        self._dtype: torch.dtype | None = None  # of the loss, in a process without samples too

    def gradients(self) -> Tensor:
        is_done = False
        make_room = self._slots.out_of_memory
        while True:
            full: Exception | None = None
            if not is_done:
                try:
                    loss = self._take_own()
                    is_done = True
                except Exception as error:
                    if make_room is None or not ran_out_of_memory(error) or not make_room():
                        raise
                    if self._reading is not None:
                        self._reading.undo_parts()
                    full = error
            if make_room is None or all_agree(full is None, self.model.device):
                break
            if full is not None:
                full = None  # no longer holds the graph that filled the memory
                self._cut()
        self._engine.reduce_gradients(self.model)
        if self._slots.unscale is not None:
            self._slots.unscale(self.model.optimizer)
        return loss if self._slots.run_procedure is None else self._global(loss)

    def _cut(self) -> None:
        """Split the window's own samples into micro-batches; without any, one copied sample stays."""
        silent = self._engine.silent
        own = [
            batch
            for number, batch in enumerate(self._prepared)
            if number >= len(silent) or not silent[number]
        ]
        split = self._slots.split_window
        micro_batches: Sequence[Any] = own if split is None or not own else [*split(own)]
        if own and not micro_batches:
            raise BuildError("a step strategy's split_window returned no micro-batches; return at least one")
        micro_batches = without_empty(micro_batches) if own else ()
        self._real = len(micro_batches)
        self.micro_batches = micro_batches or self._prepared[:1]
        if self._engine.equal_forwards:
            if split is None and self._agrees_on_board():
                wanted = len(self._prepared)  # each has samples in some process
            else:
                wanted = self._engine.exchange.begin_update(len(self.micro_batches))
            self.micro_batches = [
                *self.micro_batches,
                *[self.micro_batches[-1]] * (wanted - len(self.micro_batches)),
            ]
        self._window_weights, self._shares = [], []
        if self._total is not None:
            self._share_out(None, None)

    def _take_own(self) -> Tensor:
        """Take the gradients of this process, and return its part of the window's loss."""
        clear_gradients(self.model.optimizer)
        is_first = self._loss is None
        losses: list[_Number] = []
        if is_first:
            self._parts = []
            self._begin_total()
        sync = self._slots.sync_context
        for index in range(len(self.micro_batches)):
            is_last = index == len(self.micro_batches) - 1
            if sync:
                with nested(sync, is_last), self._engine.sync_context(is_last):
                    self._run_one(index, losses)
            else:
                with self._engine.sync_context(is_last):
                    self._run_one(index, losses)
        loss, own_loss = self._joined(losses)
        if is_first:
            self._loss, self._counts = own_loss, self._window_weights[: self._real]
            self._losses = losses
            if len(self._parts) > 1:
                self._layout = self._weights.layout_of(self.micro_batches[: self._real], self._parts[0][1])
        return loss

    def _begin_total(self) -> None:
        """Begin to add up the weights, if they are known before the first forward."""
        if self._total is not None or self._is_under_way:
            return
        loss = self.model.loss
        if loss is not None and loss is not self._weights.known and not self._is_usual(loss):
            return  # its mean is known once a batch has been observed
        if len(self._slots.prepare_batch) == 1:  # else a strategy may replace targets
            self._total = self._weights.of_wholes(self._wholes, self._prepared, self._is_sum)
        try:
            weights = [0.0] * self._real if self._is_sum else self._own_weights(None, None)
        except UnknownSizeError:  # the prediction may tell
            self._total = None
            return
        self._window_weights[:] = weights
        if self._total is not None and (self._engine.equal_forwards or self._agrees_on_board()):
            self._share_out(None, None)
            return
        self._total = None  # the message is needed to agree on the end anyway
        self._engine.exchange.start(self._own_total())
        self._is_under_way = True

    def _is_usual(self, loss: Any) -> bool:
        """Return whether a loss is torch's, of pairs of input and target."""
        return type(loss) in TORCHS and is_pair(self._prepared[0])

    def _agrees_on_board(self) -> bool:
        """Return whether the processes agree on a board, and know as many forward passes of each other."""
        return bool(self._wholes) and self._engine.exchange.board is not None

    def _own_total(self) -> _Number:
        """Return the weight of this process's samples; 0 without any, where the others' are."""
        total: _Number = sum(self._window_weights)
        return total if self._real else 0 * total

    def _own_weights(self, prediction: Any, target: Any) -> list[_Number]:
        own = self.micro_batches[: self._real or 1]  # of a copied sample, to be on the others' device
        if self._is_sum:  # `_run_one` sets them
            return [0.0] * self._real
        if prediction is not None:
            return [self._weights.of_batch(each, prediction, target, False) for each in own]
        return [*self._weights.of_window(own)]

    def _share_out(self, prediction: Any, target: Any) -> None:
        """Set the shares of the micro-batches in the global window, once its weight is known."""
        if not self._window_weights:
            self._is_sum = self._weights.is_sum()
            many = len(self.micro_batches) > 1
            self._window_weights[:] = self._own_weights(*((None, None) if many else (prediction, target)))
        if self._total is None:
            if not self._is_under_way:
                self._engine.exchange.start(self._own_total())
            self._total, self._is_under_way = self._engine.exchange.finish(), False
        copied: list[Any] = [0.0] * (len(self.micro_batches) - self._real)
        if self._is_sum:
            self._shares[:] = [*[None] * self._real, *copied]
            return
        total, weights = self._total, self._window_weights[: self._real]
        if isinstance(total, Tensor):
            safe = total + (total == 0)
            own: list[Any] = [weight / safe for weight in weights]
        elif total:
            own = [weight / total for weight in weights]
        else:  # every target is ignored: a whole batch's mean is nan, and a part counts nothing
            own = [None if self._is_whole() else 0.0] * self._real
        self._shares[:] = [*own, *copied]

    def _is_whole(self) -> bool:
        return len(self._prepared) == 1 and self._slots.split_window is None

    def _run_one(self, index: int, losses: list[_Number]) -> None:
        """Add the weighted gradients of a micro-batch, and its loss to ``losses`` unless it is copied."""
        slots, weighing, micro_batch = self._slots, self._weights, self.micro_batches[index]
        with slots.forward_context():
            prediction, target, loss = self.model.forward_loss(micro_batch)
        if type(loss) is not Tensor or loss.ndim or not loss.requires_grad:
            check_loss(loss, on_graph=True)
        if self.model.loss is not weighing.known and weighing.observe(micro_batch, prediction, target):
            self._window_weights = [] if not self._is_under_way else self._window_weights
        if not self._shares:
            self._share_out(prediction, target)
        share = self._shares[index]
        if type(share) is float:
            if not share:
                silence(prediction, share)
            share = loss.new_full((), share)
        elif share is not None:
            share = share.to(loss, copy=True)
            silence(prediction, share)
        if slots.scale_loss or slots.backward:
            self._pass_back(loss if share is None else weigh(loss, share))
        else:
            loss.backward(share)  # type: ignore[no-untyped-call]
        self._dtype = loss.dtype
        if index >= self._real:
            return
        if self._is_sum:
            self._window_weights[index] = weighing.of_batch(micro_batch, prediction, target, True)
        keep = self._keeping()
        if keep is not None:
            prediction = prediction.detach() if type(prediction) is Tensor else prediction
            keep((prediction, target), loss.detach(), self._window_weights[index])
        losses.append(loss.item() if losses and loss.is_cpu else loss.detach())

    def _joined(self, losses: list[_Number]) -> tuple[Tensor, Tensor]:
        """Return this process's part of the window's loss, and the mean loss of its own samples."""
        if not losses:
            nothing = torch.zeros((), dtype=self._dtype, device=self.model.device)
            return nothing, nothing
        first = losses[0]
        assert isinstance(first, Tensor)
        shares = self._shares[: self._real]
        if self._is_sum or shares[0] is None:
            whole = first if len(losses) == 1 else joined(losses, [None] * len(losses))
            return whole, whole
        own, weight = first, self._window_weights[0]
        if len(losses) > 1 or isinstance(weight, Tensor) or not weight or first.is_complex():
            own = joined(losses, shares_of(self._window_weights[: self._real]))
        # Only a procedure reads the part.
        return (own if self._slots.run_procedure is None else joined(losses, shares)), own

    def _global(self, part: Tensor) -> Tensor:
        """Return the loss of the whole window, for a procedure that reads it, such as a closure."""
        total = part.detach().clone()
        distributed.all_reduce(total)
        return total

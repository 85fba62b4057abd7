"""The contract of an optimizer."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from argus_core.checkpoint.restoring import name_optimizer_state
from argus_core.errors import ConflictError
from argus_core.steps.parameters import named_parameters
from argus_core.testing.comparison import difference
from argus_core.testing.contract import FIRST_CHECKS, Contract, expect
from argus_core.testing.contracts.callables import check_reloads
from argus_core.testing.operations import predictable, train
from argus_core.testing.probe import OptimizerProbe, regression_batches

__all__ = ["OptimizerContract"]

_UPDATES = 30
_SORTS = ("dense", "matrices", "sparse")


class OptimizerContract(Contract):
    """What an optimizer does: make a loss smaller, and go on exactly from its saved state.

    It is tried on a small network with weights of one to four dimensions; if it takes no such weights, on one
    of matrices alone and on one with a sparse gradient; with a closure if it asks for one.
    """

    kind = "optimizer"
    checks = (
        *FIRST_CHECKS,
        "make_the_loss_smaller",
        "have_a_learning_rate",
        "copy_deeply",
        "go_on_exactly_from_its_state",
        "go_on_exactly_in_a_fresh_process",
    )

    def be_built(self) -> None:
        first: Exception | None = None
        for self.sort in _SORTS:
            try:
                self.step = self._step()
                self._trained(1)
            except Exception as error:
                first = first or error
            else:
                return
        assert first is not None
        raise first

    def make_the_loss_smaller(self) -> None:
        (batch,) = regression_batches(1)
        model = self._model()
        losses = [model.train_step(batch)["loss"] for _ in range(_UPDATES)]
        expect(
            losses[-1] < losses[0],
            f"after {_UPDATES} updates on one batch the loss is {losses[-1]:.4g}, and it began at "
            f"{losses[0]:.4g}; "
            "look at the sign of the update, and give params with a learning rate for a small network",
        )

    def have_a_learning_rate(self) -> None:
        optimizer = self._trained(1).optimizer
        expect(
            all("lr" in group for group in optimizer.param_groups),
            'its param_groups have no "lr", which schedulers and set_lr change; put it into the defaults '
            "that "
            "torch.optim.Optimizer gets",
        )

    def copy_deeply(self) -> None:
        model = self._trained(2)
        problem = difference(
            copy.deepcopy(model.optimizer).state_dict(),
            model.optimizer.state_dict(),
            where="the copy's state",
        )
        expect(problem is None, f"{problem}; let copy.deepcopy take along its whole state")

    def go_on_exactly_from_its_state(self) -> None:
        model = self._trained(2)
        with tempfile.TemporaryDirectory() as folder, predictable():
            file = Path(folder, "model.safetensors")
            model.save(file, optimizer_state=True)
            resumed, _ = train(file, self._batches())
            for batch in self._batches():
                model.train_step(batch)
            problem = difference(resumed, dict(model.get_nn_module().state_dict()), where="the weights")
        named = name_optimizer_state(model.optimizer, named_parameters(model))["state"]
        unnamed = [name for name in named if name.startswith("#")]
        expect(
            not unnamed,
            "it keeps state of tensors that are no parameters of the network; keep it by parameter",
        )
        expect(
            problem is None,
            f"trained on from its saved state {problem} from training without a stop; keep all that an "
            "update depends on in self.state[parameter] or in the param_groups, as plain data and tensors",
        )

    def go_on_exactly_in_a_fresh_process(self) -> None:
        with predictable():
            check_reloads("train", self._trained(2), (self._batches(),))

    def _batches(self) -> list[Any]:
        return regression_batches()

    def _trained(self, updates: int) -> OptimizerProbe:
        with predictable():
            model = self._model()
            for batch in regression_batches(updates):
                model.train_step(batch)
        return model

    def _step(self) -> str | None:
        self.step = None
        try:
            self._model()
        except ConflictError:
            return "closure"
        return None

    def _model(self) -> OptimizerProbe:
        with predictable():
            return OptimizerProbe(
                {"nn_module": self.sort, "optimizer": self.spec, "step": self.step, "device": "cpu"}
            )

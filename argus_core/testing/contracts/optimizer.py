"""The contract of an optimizer."""

from __future__ import annotations

import copy

from argus_core.checkpoint.optimizer_state import name_optimizer_state
from argus_core.errors import ConflictError
from argus_core.steps.parameters import named_parameters
from argus_core.testing.comparison import difference
from argus_core.testing.contract import FIRST_CHECKS, expect
from argus_core.testing.contracts.resuming import UpdateContract
from argus_core.testing.operations import predictable
from argus_core.testing.probe import OptimizerProbe, regression_batches

__all__ = ["OptimizerContract"]

_UPDATES = 30
_SORTS = ("dense", "matrices", "sparse")


class OptimizerContract(UpdateContract):
    """The contract of an optimizer: it reduces a loss, and resumes exactly from its saved state.

    It is tried on a small network with weights of one to four dimensions; if it does not accept them, on one
    with matrices only, and on one with a sparse gradient. It is called with a closure if it requires one.
    """

    kind = "optimizer"
    advice = (
        "keep everything that an update depends on in self.state[parameter] or in the param_groups, as plain "
        "data and tensors"
    )
    checks = (
        *FIRST_CHECKS,
        "make_the_loss_smaller",
        "have_a_learning_rate",
        "copy_deeply",
        "resume_exactly_from_its_state",
        "resume_exactly_in_a_fresh_process",
    )

    def be_built(self) -> None:
        first: Exception | None = None
        for self.sort in _SORTS:
            try:
                self.step = self._step()
                self.trained(1)
            except Exception as error:
                first = first or error
            else:
                return
        assert first is not None
        raise first

    def make_the_loss_smaller(self) -> None:
        (batch,) = regression_batches(1)
        model = self.model()
        losses = [model.train_step(batch)["loss"] for _ in range(_UPDATES)]
        expect(
            losses[-1] < losses[0],
            f"after {_UPDATES} updates on one batch the loss is {losses[-1]:.4g}, not below {losses[0]:.4g}; "
            "check the sign of the update, and pass params with a learning rate for a small network",
        )

    def have_a_learning_rate(self) -> None:
        optimizer = self.trained(1).optimizer
        expect(
            all("lr" in group for group in optimizer.param_groups),
            'its param_groups have no "lr", which schedulers and set_lr change; add it to the defaults for '
            "torch.optim.Optimizer",
        )

    def copy_deeply(self) -> None:
        model = self.trained(2)
        problem = difference(
            copy.deepcopy(model.optimizer).state_dict(),
            model.optimizer.state_dict(),
            where="the copy's state",
        )
        expect(problem is None, f"{problem}; let copy.deepcopy copy its whole state")

    def resume_exactly_from_its_state(self) -> None:
        model = self.trained(1)
        named = name_optimizer_state(model.optimizer, named_parameters(model))["state"]
        expect(
            not any(name.startswith("#") for name in named),
            "it keeps state of tensors that are not parameters of the network; keep it by parameter",
        )
        super().resume_exactly_from_its_state()

    def _step(self) -> str | None:
        self.step = None
        try:
            self.model()
        except ConflictError:
            return "closure"
        return None

    def model(self) -> OptimizerProbe:
        with predictable():
            return OptimizerProbe(
                {"nn_module": self.sort, "optimizer": self.spec, "step": self.step, "device": "cpu"}
            )

"""The contract of a step strategy."""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import Any

from argus_core.errors import ConflictError
from argus_core.registry.registry import names, resolve
from argus_core.steps.composition import Composed
from argus_core.steps.strategy import Strategy
from argus_core.testing.composition import check_strategy
from argus_core.testing.contract import FIRST_CHECKS
from argus_core.testing.contracts.resuming import UpdateContract
from argus_core.testing.probe import OptimizerProbe

__all__ = ["StepContract"]


class StepContract(UpdateContract):
    """The contract of a step strategy: it composes with every other, and resumes exactly from its state."""

    kind = "step"
    options = MappingProxyType({"size": 2})
    advice = "return all that an update depends on from state_dict(), and restore it in load_state_dict()"
    checks = (
        *FIRST_CHECKS,
        "copy_deeply",
        "compose_with_every_other_strategy",
        "resume_exactly_from_its_state",
        "resume_exactly_in_a_fresh_process",
    )

    def be_built(self) -> None:
        self._compose(self.make())

    def copy_deeply(self) -> None:
        copied = copy.deepcopy(self.make())
        self._compose(copied)

    def compose_with_every_other_strategy(self) -> None:
        if self.options["size"] and self.component.name != "default":  # which takes part in every combination
            self.refused = check_strategy(self._short_name(), self.params, self.options["size"])

    def _short_name(self) -> str:
        """Return its name in the composition matrix."""
        if self.component.name in names("step") and resolve("step", self.component.name) is self.component:
            return self.component.name
        return self.name

    def _compose(self, instance: Any) -> None:
        Composed([Strategy(self.name, instance, self.component.origin)])

    def model(self) -> OptimizerProbe:
        params = {"nn_module": "dense", "step": [self.spec], "device": "cpu"}
        try:
            return OptimizerProbe({**params, "optimizer": ("SGD", {"lr": 0.05, "momentum": 0.9})})
        except ConflictError:  # it may need an optimizer that calls a closure
            return OptimizerProbe({**params, "optimizer": ("LBFGS", {"lr": 0.1, "max_iter": 2})})

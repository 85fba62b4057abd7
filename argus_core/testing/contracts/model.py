"""The contract of a model class."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from argus_core.model.model import Model
from argus_core.testing.contract import Contract, expect
from argus_core.testing.contracts.callables import check_reloads
from argus_core.testing.operations import predictable
from argus_core.testing.standard_inputs import made

__all__ = ["ModelContract"]


class ModelContract(Contract):
    """The contract of a model class: it trains, and gives the same results after it is saved and loaded."""

    kind = "model"
    options = MappingProxyType({"batch": None})
    checks = (
        "be_found_by_name",
        "be_imported",
        "take_plain_data",
        "be_built",
        "make_an_update",
        "load_in_a_fresh_process",
    )
    essential = (*Contract.essential, "make_an_update")

    def be_built(self) -> None:
        expect(
            isinstance(self.factory, type) and issubclass(self.factory, Model),
            lambda: f"it is {self.factory!r}; declare a subclass of argus_core.Model",
        )
        with predictable():
            self.model: Model = self.make()

    def make(self, *args: Any) -> Any:
        model = self.factory({**self.params, "device": "cpu"})
        return model

    def make_an_update(self) -> None:
        expect(
            self.options["batch"] is not None,
            "its checks need a batch; pass batch=..., or declare it in checked_with",
        )
        self.batch = made(self.options["batch"])
        with predictable():
            output = self.model.train_step(self.batch)
        missing = {"prediction", "target", "loss"} - set(output)
        expect(
            not missing,
            f"the result of train_step lacks {sorted(missing)}; return a mapping with all three",
        )

    def load_in_a_fresh_process(self) -> None:
        with predictable():
            check_reloads("evaluate", self.model, (self.batch,))

"""The contract of a learning-rate scheduler."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from argus_core.callbacks.lr_schedule import build_schedules
from argus_core.storage.plain_data import check_plain
from argus_core.testing.comparison import difference
from argus_core.testing.contract import Contract, expect
from argus_core.testing.fresh_process import in_fresh_process
from argus_core.testing.operations import fitted, predictable
from argus_core.testing.probe import OptimizerProbe, regression_batches

__all__ = ["SchedulerContract"]

_EPOCHS = 4
_STOP = 2


class SchedulerContract(Contract):
    """What a scheduler does: give usable rates, and go on exactly from its saved state.

    Its parameters may hold ``interval`` and ``monitor``, as in ``fit``.
    """

    kind = "lr_scheduler"
    checks = (
        "be_found_by_name",
        "be_imported",
        "document_its_parameters",
        "be_built",
        "give_usable_rates",
        "have_plain_state",
        "go_on_exactly_from_its_state",
        "go_on_exactly_in_a_fresh_process",
    )

    def be_built(self) -> None:
        (self.schedule,) = build_schedules(self.spec, _model())

    def give_usable_rates(self) -> None:
        with predictable():
            self.rates, self.weights = fitted(_model(), regression_batches(), **self._options(_EPOCHS))
        wrong = [rate for rate in self.rates if not 0 <= rate < float("inf")]
        expect(not wrong, f"it gives a learning rate of {wrong[:1]}; give numbers from 0 up" if wrong else "")

    def have_plain_state(self) -> None:
        check_plain(self.schedule.state_dict(), f"the state of {self.label}")

    def go_on_exactly_from_its_state(self) -> None:
        with tempfile.TemporaryDirectory() as folder, predictable():
            self._stop_in(Path(folder))
            found = fitted(_model(), regression_batches(), resume=folder, **self._options(_EPOCHS))
        self._compare(found, "resumed after two epochs")

    def go_on_exactly_in_a_fresh_process(self) -> None:
        with tempfile.TemporaryDirectory() as folder, predictable():
            self._stop_in(Path(folder))
            file = max(Path(folder).glob("*.safetensors"))
            found = in_fresh_process("fit", file, regression_batches(), Path(folder), self._options(_EPOCHS))
        self._compare(found, "resumed in a fresh process")

    def _options(self, num_epochs: int) -> dict[str, Any]:
        return {"num_epochs": num_epochs, "lr_scheduler": self.spec, "seed": 0}

    def _stop_in(self, folder: Path) -> None:
        checkpoint = ("checkpoint", {"dir_path": folder, "optimizer_state": True})
        fitted(_model(), regression_batches(), callbacks=[checkpoint], **self._options(_STOP))

    def _compare(self, found: Any, how: str) -> None:
        rates, weights = found
        problem = difference(rates, self.rates[-len(rates) :], where="the rates")
        problem = problem or difference(weights, self.weights, where="the weights")
        expect(
            problem is None,
            f"{how}, {problem} from a run without a stop; keep all that a rate depends on in attributes, "
            "which torch's state_dict() takes along, and compute rates from them alone",
        )


def _model() -> OptimizerProbe:
    with predictable():
        optimizer = ("SGD", {"lr": 0.05, "momentum": 0.9})
        return OptimizerProbe({"nn_module": "dense", "optimizer": optimizer, "device": "cpu"})

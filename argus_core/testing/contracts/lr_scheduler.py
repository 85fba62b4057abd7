"""The contract of a learning-rate scheduler."""

from __future__ import annotations

from typing import Any

from argus_core.callbacks.lr_schedule import build_schedules
from argus_core.callbacks.run_length import RunLength
from argus_core.storage.plain_data import check_plain
from argus_core.testing.contract import expect
from argus_core.testing.contracts.resuming import RunContract, run_model

__all__ = ["SchedulerContract"]


class SchedulerContract(RunContract):
    """The contract of a scheduler: its rates are usable, and it resumes exactly from its saved state.

    Its parameters may contain ``interval`` and ``monitor``, as in ``fit``.
    """

    kind = "lr_scheduler"
    advice = (
        "keep everything that a rate depends on in attributes, which torch's state_dict() contains, and "
        "compute rates only from them"
    )
    checks = (
        "be_found_by_name",
        "be_imported",
        "document_its_parameters",
        "be_built",
        "give_usable_rates",
        "have_plain_state",
        "resume_exactly_from_its_state",
        "resume_exactly_in_a_fresh_process",
    )

    def be_built(self) -> None:
        (self.schedule,) = build_schedules(self.spec, run_model(), RunLength.of(4, None, 4))

    def give_usable_rates(self) -> None:
        self.run_whole(self.run_options())
        wrong = [rate for rate in self.whole[0] if not 0 <= rate < float("inf")]
        expect(
            not wrong,
            f"a learning rate is {wrong[0]}; rates must be finite numbers of at least 0" if wrong else "",
        )

    def have_plain_state(self) -> None:
        check_plain(self.schedule.state_dict(), f"the state of {self.label}")

    def run_options(self) -> dict[str, Any]:
        return {"lr_scheduler": self.spec}

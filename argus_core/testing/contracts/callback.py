"""The contract of a callback."""

from __future__ import annotations

import copy
from typing import Any

from argus_core.callbacks import on_event
from argus_core.callbacks.audience import handlers_of
from argus_core.storage.encoding import encode
from argus_core.testing.comparison import difference
from argus_core.testing.contract import FIRST_CHECKS, expect
from argus_core.testing.contracts.resuming import RunContract, empty_folder, run, stop_in

__all__ = ["CallbackContract"]


class CallbackContract(RunContract):
    """The contract of a callback: it listens to known events, and runs with it resume exactly.

    It is checked in an empty folder, so relative paths in its parameters are harmless.
    """

    kind = "callback"
    advice = "return all that it depends on from state_dict(), and restore it in load_state_dict()"
    checks = (
        *FIRST_CHECKS,
        "listen_to_known_events",
        "take_part_in_a_run",
        "keep_its_state",
        "copy_deeply",
        "resume_exactly_from_its_state",
        "resume_exactly_in_a_fresh_process",
    )

    def be_built(self) -> None:
        with empty_folder():
            self.make()

    def listen_to_known_events(self) -> None:
        with empty_folder():
            callback = self.make()
            listening = handlers_of([callback])
        expect(
            any(listening.values()),
            lambda: (
                f"a {type(callback).__name__} listens to no event; give it a method that takes the state, "
                f"named {' or '.join(sorted(listening))}"
            ),
        )

    def take_part_in_a_run(self) -> None:
        with empty_folder():
            self.callback = self.make()
            self.run_whole({"callbacks": [self.callback]})

    def keep_its_state(self) -> None:
        if not hasattr(self.callback, "state_dict"):
            return
        kept: list[Any] = []
        with empty_folder() as folder:
            first, other = self.make(), self.make()
            keep = on_event("checkpoint_saved")(lambda state: kept.append(_state(first)))
            stop_in(folder, {"callbacks": [first, keep]})
            expect(isinstance(kept[-1], dict), f"its state_dict() returned {kept[-1]!r}; return a dict")
            encode(kept[-1], f"the state of {self.label}", {})
            # The event resumed comes after start, which must not change the loaded state.
            restored = on_event("resumed")(lambda state: kept.append(_state(other)))
            run({"callbacks": [other, restored]}, resume=folder)
        problem = difference(kept[-1], kept[-2], where="its state")
        expect(
            problem is None,
            f"in a resumed run {problem}; restore in load_state_dict() what state_dict() returned, "
            "and do not change it in start()",
        )

    def copy_deeply(self) -> None:
        if hasattr(self.callback, "state_dict"):
            with empty_folder():
                callback = self.make()
                problem = difference(
                    copy.deepcopy(callback).state_dict(), callback.state_dict(), where="the state"
                )
            expect(problem is None, f"in a deep copy {problem}; let copy.deepcopy copy its state")

    def run_options(self) -> dict[str, Any]:
        return {"callbacks": [self.spec]}


def _state(callback: Any) -> Any:
    return copy.deepcopy(callback.state_dict())

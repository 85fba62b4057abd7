"""The contract of a callback."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argus_core.callbacks import on_event
from argus_core.callbacks.audience import Audience
from argus_core.storage.encoding import encode
from argus_core.testing.comparison import difference
from argus_core.testing.contract import FIRST_CHECKS, Contract, expect
from argus_core.testing.fresh_process import in_fresh_process
from argus_core.testing.operations import fitted, predictable
from argus_core.testing.probe import OptimizerProbe, regression_batches

__all__ = ["CallbackContract"]

_EPOCHS = 4
_STOP = 2


class CallbackContract(Contract):
    """What a callback does: listen to events that there are, and let a run go on exactly.

    It is checked in an empty folder, so relative paths in its parameters are harmless.
    """

    kind = "callback"
    checks = (
        *FIRST_CHECKS,
        "listen_to_events_that_there_are",
        "take_part_in_a_run",
        "keep_its_state",
        "copy_deeply",
        "go_on_exactly_from_its_state",
        "go_on_exactly_in_a_fresh_process",
    )

    def be_built(self) -> None:
        with _empty_folder():
            self.make()

    def listen_to_events_that_there_are(self) -> None:
        with _empty_folder():
            callback = self.make()
            listening = Audience([callback]).handlers
        expect(
            any(listening.values()),
            lambda: (
                f"a {type(callback).__name__} listens to no event; give it a method named after one of "
                f"{', '.join(sorted(listening))}, which takes the state"
            ),
        )

    def take_part_in_a_run(self) -> None:
        with _empty_folder():
            self.callback = self.make()
            self.whole = self._fitted([self.callback], _EPOCHS)

    def keep_its_state(self) -> None:
        if not hasattr(self.callback, "state_dict"):
            return
        kept: list[Any] = []
        with _empty_folder() as folder:
            first, other = self.make(), self.make()
            keep = on_event("checkpoint_saved")(lambda state: kept.append(_state(first)))
            self._stop_in(folder, first, keep)
            expect(isinstance(kept[-1], dict), f"its state_dict() returned {kept[-1]!r}; return a dict")
            encode(kept[-1], f"the state of {self.label}", {})
            # Raised after start, which must leave alone what has been loaded.
            restored = on_event("resumed")(lambda state: kept.append(_state(other)))
            self._fitted([other, restored], _EPOCHS, resume=folder / "kept")
        problem = difference(kept[-1], kept[-2], where="its state")
        expect(
            problem is None,
            f"in a run that goes on {problem}; take back in load_state_dict() what state_dict() returned, "
            "and let start() leave it alone",
        )

    def copy_deeply(self) -> None:
        if hasattr(self.callback, "state_dict"):
            with _empty_folder():
                callback = self.make()
                problem = difference(
                    copy.deepcopy(callback).state_dict(), callback.state_dict(), where="the state"
                )
            expect(problem is None, f"in a deep copy {problem}; let copy.deepcopy take it along")

    def go_on_exactly_from_its_state(self) -> None:
        with _empty_folder() as folder:
            self._stop_in(folder, self.spec)
            found = self._fitted([self.spec], _EPOCHS, resume=folder / "kept")
        self._compare(found, "resumed after two epochs")

    def go_on_exactly_in_a_fresh_process(self) -> None:
        with _empty_folder() as folder:
            self._stop_in(folder, self.spec)
            file = max((folder / "kept").glob("*.safetensors"))
            options = {"num_epochs": _EPOCHS, "callbacks": [self.spec], "seed": 0}
            found = in_fresh_process("fit", file, regression_batches(), folder / "kept", options)
        self._compare(found, "resumed in a fresh process")

    def _fitted(self, callbacks: list[Any], num_epochs: int, **options: Any) -> Any:
        with predictable():
            return fitted(
                _model(), regression_batches(), callbacks=callbacks, num_epochs=num_epochs, seed=0, **options
            )

    def _stop_in(self, folder: Path, callback: Any, *others: Any) -> None:
        keep = ("checkpoint", {"dir_path": folder / "kept", "optimizer_state": True})
        self._fitted([callback, keep, *others], _STOP)

    def _compare(self, found: Any, how: str) -> None:
        problem = difference(found[1], self.whole[1], where="the weights")
        expect(
            problem is None,
            f"{how}, {problem} from a run without a stop; return from state_dict() all that it acts by, and "
            "take it back in load_state_dict()",
        )


def _model() -> OptimizerProbe:
    with predictable():
        return OptimizerProbe({"nn_module": "dense", "optimizer": ("SGD", {"lr": 0.05}), "device": "cpu"})


def _state(callback: Any) -> Any:
    return copy.deepcopy(callback.state_dict())


@contextmanager
def _empty_folder() -> Iterator[Path]:
    """Work in a folder that is gone afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)

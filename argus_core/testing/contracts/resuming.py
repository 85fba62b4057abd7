"""The common checks of components with state: training resumes exactly from their saved state."""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from argus_core.testing.comparison import difference
from argus_core.testing.contract import Contract, expect
from argus_core.testing.contracts.callables import check_reloads
from argus_core.testing.fresh_process import in_fresh_process
from argus_core.testing.operations import fitted, predictable, train
from argus_core.testing.probe import OptimizerProbe, regression_batches

__all__ = ["RunContract", "UpdateContract", "empty_folder", "run", "run_model", "stop_in"]

_EPOCHS = 4
_STOP = 2


class UpdateContract(Contract):
    """Abstract contract of a component that takes part in every update."""

    advice: ClassVar[str]

    @abstractmethod
    def model(self) -> OptimizerProbe:
        """Return a model with the component."""

    def trained(self, updates: int = 3) -> OptimizerProbe:
        """Return a model with the component, after some updates."""
        with predictable():
            model = self.model()
            for batch in regression_batches(updates):
                model.train_step(batch)
        return model

    def resume_exactly_from_its_state(self) -> None:
        with tempfile.TemporaryDirectory() as folder, predictable():
            model = self.trained()
            file = Path(folder, "model.safetensors")
            model.save(file, optimizer_state=True)
            resumed, _ = train(file, regression_batches())
            for batch in regression_batches():
                model.train_step(batch)
            problem = difference(resumed, dict(model.get_nn_module().state_dict()), where="the weights")
        expect(
            problem is None,
            f"after resuming from its saved state, {problem} from training without a stop; {self.advice}",
        )

    def resume_exactly_in_a_fresh_process(self) -> None:
        with predictable():
            check_reloads("train", self.trained(), (regression_batches(),))


class RunContract(Contract):
    """Abstract contract of a component of a run; a check of the subclass calls `run_whole`."""

    advice: ClassVar[str]
    whole: tuple[list[Any], dict[str, Any]]

    @abstractmethod
    def run_options(self) -> dict[str, Any]:
        """Return the arguments of `fit` for the component."""

    def run_whole(self, options: dict[str, Any]) -> None:
        """Run without a stop."""
        self.whole = run(options, _EPOCHS)

    def resume_exactly_from_its_state(self) -> None:
        with empty_folder() as folder:
            stop_in(folder, self.run_options())
            found = run(self.run_options(), _EPOCHS, resume=folder)
        self._compare(found, "resumed after two epochs")

    def resume_exactly_in_a_fresh_process(self) -> None:
        with empty_folder() as folder:
            stop_in(folder, self.run_options())
            file = max(folder.glob("*.safetensors"))
            options = {"num_epochs": _EPOCHS, "seed": 0, **self.run_options()}
            found = in_fresh_process("fit", file, regression_batches(), folder, options)
        self._compare(found, "resumed in a fresh process")

    def _compare(self, found: Any, how: str) -> None:
        rates, weights = found
        problem = difference(rates, self.whole[0][-len(rates) :], where="the rates")
        problem = problem or difference(weights, self.whole[1], where="the weights")
        expect(problem is None, f"{how}, {problem} from a run without a stop; {self.advice}")


def run_model() -> OptimizerProbe:
    """Return a model to run."""
    with predictable():
        optimizer = ("SGD", {"lr": 0.05, "momentum": 0.9})
        return OptimizerProbe({"nn_module": "dense", "optimizer": optimizer, "device": "cpu"})


def run(options: dict[str, Any], num_epochs: int = _EPOCHS, **others: Any) -> Any:
    """Return the rates and weights of a run with these options of `fit`."""
    with predictable():
        return fitted(run_model(), regression_batches(), num_epochs=num_epochs, seed=0, **options, **others)


def stop_in(folder: Path, options: dict[str, Any]) -> None:
    """Run as `run` does, and stop early with a checkpoint in the folder."""
    keep = ("checkpoint", {"dir_path": folder, "optimizer_state": True})
    run({**options, "callbacks": [*options.get("callbacks", ()), keep]}, _STOP)


@contextmanager
def empty_folder() -> Iterator[Path]:
    """Work in a temporary folder; yield another one."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        os.chdir(folder)
        try:
            yield Path(other)
        finally:
            os.chdir(before)

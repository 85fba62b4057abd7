"""The contract of an engine of several processes."""

from __future__ import annotations

import copy
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from argus_core.parallel.engine import AbstractParallel
from argus_core.parallel.single import Single
from argus_core.testing import engine_jobs as jobs
from argus_core.testing.composition import Example, examples
from argus_core.testing.contract import FIRST_CHECKS, Contract, expect
from argus_core.testing.engine_jobs import EngineResult, largest_difference
from argus_core.testing.fresh_process import in_fresh_process
from argus_core.testing.operations import predictable
from argus_core.testing.process_pool import Failed, Pool

__all__ = ["ParallelContract"]

_ROUNDING = 1e-5
_HALF_ROUNDING = 2e-2
_LONGEST_END = 10.0  # seconds
_SUM = (
    "add the gradients of all processes, without an average, in reduce_gradients or during the last backward "
    "of a window"
)


class ParallelContract(Contract):
    """The contract of an engine: several processes train, save and load as one process does."""

    kind = "parallel"
    options = MappingProxyType({"processes": 2})
    checks = (
        *FIRST_CHECKS,
        "copy_deeply",
        "give_reasons_for_what_it_refuses",
        "keep_the_network_and_its_names",
        "begin_with_the_values_of_the_first_process",
        "train_as_one_process_does",
        "train_with_every_step_strategy_or_refuse_it",
        "save_what_one_process_loads",
        "load_what_one_process_saved",
        "end_all_processes_if_one_fails",
        "train_in_a_fresh_process",
    )
    essential = (*Contract.essential, "keep_the_network_and_its_names", "train_as_one_process_does")

    _pool: Pool | None = None

    def be_built(self) -> None:
        self.engine = self.make()
        expect(
            isinstance(self.engine, AbstractParallel | Single),
            lambda: (
                f"its factory built {self.engine!r}; return an object of a class derived from "
                "argus_core.authors.AbstractParallel"
            ),
        )
        expect(
            "fork" in multiprocessing.get_all_start_methods(),
            "its checks need a system whose processes can fork; run them on Linux or macOS",
        )

    def copy_deeply(self) -> None:
        copied = copy.deepcopy(self.engine)
        expect(
            type(copied) is type(self.engine) and vars(copied).keys() == vars(self.engine).keys(),
            "its deep copy is not an engine with the same attributes; let __getstate__ return them all, with "
            "those that belong to one network emptied",
        )

    def give_reasons_for_what_it_refuses(self) -> None:
        conflicts: Any = self.engine.conflicts
        wrong = (
            [name for name, reason in conflicts.items() if not (isinstance(reason, str) and reason.strip())]
            if isinstance(conflicts, Mapping)
            else ["conflicts"]
        )
        expect(
            not wrong,
            f"{', '.join(map(repr, wrong))} has no reason; let conflicts be a dict of a trait and the "
            "reason, in words, why the engine refuses it",
        )

    def keep_the_network_and_its_names(self) -> None:
        self.first = self._run(jobs.built)
        alone = self._alone(jobs.built)
        for result in self.first:
            expect(
                result.keeps_network,
                "model.nn_module is an object of another class after wrap; change the network in place",
            )
            expect(
                [*result.weights] == [*alone.weights],
                lambda: (
                    f"the names in the network's state dict are {[*result.weights][:3]} after wrap, and were "  # noqa: B023
                    f"{[*alone.weights][:3]}; keep them, as checkpoints and user code need them"
                ),
            )
        self.initial = alone

    def begin_with_the_values_of_the_first_process(self) -> None:
        self._compare(
            self.first, self.initial, "wrap",
            "give all processes the values of the first in wrap, as torch.distributed.broadcast does",
        )  # fmt: skip

    def train_as_one_process_does(self) -> None:
        self.alone = self._alone(jobs.trained, [])
        self._compare(self._run(jobs.trained, []), self.alone, "training", _SUM)

    def train_with_every_step_strategy_or_refuse_it(self) -> None:
        self.refused: dict[str, str] = {}
        for example in examples():
            if example.name == "compile":  # seconds for each process; it changes no collective operation
                continue
            together = self._run(jobs.trained, [example.spec])
            alone = self._alone(jobs.trained, [example.spec])
            reasons = {result.refusal for result in together}
            expect(
                len(reasons) == 1,
                f"some processes refuse {example.label} and others train with it; decide by params alone",
            )
            if together[0].refusal:
                self.refused[example.label] = together[0].refusal
            elif not alone.refusal:
                self._compare(together, alone, f"training with {example.label}", _advice(example), example)

    def save_what_one_process_loads(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.safetensors")
            self._run(jobs.saved, file)
            found = self._alone(jobs.resumed, file)
        self._compare(
            [found], self._continued(), "saving in several processes and resuming in one",
            "return each tensor in full from whole, the optimizer's state too",
        )  # fmt: skip

    def load_what_one_process_saved(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.safetensors")
            with predictable():
                jobs.saved("single", file)
            found = self._run(jobs.resumed, file)
        self._compare(
            found, self._continued(), "saving in one process and resuming in several",
            "return from place what takes the place of a target, the optimizer's state too",
        )  # fmt: skip

    def end_all_processes_if_one_fails(self) -> None:
        if self.options["processes"] == 1:
            return
        began = time.monotonic()
        *others, own = self._living().run(jobs.failed, self.spec, may_fail=True)
        expect(
            time.monotonic() - began < _LONGEST_END and own.kind == "ZeroDivisionError",
            "after an exception in one process that one does not end with it; raise nothing else in leave",
        )
        expect(
            all(isinstance(each, Failed) and each.kind == "EndedByOtherError" for each in others),
            "after an exception in one process the others do not end with its reason; drop every reference "
            "to a process group in leave",
        )

    def train_in_a_fresh_process(self) -> None:
        count = self.options["processes"]
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(count) as threads:
            ranks = [
                threads.submit(in_fresh_process, "train_in_group", rank, count, folder, self.spec)
                for rank in range(count)
            ]
            found = [EngineResult(True, *rank.result()) for rank in ranks]
        self._compare(
            found, self.alone, "training in processes that import only argus_core",
            "import what it needs in its own module",
        )  # fmt: skip

    def _living(self) -> Pool:
        if self._pool is None or not self._pool.is_alive:
            self._pool = Pool(self.options["processes"])
        return self._pool

    def _run(self, job: Callable[..., EngineResult], *arguments: Any) -> list[Any]:
        results = self._living().run(job, self.spec, *arguments, may_fail=True)
        for rank, result in enumerate(results):
            if isinstance(result, Failed) and result.kind != "EndedByOtherError":
                message = " ".join(result.message.split())
                raise AssertionError(
                    f"process {rank} of {len(results)} raised {result.kind}: {message}; look at what the "
                    "engine does there"
                )
        return results

    def _alone(self, job: Callable[..., EngineResult], *arguments: Any) -> EngineResult:
        with predictable():
            return job("single", *arguments)

    def _continued(self) -> EngineResult:
        """Return the result of a run in one process that is saved and resumed in one."""
        with tempfile.TemporaryDirectory() as folder, predictable():
            file = Path(folder, "model.safetensors")
            jobs.saved("single", file)
            return jobs.resumed("single", file)

    def _compare(
        self,
        found: Sequence[EngineResult],
        alone: EngineResult,
        after: str,
        advice: str,
        example: Example | None = None,
    ) -> None:
        rounding = _HALF_ROUNDING if example is not None and example.name == "amp" else _ROUNDING
        for rank, result in enumerate(found):
            error = largest_difference(result, alone)
            expect(
                error <= rounding,
                f"after {after} process {rank} differs by {error:.3g} from one process; {advice}",
            )


def _advice(example: Example) -> str:
    return f"refuse {example.name!r} in conflicts, with the reason, or let its slots see reduced gradients"

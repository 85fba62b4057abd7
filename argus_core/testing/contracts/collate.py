"""The contract of a collate function."""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import Any

import torch

from argus_core.data.collation import build_collate
from argus_core.tensors.listing import tensors_in
from argus_core.testing.comparison import difference
from argus_core.testing.contract import FIRST_CHECKS, Contract, expect, sent_to_workers
from argus_core.testing.fresh_process import in_fresh_process
from argus_core.testing.operations import SEED, predictable
from argus_core.testing.standard_inputs import made

__all__ = ["CollateContract"]

_SAMPLES = 4


class CollateContract(Contract):
    """The contract of a collate function: it makes a batch of samples, in worker processes too."""

    kind = "collate"
    checks = (
        *FIRST_CHECKS,
        "make_a_batch",
        "give_the_same_batch_twice",
        "leave_its_samples_unchanged",
        "be_sent_to_worker_processes",
        "load_in_a_fresh_process",
    )
    options = MappingProxyType({"samples": None})

    def be_built(self) -> None:
        self.samples: Any = _standard() if self.options["samples"] is None else made(self.options["samples"])
        self.collate = build_collate(self.spec, self.label)

    def make_a_batch(self) -> None:
        self.batch = self._batch(self.collate)
        expect(
            any(True for _ in tensors_in(self.batch)),
            "a batch contains no tensor; return the samples' tensors, stacked or in lists",
        )

    def give_the_same_batch_twice(self) -> None:
        problem = difference(self._batch(self.collate), self.batch, where="the second batch")
        expect(
            problem is None,
            f"from the same samples and seed {problem}; keep no state between calls, and draw random numbers "
            "from torch, numpy's global generator or random, which are seeded for each batch",
        )

    def leave_its_samples_unchanged(self) -> None:
        given = copy.deepcopy(self.samples)
        with predictable():
            self.collate(given)
        problem = difference(given, self.samples, where="a sample")
        expect(problem is None, f"{problem} after the call; do not change samples in place")

    def be_sent_to_worker_processes(self) -> None:
        action = "return a function of a module, or an object of a class with __call__"
        sent = sent_to_workers(self.collate, action)
        problem = difference(self._batch(sent), self.batch, where="a batch")
        expect(
            problem is None, f"sent to another process, {problem}; let pickle store everything that it needs"
        )

    def load_in_a_fresh_process(self) -> None:
        problem = difference(
            in_fresh_process("batch_of", self.spec, self.samples), self.batch, where="a batch"
        )
        expect(problem is None, f"chosen by name in a fresh process {problem}; let it depend on nothing else")

    def _batch(self, collate: Any) -> Any:
        with predictable():
            return collate(copy.deepcopy(self.samples))


def _standard() -> list[tuple[torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(SEED)
    return [(torch.randn(3, generator=generator), number % 2) for number in range(_SAMPLES)]

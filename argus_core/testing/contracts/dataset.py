"""The contract of a dataset."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from torch.utils.data import IterableDataset

from argus_core.data.datasets import build_dataset, make_loader
from argus_core.tensors.listing import tensors_in
from argus_core.testing.comparison import difference
from argus_core.testing.contract import FIRST_CHECKS, Contract, expect, sent_to_workers
from argus_core.testing.fresh_process import in_fresh_process
from argus_core.testing.operations import predictable, seeded_samples

__all__ = ["DatasetContract"]

_COUNT = 5


class DatasetContract(Contract):
    """The contract of a dataset: it returns the same samples in every process, and makes batches."""

    kind = "dataset"
    checks = (
        *FIRST_CHECKS,
        "give_the_same_samples_twice",
        "end_at_its_length",
        "make_batches",
        "copy_deeply",
        "be_sent_to_worker_processes",
        "load_in_a_fresh_process",
    )

    def be_built(self) -> None:
        self.dataset: Any = build_dataset(self.spec, self.label)
        self.is_iterable = isinstance(self.dataset, IterableDataset)

    def give_the_same_samples_twice(self) -> None:
        self.samples = seeded_samples(self.spec, _COUNT)
        expect(bool(self.samples[1]), "it has no samples; choose other parameters or data")
        again = seeded_samples(self.spec, _COUNT)
        problem = difference(again, self.samples, where="a sample")
        expect(
            problem is None,
            f"built again, and from the same seed, {problem}; draw random numbers from torch, numpy's global "
            "generator or random, which are seeded for each sample, or from a generator that a parameter "
            "seeds",
        )

    def end_at_its_length(self) -> None:
        if self.is_iterable:
            return
        length = len(self.dataset)
        try:
            self.dataset[length]
        except IndexError:
            return
        except Exception as error:
            raise AssertionError(
                f"it has {length} samples, and index {length} raised {type(error).__name__}: {error}; "
                "raise IndexError, which ends loops"
            ) from error
        raise AssertionError(
            f"it has {length} samples, but returns another one at index {length}; raise IndexError, which "
            "ends loops"
        )

    def make_batches(self) -> None:
        size = 2 if self.is_iterable else min(2, len(self.dataset))
        with predictable():
            batch = next(iter(make_loader(self.dataset, size)))
        expect(
            isinstance(batch, tuple | list) and len(batch) == 2,
            lambda: (
                f"a batch of it is a {type(batch).__name__}"
                + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
                + "; return samples (input, target)"
            ),
        )
        expect(
            any(True for _ in tensors_in(batch)),
            "a batch of it contains no tensor; return tensors or numbers",
        )

    def copy_deeply(self) -> None:
        self._compare(
            copy.deepcopy(self.dataset), "a deep copy", "let copy.deepcopy copy everything that it reads"
        )

    def be_sent_to_worker_processes(self) -> None:
        action = "open files when the first sample is read, and store no lambdas"
        sent = sent_to_workers(self.dataset, action)
        self._compare(sent, "sent to another process", "let pickle store everything that it reads")

    def load_in_a_fresh_process(self) -> None:
        found = in_fresh_process("seeded_samples", self.spec, _COUNT)
        problem = difference(found, self.samples, where="a sample")
        expect(
            problem is None,
            f"chosen by name in a fresh process {problem}; read only files that its package installs",
        )

    def _compare(self, dataset: Any, what: str, action: str) -> None:
        found, expected = self._first(dataset), self._first(self.dataset)
        problem = difference(found, expected, where="a sample")
        expect(problem is None, f"{what}, {problem}; {action}")

    def _first(self, dataset: Any) -> list[Any]:
        with predictable():
            if self.is_iterable:
                return list(itertools.islice(dataset, _COUNT))
            return [dataset[index] for index in range(min(_COUNT, len(dataset)))]

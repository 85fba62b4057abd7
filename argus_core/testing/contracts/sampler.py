"""The contract of a sampler."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch.utils.data import TensorDataset

from argus_core.data.samplers import build_sampler
from argus_core.testing.contract import FIRST_CHECKS, Contract, expect
from argus_core.testing.fresh_process import in_fresh_process
from argus_core.testing.operations import SEED, order_of_indices, predictable
from argus_core.testing.standard_inputs import made

__all__ = ["SamplerContract"]

_SAMPLES = 24


class SamplerContract(Contract):
    """The contract of a sampler: it gives indices of its dataset, in an order that a seed decides."""

    kind = "sampler"
    checks = (
        *FIRST_CHECKS,
        "give_as_many_indices_as_its_length",
        "give_indices_of_the_dataset",
        "give_every_epoch_from_the_beginning",
        "give_the_same_order_from_the_same_seed",
        "give_the_same_order_in_a_fresh_process",
    )
    options = MappingProxyType({"dataset": None})

    def be_built(self) -> None:
        self.dataset: Any = _standard() if self.options["dataset"] is None else made(self.options["dataset"])
        with predictable():
            self.sampler = build_sampler(self.spec, self.dataset, self.label)
            self.indices = list(self.sampler)

    def give_as_many_indices_as_its_length(self) -> None:
        expect(
            len(self.indices) == len(self.sampler),
            f"it gives {len(self.indices)} indices, and its length is {len(self.sampler)}; return the number "
            "of indices of an epoch from __len__",
        )

    def give_indices_of_the_dataset(self) -> None:
        length = len(self.dataset)
        wrong = [index for index in self.indices if not isinstance(index, int) or not 0 <= index < length]
        expect(
            not wrong,
            lambda: (
                f"it gives {wrong[0]!r} for a dataset of {length} samples; give integers from 0 to "
                f"{length - 1}"
            ),
        )

    def give_every_epoch_from_the_beginning(self) -> None:
        with predictable():
            again = list(self.sampler)
        expect(
            len(again) == len(self.indices),
            f"iterated again, it gives {len(again)} indices instead of {len(self.indices)}; let __iter__ "
            "begin an epoch each time",
        )

    def give_the_same_order_from_the_same_seed(self) -> None:
        self.order = order_of_indices(self.spec, self.dataset)
        expect(
            order_of_indices(self.spec, self.dataset) == self.order,
            "two runs with the same seed give different orders, so a run cannot be resumed; draw from torch, "
            "numpy's global generator, random, or a generator in an attribute, which every epoch seeds",
        )

    def give_the_same_order_in_a_fresh_process(self) -> None:
        expect(
            in_fresh_process("order_of_indices", self.spec, self.dataset) == self.order,
            "chosen by name in a fresh process it gives another order; keep the order independent of hashes, "
            "of the time and of the process",
        )


def _standard() -> TensorDataset:
    """Return samples of three classes, half of them of the first."""
    generator = torch.Generator().manual_seed(SEED)
    targets = torch.tensor([0, 1, 0, 2] * (_SAMPLES // 4))
    return TensorDataset(torch.randn(_SAMPLES, 3, generator=generator), targets)

"""Batches that are read by one index are those of torch's default collation, to the last bit."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, TensorDataset, default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from argus_core.data.memory import is_in_memory
from argus_core.data.order import epoch_batches, ordered
from argus_core.errors import ArgusError

INPUTS = torch.randn(11, 2, 3)
TARGETS = torch.arange(11)


class Changed(TensorDataset):
    """Gives other samples than its tensors."""

    def __getitem__(self, index: int) -> Any:
        return tuple(2 * tensor for tensor in super().__getitem__(index))


class Own(Tensor):
    """A tensor with a type of its own."""


class Listed(Sampler[Any]):
    """Gives what it is told."""

    def __init__(self, indices: list[Any]) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[Any]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


IN_MEMORY: dict[str, Any] = {
    "tensors": TensorDataset(INPUTS, TARGETS, INPUTS.half(), TARGETS > 4, INPUTS.to(torch.complex64)),
    "one tensor": TensorDataset(INPUTS),
    "a channel of one": TensorDataset(torch.randn(5, 1, 4, 4), torch.randn(5, 1)),
    "no columns": TensorDataset(torch.zeros(5, 0), TARGETS[:5]),
    "a subset": Subset(TensorDataset(INPUTS, TARGETS), [3, 1, 1, 10]),
    "a nested subset": Subset(Subset(TensorDataset(INPUTS, TARGETS), range(2, 9)), torch.tensor([0, 6, 2])),
    "a plain tensor": INPUTS,
    "an array": numpy.random.default_rng(0).random((7, 3)).astype("float32"),
    "a subset of an array": Subset(numpy.arange(21).reshape(7, 3), [5, 2]),  # type: ignore[type-var]
}
USUAL: dict[str, Any] = {
    "a subclass": Changed(INPUTS, TARGETS),
    "a subset of a subclass": Subset(Changed(INPUTS, TARGETS), [2, 5]),
    "channels last": TensorDataset(torch.randn(5, 2, 4, 4).to(memory_format=torch.channels_last)),
    "another type of tensor": TensorDataset(INPUTS.as_subclass(Own)),
    "a tensor with gradients": TensorDataset(INPUTS.clone().requires_grad_()),
    "numbers in an array": numpy.arange(5.0),
    "columns in order": numpy.asfortranarray(numpy.ones((4, 3))),
    "a list": [1, 2, 3, 4],
}


def assert_same(given: Any, expected: Any) -> None:
    assert type(given) is type(expected)
    if isinstance(given, Tensor):
        assert (given.dtype, given.shape, given.stride()) == (
            expected.dtype,
            expected.shape,
            expected.stride(),
        )
        assert given.numpy(force=True).tobytes() == expected.numpy(force=True).tobytes()
        return
    for one, other in zip(given, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", [*IN_MEMORY, *USUAL])
def test_batches_are_those_of_torch(name: str) -> None:
    dataset = {**IN_MEMORY, **USUAL}[name]
    loader = DataLoader(dataset, 3)
    assert is_in_memory(loader) == (name in IN_MEMORY)
    assert_same(list(epoch_batches(ordered(loader, 0, "train"), 0)), list(loader))


@pytest.mark.parametrize("indices", [[0, -1, 3], [numpy.int64(2), 1], [torch.tensor(1), 2]])
def test_odd_indices_give_what_they_give_torch(indices: list[Any]) -> None:
    loader = DataLoader(IN_MEMORY["tensors"], 2, sampler=Listed(indices))
    assert_same(list(epoch_batches(ordered(loader, 0, "train"), 0)), list(loader))


@pytest.mark.parametrize("make", [numpy.array, torch.tensor, tuple, lambda batch: torch.tensor(batch).int()])
def test_batches_of_indices_of_any_type_give_what_they_give_torch(make: Any) -> None:
    loader = DataLoader(IN_MEMORY["tensors"], batch_sampler=[make([1, 2]), make([3])])
    assert_same(list(epoch_batches(ordered(loader, 0, "train"), 0)), list(loader))


def test_an_index_outside_the_dataset_is_an_error_that_names_the_sampler() -> None:
    loader = DataLoader(IN_MEMORY["tensors"], 2, sampler=Listed([0, 11]))
    with pytest.raises(ArgusError, match="Listed gives the index 11, and the dataset TensorDataset has 11 s"):
        list(epoch_batches(ordered(loader, 0, "train"), 0))


def test_workers_are_not_started_for_what_one_index_reads() -> None:
    for init, started in ((None, 0), (print, 2)):
        loader = DataLoader(IN_MEMORY["a subset"], 1, num_workers=2, worker_init_fn=init)
        before = multiprocessing.active_children()
        batches = epoch_batches(ordered(loader, 0, "train"), 0)
        next(batches)
        assert len({*multiprocessing.active_children()} - {*before}) == started
        list(batches)


def test_another_collation_is_used() -> None:
    loader = DataLoader(IN_MEMORY["tensors"], 2, collate_fn=len)
    assert list(epoch_batches(ordered(loader, 0, "train"), 0)) == [2] * 5 + [1]


def test_a_change_of_the_default_collation_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(batch: Any, *, collate_fn_map: Any = None) -> Tensor:
        return 2 * torch.stack(batch)

    monkeypatch.setitem(default_collate_fn_map, Tensor, doubled)
    loader = DataLoader(INPUTS, 11)  # type: ignore[arg-type]
    assert torch.equal(next(epoch_batches(ordered(loader, 0, "train"), 0)), 2 * INPUTS)


def test_tensors_that_are_exchanged_or_changed_are_read() -> None:
    dataset = TensorDataset(torch.zeros(4, 2))
    loader = ordered(DataLoader(dataset, 2), 0, "train")
    batches = epoch_batches(loader, 0)
    next(batches)
    dataset.tensors[0].fill_(3)
    assert next(batches)[0].tolist() == [[3, 3], [3, 3]]
    dataset.tensors = (torch.ones(2, 4).T, torch.zeros(4))
    assert_same(
        list(epoch_batches(loader, 1)), [default_collate([dataset[i], dataset[i + 1]]) for i in (0, 2)]
    )


def test_batches_do_not_share_memory_with_the_dataset() -> None:
    dataset: Dataset[Any] = TensorDataset(torch.zeros(4, 2))
    for (batch,) in epoch_batches(ordered(DataLoader(dataset, 4), 0, "train"), 0):
        batch.fill_(1)
    assert dataset[0][0].tolist() == [0, 0]

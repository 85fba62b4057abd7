"""What is wrong with a sample or a batch is told in a sentence, with and without workers."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import numpy
import pytest
import torch
from networks import Net
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    Subset,
    TensorDataset,
    default_collate,
)

import argus_core
from argus_core.data.order import epoch_batches, ordered, with_workers
from argus_core.errors import ArgusError

PARAMS = {"nn_module": ("net", {}), "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.1})}
SAMPLES = 12
WRONG = 7


class Points(Dataset[Any]):
    """Gives ``samples``, or raises what is an exception among them."""

    def __init__(self, wrong: Any = None) -> None:
        self.samples = [(torch.full((4,), float(index)), index % 3) for index in range(SAMPLES)]
        if wrong is not None:
            self.samples[WRONG] = wrong

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        sample = self.samples[index]
        if isinstance(sample, Exception):
            raise sample
        return sample


class Whole(Points):
    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


class Chosen(Sampler[int]):
    def __init__(self, *indices: int) -> None:
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(Points().samples)


class Loader(DataLoader[Any]):
    pass


def stop(samples: list[Any]) -> Any:
    return next(iter(()))


def refuse(samples: list[Any]) -> Any:
    raise ValueError("no such batch")


def end(worker: int) -> None:
    if worker == 1:
        next(iter(()))


def read(loader: Iterable[Any]) -> None:
    loader = ordered(loader, 0, "train")
    with with_workers([loader]):  # torch waits for workers for seconds when it is garbage that ends them
        list(epoch_batches(loader, 0))


X = torch.zeros(4)
OUTSIDE = Chosen(0, 1, SAMPLES)
SENTENCES: dict[str, tuple[Any, str]] = {
    "outside": (
        lambda **more: DataLoader(Points(), 2, sampler=OUTSIDE, **more),
        "^Chosen gives the index 12, and the dataset Points has 12 samples; give the sampler the dataset",
    ),
    "outside, a batch sampler": (
        lambda **more: DataLoader(Points(), batch_sampler=BatchSampler(Chosen(-13), 2, False), **more),
        "^Chosen gives the index -13, and the dataset Points has 12 samples",
    ),
    "outside, of numpy": (
        lambda **more: DataLoader(Points(), 2, sampler=Chosen(*numpy.array([12])), **more),
        "^Chosen gives the index 12, and the dataset Points has 12 samples",
    ),
    "outside a subset": (
        lambda **more: DataLoader(Subset(Points(), [3, 4]), 2, sampler=Chosen(0, 2), **more),
        "^Chosen gives the index 2, and the dataset Subset has 2 samples",
    ),
    "a subset of too much": (
        lambda **more: DataLoader(Subset(Points(), [3, 40]), 2, **more),
        "gives the index 40, and the dataset Points has 12 samples",
    ),
    "None": (
        lambda **more: DataLoader(Nothing(), 4, **more),
        "^sample 7 is None; give it a value, leave the sample out .*, or give the DataLoader a collate",
    ),
    "None within": (
        lambda **more: DataLoader(Points((X, None)), 4, **more),
        r"^sample 7 holds None at \[1\]; give it a value",
    ),
    "another shape": (
        lambda **more: DataLoader(Points((torch.zeros(5), 0)), 4, **more),
        r"^samples 4 and 7 differ at \[0\]: Tensor of shape \(4,\) and Tensor of shape \(5,\); make them",
    ),
    "another number of values": (
        lambda **more: DataLoader(Points((X,)), 4, **more),
        r"^samples 4 and 7 differ at \[1\]: int and nothing; make them alike",
    ),
    "another key": (
        lambda **more: DataLoader(Subset(Points(({"a": X, "b": X}, 0)), [WRONG, 1]), 4, **more),
        r"^samples 7 and 1 differ at \[0\]\['a'\]: Tensor of shape \(4,\) and nothing",
    ),
    "StopIteration": (
        lambda **more: DataLoader(Points(StopIteration()), 4, **more),
        "^the dataset Points raised StopIteration at index 7, as next",
    ),
    "StopIteration of a batch": (
        lambda **more: DataLoader(Whole(StopIteration()), 4, **more),
        "^the dataset Whole raised StopIteration at the indices 4, 5, 6, 7, as next",
    ),
    "StopIteration of a collation": (
        lambda **more: DataLoader(Points(), 4, collate_fn=stop, **more),
        "^the collate_fn stop raised StopIteration, as next",
    ),
    "CUDA": (
        lambda **more: DataLoader(Points(RuntimeError(IN_A_FORK)), 4, **more),
        "^the dataset Points uses CUDA at index 7, which forked workers cannot; let it give CPU tensors",
    ),
}

IN_A_FORK = "Cannot re-initialize CUDA in forked subprocess. To use CUDA ..."  # of torch


class Nothing(Points):
    def __getitem__(self, index: int) -> Any:
        return None if index == WRONG else super().__getitem__(index)


@pytest.mark.parametrize(("make", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_a_sentence_names_the_sample(make: Any, sentence: str) -> None:
    with pytest.raises(ArgusError, match=sentence):
        read(make())


@pytest.mark.parametrize("name", ["outside", "None", "StopIteration of a collation"])
def test_the_sentence_is_the_same_from_a_worker(name: str) -> None:
    make, sentence = SENTENCES[name]
    with pytest.raises(ArgusError, match=sentence):
        read(make(num_workers=1))


def test_negative_indices_count_from_the_end_as_before() -> None:
    read(DataLoader(Points(), 2, sampler=Chosen(-1, -12)))


OF_SAMPLES = (
    "from 10 samples at the indices 0, 1, 2, 3, 4, 5, 6, 7 and 2 more, the first of which is "
    "(Tensor of shape (4,), int)"
)
NOTES: dict[str, tuple[Any, str]] = {
    "a sample": (
        lambda **more: DataLoader(Points(ValueError("bad")), 4, **more),
        "in dataset Points, at index 7",
    ),
    "a key": (lambda **more: DataLoader(Points(KeyError("bad")), 4, **more), "in dataset Points, at index 7"),
    "a batch": (
        lambda **more: DataLoader(Whole(ValueError("bad")), 4, **more),
        "in dataset Whole, at the indices 4, 5, 6, 7",
    ),
    "a collation": (
        lambda **more: DataLoader(Points(), 10, collate_fn=refuse, **more),
        f"in collate_fn refuse, {OF_SAMPLES}",
    ),
}


@pytest.mark.parametrize(
    ("make", "place", "workers"),
    [*((make, place, 0) for make, place in NOTES.values()), (*NOTES["a key"], 1)],
)
def test_other_exceptions_keep_their_type_and_a_note_names_the_samples(
    make: Any, place: str, workers: int
) -> None:
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        model = argus_core.Model({**PARAMS, "device": "cpu"})
        with pytest.raises((ValueError, KeyError), match="bad|no such batch") as caught:
            model.fit(make(num_workers=workers), seed=0)
    (note,) = caught.value.__notes__
    assert note.startswith(f"raised by the loader, {place}, after ")


def test_a_default_collation_that_fails_for_another_reason_raises_its_own_error() -> None:
    with pytest.raises(TypeError, match="default_collate: batch must contain tensors"):
        read(DataLoader(Points((X, object())), 4, sampler=Chosen(WRONG)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "object of type 'NoneType' has no len"),
        ((X, None), "Could not infer dtype of NoneType"),
        ((torch.zeros(5), 0), "stack expects each tensor to be equal size"),
        ((X,), "each element in list of batch should be of equal size"),
        (({"a": X}, 0), "expected Tensor as element 1 in argument 0, but got dict"),
    ],
)
def test_the_sentences_describe_what_the_default_collation_refuses(wrong: Any, message: str) -> None:
    with pytest.raises((TypeError, RuntimeError), match=message):
        default_collate([Points()[0], wrong])


def test_a_dataset_that_cannot_be_pickled_is_named_before_workers_spawn() -> None:
    class Local(Points):
        pass

    loader = DataLoader(Local(), 4, num_workers=1, multiprocessing_context="spawn")
    with pytest.raises(
        ArgusError,
        match=r"^the dataset Local cannot be sent to workers of the start method 'spawn' \(.*Local.*\)",
    ) as caught:
        read(loader)
    assert isinstance(caught.value.__cause__, (AttributeError, pickle.PicklingError))


@pytest.mark.parametrize(
    ("part", "name"), [("collate_fn", "the collate_fn"), ("worker_init_fn", "the worker_init_fn")]
)
def test_a_function_that_cannot_be_pickled_is_named_before_workers_spawn(part: str, name: str) -> None:
    own: Any = {part: lambda value: value}
    loader = DataLoader(Points(), 4, num_workers=1, multiprocessing_context="spawn", **own)
    with pytest.raises(ArgusError, match=f"^{name} cannot be sent to workers of the start method 'spawn'"):
        read(loader)


@pytest.mark.parametrize(
    ("kind", "data"), [(DataLoader, Points()), (DataLoader, Stream()), (Loader, Points())]
)
def test_a_worker_init_fn_that_raises_stop_iteration_does_not_end_the_epoch_in_silence(
    kind: type[DataLoader[Any]], data: Any
) -> None:
    with pytest.raises(ArgusError, match="^the loader's worker_init_fn raised StopIteration in a worker, as"):
        read(kind(data, 2, num_workers=2, worker_init_fn=end))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("is_persistent", [False, True])
def test_workers_of_a_loader_that_is_left_early_end_at_once(is_persistent: bool) -> None:
    loader = Loader(Points(), 2, num_workers=2, persistent_workers=is_persistent)
    batches = epoch_batches(ordered(loader, 0, "train"), 0)
    next(batches)
    del batches
    assert len(multiprocessing.active_children()) == (2 if is_persistent else 0)
    del loader
    gc.collect()
    for process in multiprocessing.active_children():
        process.join()


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Points(), 100, drop_last=True),
        DataLoader(TensorDataset(torch.zeros(0, 4), torch.zeros(0)), 4),
    ],
    ids=["dropped", "empty"],
)
def test_a_loader_without_batches_is_told(loader: Any) -> None:
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        model = argus_core.Model(
            {"nn_module": ("net", {}), "loss": "MSELoss", "optimizer": ("SGD", {"lr": 0.1})}
        )
        with pytest.raises(
            ArgusError, match="the train loader gave no batches; give it data, or drop drop_last"
        ):
            model.fit(loader)

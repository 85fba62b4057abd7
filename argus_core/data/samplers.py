"""Samplers by name; those in a loader, their generators, and the orders of torch's own as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from argus_core.data.code_holdings import of_class, of_slots
from argus_core.data.targets import classes_of
from argus_core.errors import ArgusError, BuildError, ParamsError
from argus_core.registry.arguments import handed_over
from argus_core.registry.factory import call_factory, in_a_sentence
from argus_core.registry.registry import resolve
from argus_core.registry.spec import parse_spec
from argus_core.tensors.generators import is_generator

__all__ = [
    "BatchesOfOne",
    "build_sampler",
    "class_balanced",
    "held",
    "is_of_torch",
    "knows_of_processes",
    "order_of",
]

_MOST_SAMPLERS = 100  # in a list of samplers; longer lists hold indices or weights
_SAMPLERS = {"sampler", "batch_sampler"}  # names of attributes
_MOST_WEIGHTS = 2**24  # that torch.multinomial takes
_OF_TORCH = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def build_sampler(spec: Any, dataset: Any, where: str) -> Any:
    """Build the sampler that a spec chooses, for a dataset; ``where`` is the beginning of messages.

    The factory gets the dataset if it asks for it: its first parameter is called ``dataset``, or
    ``data_source`` as in torch's samplers.

    Raises:
        ArgusError: the dataset keeps its own order, or the sampler gives no samples.
        BuildError: the component builds an object that is not a sampler.
    """
    if isinstance(dataset, IterableDataset):
        raise ArgusError(
            f"{where} is {spec!r}, and {type(dataset).__name__} is an IterableDataset, which has its own "
            "order; leave the sampler out, or use a dataset with __getitem__"
        )
    chosen = parse_spec("sampler", spec, where)
    factory = resolve("sampler", chosen.name).load()
    asked = (dataset,)[: handed_over("sampler", factory)]
    sampler: Any = call_factory(f"sampler {chosen.name!r}", factory, asked, chosen.params)
    if isinstance(sampler, BatchSampler):
        raise BuildError(
            f"{where} builds a {type(sampler).__name__}, which gives batches; its factory must return a "
            "sampler that gives single indices; to choose batches, pass DataLoader(batch_sampler=...) to fit"
        )
    if not hasattr(sampler, "__iter__") or not hasattr(sampler, "__len__"):
        raise BuildError(
            f"{where} builds a {type(sampler).__name__}, which is not a sampler; its factory must return an "
            "object with __iter__ and __len__, such as a torch.utils.data.Sampler"
        )
    with in_a_sentence(BuildError, lambda: f"{where}: len() of its sampler fails", "check its parameters"):
        samples = len(sampler)
    if samples == 0:
        raise ArgusError(f"{where} gives no samples; choose other parameters")
    return sampler


def class_balanced(dataset: Any, num_samples: int | None = None) -> WeightedRandomSampler:
    """Return a sampler that draws each class equally often, with replacement.

    The dataset's ``targets`` (or ``labels``) holds the class of each sample; a `TensorDataset` needs no
    attribute if its last tensor does.

    Args:
        dataset: the training data.
        num_samples: samples in an epoch; by default as many as the dataset has.
    """
    if num_samples is not None and num_samples < 1:
        raise ParamsError(f"sampler 'class_balanced': num_samples is {num_samples!r}; give 1 or more")
    if len(dataset) > _MOST_WEIGHTS:
        raise ArgusError(
            f"sampler 'class_balanced' draws from at most 2**24 samples, and {type(dataset).__name__} has "
            f"{len(dataset):,}; train on a subset of it"
        )
    classes = classes_of(dataset, "sampler 'class_balanced'")
    weights = torch.from_numpy(1.0 / classes.counts[classes.numbers])
    return WeightedRandomSampler(weights, len(dataset) if num_samples is None else num_samples)  # type: ignore[arg-type]


class_balanced.exact_types = True  # type: ignore[attr-defined]


class BatchesOfOne:
    """A batch sampler whose batches have one index each, which may be a list or a slice of indices.

    Args:
        sampler: of a loader with ``batch_size=None``.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Any]]:
        return ([index] for index in self.sampler)


def held(batches: Any) -> tuple[list[Any], list[Any]]:
    """Return all samplers that make the batches, nested ones too, and their generators."""
    samplers, generators, seen = [], [], {id(batches)}
    waiting = [batches]
    while waiting:
        sampler = waiting.pop(0)
        samplers.append(sampler)
        for name, value in _values(sampler):
            if id(value) in seen or isinstance(value, type):
                continue
            seen.add(id(value))
            if is_generator(value):
                generators.append(value)
            elif _is_sampler(name, value):
                waiting.append(value)
    return samplers, generators


def knows_of_processes(loader: Any) -> bool:
    """Return whether a DataLoader's sampler gives each process its own part, as `DistributedSampler` does."""
    batches = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    return any(hasattr(each, "num_replicas") and hasattr(each, "rank") for each in held(batches)[0])


def _values(sampler: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a sampler holds, and the items of short lists among it, by the name of the attribute."""
    of_classes = (part for kind in type(sampler).__mro__ for part in of_class(kind))
    for name, value in (*getattr(sampler, "__dict__", {}).items(), *of_slots(sampler), *of_classes):
        items: Any = value.values() if isinstance(value, dict) else value
        if not isinstance(value, list | tuple | dict):
            items = (value,)
        elif len(value) > _MOST_SAMPLERS:
            continue
        yield from ((name, item) for item in items)


def _is_sampler(name: str, value: Any) -> bool:
    """Return whether an attribute holds a sampler, which need not be of torch's class."""
    holds_one = not _SAMPLERS.isdisjoint(getattr(value, "__dict__", ()))
    is_called_one = name.rpartition(".")[2] in _SAMPLERS and hasattr(value, "__iter__")
    return isinstance(value, Sampler) or holds_one or is_called_one


def is_of_torch(batches: Any) -> bool:
    """Return whether `order_of` knows the sampler that makes the batches."""
    return type(batches) is BatchSampler and type(batches.sampler) in _OF_TORCH


def order_of(sampler: Any) -> Tensor | range:
    """Return the numbers that one of torch's own samplers would give, drawn as it would draw them.

    Those of a `SubsetRandomSampler` are places in its list of indices.
    """
    if isinstance(sampler, SequentialSampler):
        return range(len(sampler.data_source))
    if isinstance(sampler, SubsetRandomSampler):
        return torch.randperm(len(sampler.indices), generator=sampler.generator)
    if isinstance(sampler, WeightedRandomSampler):
        return torch.multinomial(
            sampler.weights, sampler.num_samples, sampler.replacement, generator=sampler.generator
        )
    generator = sampler.generator
    if generator is None:
        generator = torch.Generator()
        generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
    length, number = len(sampler.data_source), sampler.num_samples
    if sampler.replacement:
        return torch.randint(length, (number,), generator=generator)
    parts = [torch.randperm(length, generator=generator) for _ in range(-(-number // length))]
    return parts[0][:number] if len(parts) == 1 else torch.cat(parts)[:number]

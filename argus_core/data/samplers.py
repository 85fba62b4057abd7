"""The samplers that make a loader's batches, their generators, and the orders of torch's own as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from argus_core.tensors.generators import is_generator

__all__ = ["held", "is_of_torch", "order_of"]

_MOST_SAMPLERS = 100  # in a list of samplers; longer lists hold indices or weights
_OF_TORCH = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def held(batches: Any) -> tuple[list[Any], list[Any]]:
    """Return all samplers that make the batches, nested ones too, and their generators."""
    samplers, generators, seen = [], [], {id(batches)}
    waiting = [batches]
    while waiting:
        sampler = waiting.pop(0)
        samplers.append(sampler)
        for value in _values(getattr(sampler, "__dict__", {})):
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, type):
                continue
            if is_generator(value):
                generators.append(value)
            elif (
                isinstance(value, Sampler)
                or {"sampler", "batch_sampler"} & getattr(value, "__dict__", {}).keys()
            ):
                waiting.append(value)
    return samplers, generators


def _values(attributes: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the values of attributes, and the items of those that are short lists."""
    for value in attributes.values():
        if isinstance(value, list | tuple | dict) and len(value) <= _MOST_SAMPLERS:
            yield from value.values() if isinstance(value, dict) else value
        else:
            yield value


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

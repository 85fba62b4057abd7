"""Datasets chosen by name, and data loaders with a seeded order."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from argus_core.config import SECTIONS
from argus_core.errors import ArgusError, BuildError
from argus_core.registry.factory import build_component

__all__ = ["build_dataset", "make_loader"]


def build_dataset(spec: Any, where: str) -> Dataset[Any]:
    """Build the dataset that a spec chooses; ``where`` is the beginning of messages.

    Raises:
        ArgusError: the dataset is empty.
        BuildError: the component builds an object that is not a dataset.
    """
    dataset: Any = build_component("dataset", spec, where)
    if isinstance(dataset, IterableDataset):
        return dataset
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise BuildError(
            f"{where} builds a {type(dataset).__name__}, which is not a dataset; its factory must return "
            "something with __len__ and __getitem__, or a torch.utils.data.IterableDataset"
        )
    if len(dataset) == 0:
        raise ArgusError(f"{where} has no samples; choose other parameters or data")
    found: Dataset[Any] = dataset
    return found


def make_loader(
    dataset: Dataset[Any],
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = False,
    sampler: Any = None,
    collate: Any = None,
    drop_last: bool = False,
    num_workers: int = 0,
    persistent_workers: bool | None = None,
    prefetch_factor: int | None = None,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Return a data loader whose order, and whose workers' random numbers, depend on ``seed`` only.

    The order does not depend on the number of workers. An iterable dataset keeps its own order and is
    never shuffled. Workers live as long as the loader unless ``persistent_workers`` is False. Memory is
    pinned only on a machine with an accelerator.

    Args:
        dataset: what it loads.
        batch_size: samples in a batch.
        seed: of the order.
        shuffle: whether each epoch has its own order.
        sampler: an object that gives indices, in place of ``shuffle``.
        collate: a function that makes a batch of samples; by default torch's.
        drop_last: whether to leave out a smaller last batch.
        num_workers: processes that read data.
        persistent_workers: whether they stay for the next epoch.
        prefetch_factor: batches that each of them reads ahead.
        pin_memory: whether batches wait in memory that an accelerator reads faster.

    Raises:
        ParamsError: a number is out of range; a configuration file has the same ranges.
    """
    for name, value in (("batch_size", batch_size), ("num_workers", num_workers)):
        SECTIONS["data"][name].check(value, f"make_loader: {name}")
    SECTIONS["fit"]["seed"].check(seed, "make_loader: seed")
    # Each loader has its own generator: with torch's global one, a change to one loader would change all,
    # and persistent workers, which draw less often, would change the order.
    if sampler is not None and getattr(sampler, "generator", seed) is None:
        sampler.generator = _generator(seed)
    if sampler is None and shuffle and not isinstance(dataset, IterableDataset):
        sampler = RandomSampler(cast(Sized, dataset), generator=_generator(seed))
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        collate_fn=collate,
        drop_last=drop_last,
        num_workers=num_workers,
        persistent_workers=num_workers > 0 and persistent_workers is not False,
        prefetch_factor=prefetch_factor if num_workers > 0 else None,
        pin_memory=pin_memory and torch.accelerator.is_available(),
        generator=_generator(seed),
    )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)

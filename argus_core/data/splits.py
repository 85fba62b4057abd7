"""The split of a dataset into training, validation and test data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from torch.utils.data import IterableDataset

from argus_core.data.targets import Classes, classes_of
from argus_core.errors import ArgusError

__all__ = ["split_indices"]

Indices = numpy.ndarray[Any, Any]


def split_indices(
    dataset: Any, shares: Mapping[str, float | int], seed: int, stratify: bool, where: str
) -> dict[str, list[int]]:
    """Return the indices of the samples of each part, and of the rest as ``"train"``; sorted.

    They depend on the number of samples, the shares, the seed and, if stratified, the classes only: the same
    on every machine and with every version of torch and numpy.

    Args:
        dataset: has a length.
        shares: of the parts: a share between 0 and 1, or a number of samples.
        seed: of the choice.
        stratify: give every part the same share of each class, as near as whole samples allow.
        where: the beginning of messages.

    Raises:
        ArgusError: a part is empty, or lacks a class if stratified; or the dataset cannot be split.
    """
    if isinstance(dataset, IterableDataset):
        raise ArgusError(
            f"{where} splits {type(dataset).__name__}, an IterableDataset, whose samples have no indices; "
            "use a dataset with __getitem__, or leave split out and choose val"
        )
    counts = _counts(len(dataset), shares, where)
    # RandomState, since only its numbers are the same in every version of numpy (NEP 19).
    order = numpy.random.RandomState(seed).permutation(len(dataset))
    if not stratify:
        ends = numpy.cumsum([0, *counts.values()])
        chosen = {part: order[start:end] for part, start, end in zip(counts, ends, ends[1:], strict=False)}
    else:
        chosen = _stratified(order, counts, classes_of(dataset, f"{where} with stratify"), where)
    return {part: numpy.sort(indices).tolist() for part, indices in chosen.items()}


def _counts(samples: int, shares: Mapping[str, float | int], where: str) -> dict[str, int]:
    """Return the number of samples of each part, training data last."""
    counts = {
        part: share if isinstance(share, int) else round(samples * share) for part, share in shares.items()
    }
    for part, count in counts.items():
        if count == 0:
            raise ArgusError(
                f"{where} gives {part} no sample: {shares[part]} of {samples} samples is "
                f"{samples * shares[part]:g}; give a larger share, or a number of samples"
            )
    rest = samples - sum(counts.values())
    if rest < 1:
        given = " and ".join(f"{part} {count}" for part, count in counts.items())
        raise ArgusError(
            f"{where} gives {given} of {samples} samples, which leaves none to train on; give smaller shares"
        )
    return {**counts, "train": rest}


def _stratified(
    order: Indices, counts: Mapping[str, int], classes: Classes, where: str
) -> dict[str, Indices]:
    """Return the samples of each part, taken from each class in the order given."""
    chosen: dict[str, list[Indices]] = {part: [] for part in counts}
    left = [order[classes.numbers[order] == number] for number in range(len(classes.names))]
    remaining = sum(counts.values())
    for part, count in counts.items():
        taken = _apportioned(count, [*map(len, left)], remaining)
        for number, take in enumerate(taken):
            if take == 0:
                samples = int(classes.counts[number])
                raise ArgusError(
                    f"{where} leaves {part} without class {classes.names[number]!r}, which has {samples} "
                    f"sample{'s' * (samples != 1)}; give {part} a larger share, leave the class out of the "
                    "data, or set stratify = false"
                )
            chosen[part].append(left[number][:take])
            left[number] = left[number][take:]
        remaining -= count
    return {part: numpy.concatenate(indices) for part, indices in chosen.items()}


def _apportioned(count: int, sizes: Sequence[int], total: int) -> list[int]:
    """Return how many of ``count`` samples each class gives, by the largest remainder."""
    exact = [divmod(count * size, total) for size in sizes]
    taken = [whole for whole, _ in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda number: -exact[number][1])
    for number in by_remainder[: count - sum(taken)]:
        taken[number] += 1
    return taken

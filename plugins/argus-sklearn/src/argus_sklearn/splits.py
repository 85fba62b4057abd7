"""Which samples belong to the train, val and test splits of a dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

from argus_core import ParamsError

__all__ = ["SPLITS", "Indices", "check_split", "split_indices"]

Indices = NDArray[np.int64]

SPLITS = ("train", "val", "test", "all")
_LARGEST_SEED = 2**32 - 1


def check_split(split: str) -> None:
    """Raise `ParamsError` unless ``split`` is one of `SPLITS`."""
    if split not in SPLITS:
        raise ParamsError(f"no split named {split!r}; choose 'train', 'val', 'test' or 'all'")


def split_indices(
    target: NDArray[np.generic], seed: int, val_fraction: float, test_fraction: float
) -> Mapping[str, Indices]:
    """Return the samples of each of `SPLITS`, by index.

    Train, val and test are disjoint, cover all samples and are in random order; 'all' is in the
    data's own order. Where ``target`` holds classes (integers), each split has all of them in equal
    shares. The test split depends on ``seed`` and ``test_fraction`` alone, so that ``val_fraction``
    can be changed without a look at it.
    """
    _check_seed(seed)
    _check_fractions(val_fraction, test_fraction)
    everything = np.arange(len(target), dtype=np.int64)
    try:
        rest, test = _take(everything, round(test_fraction * len(target)), target, seed)
        train, val = _take(rest, round(val_fraction * len(target)), target, seed)
    except ValueError as error:
        raise ParamsError(
            f"val_fraction={val_fraction} and test_fraction={test_fraction} leave a split too few samples, "
            f"since every class needs one in each; give each split more, or a fraction of 0"
        ) from error
    return {"train": train, "val": val, "test": test, "all": everything}


def _take(indices: Indices, count: int, target: NDArray[np.generic], seed: int) -> tuple[Indices, Indices]:
    if count == 0:
        return np.random.RandomState(seed).permutation(indices), indices[:0]
    classes = target[indices] if target.dtype.kind == "i" else None
    rest, taken = train_test_split(indices, test_size=count, random_state=seed, stratify=classes)
    return rest, taken


def _check_seed(seed: int) -> None:
    if type(seed) is not int or not 0 <= seed <= _LARGEST_SEED:
        raise ParamsError(f"seed={seed!r} cannot fix a split; give an integer from 0 to {_LARGEST_SEED}")


def _check_fractions(val_fraction: float, test_fraction: float) -> None:
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not isinstance(fraction, Real) or isinstance(fraction, bool) or not 0 <= fraction < 1:
            raise ParamsError(f"{name}={fraction!r} is no share of the samples; give a number in [0, 1)")
    if not math.fsum((val_fraction, test_fraction)) < 1:
        raise ParamsError(
            f"val_fraction={val_fraction} and test_fraction={test_fraction} leave nothing to train on; "
            f"choose two whose sum is below 1"
        )

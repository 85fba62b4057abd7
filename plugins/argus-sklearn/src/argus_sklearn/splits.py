"""The train, val and test splits of a dataset."""

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
    data's own order. If ``target`` has classes (integers), each split has the same shares of all classes.
    The test split depends only on ``seed`` and ``test_fraction``, so changing ``val_fraction`` keeps it.
    """
    _check_seed(seed)
    _check_fractions(val_fraction, test_fraction)
    everything = np.arange(len(target), dtype=np.int64)
    try:
        rest, test = _take(everything, round(test_fraction * len(target)), target, seed)
        train, val = _take(rest, round(val_fraction * len(target)), target, seed)
    except ValueError as error:
        raise ParamsError(
            f"val_fraction={val_fraction} and test_fraction={test_fraction} leave a split too few samples; "
            f"every class needs one in each split; raise the fractions, or set one to 0"
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
        raise ParamsError(f"seed is {seed!r}; give an integer from 0 to {_LARGEST_SEED}")


def _check_fractions(val_fraction: float, test_fraction: float) -> None:
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not isinstance(fraction, Real) or isinstance(fraction, bool) or not 0 <= fraction < 1:
            raise ParamsError(f"{name} is {fraction!r}; give a number from 0 to below 1")
    if not math.fsum((val_fraction, test_fraction)) < 1:
        raise ParamsError(
            f"val_fraction={val_fraction} and test_fraction={test_fraction} leave no training samples; "
            f"choose two whose sum is below 1"
        )

"""The datasets that are part of scikit-learn, kind ``dataset``; nothing is downloaded.

Each factory returns a `torch.utils.data.TensorDataset` of (input, target) pairs, with the attributes
``classes``, ``feature_names`` and ``target_names`` where it has such names. The seed determines the samples
of a split. Every factory takes

- ``split``: 'train', 'val', 'test', or 'all' for all samples;
- ``seed``: 0 to 2**32 - 1;
- ``val_fraction``, ``test_fraction``: the shares of all samples in the val and the test split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import sklearn.datasets  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from argus_core import ParamsError
from argus_sklearn.splits import Indices, check_split, split_indices

__all__ = ["breast_cancer", "diabetes", "digits", "wine"]


def digits(
    split: str = "train",
    seed: int = 0,
    val_fraction: float = 0.2,
    test_fraction: float = 0.1,
    flat: bool = False,
) -> TensorDataset:
    """1,797 handwritten digits: input (1, 8, 8), float32 in 0 to 1; target 0 to 9, int64.

    Args:
        split: 'train', 'val', 'test' or 'all'.
        seed: determines the samples of each split.
        val_fraction: share of the samples in the val split.
        test_fraction: share of the samples in the test split.
        flat: whether inputs have the shape (64,).
    """
    bunch = sklearn.datasets.load_digits()
    splits = split_indices(bunch.target, seed, val_fraction, test_fraction)
    # 16 is the largest possible value of a pixel, not a statistic of the samples, so nothing leaks.
    pixels = bunch.data / 16
    names = {"classes": bunch.target_names} | ({"feature_names": bunch.feature_names} if flat else {})
    return _dataset(pixels if flat else pixels.reshape(-1, 1, 8, 8), bunch.target, split, splits, names)


def breast_cancer(
    split: str = "train", seed: int = 0, val_fraction: float = 0.2, test_fraction: float = 0.1
) -> TensorDataset:
    """569 tumours: input (30,), standardised, float32; target 0 malignant, 1 benign, int64.

    Args:
        split: 'train', 'val', 'test' or 'all'.
        seed: determines the samples of each split.
        val_fraction: share of the samples in the val split.
        test_fraction: share of the samples in the test split.
    """
    bunch = sklearn.datasets.load_breast_cancer()
    splits = split_indices(bunch.target, seed, val_fraction, test_fraction)
    names = {"classes": bunch.target_names, "feature_names": bunch.feature_names}
    return _dataset(_standardised(bunch.data, splits), bunch.target, split, splits, names)


def wine(
    split: str = "train", seed: int = 0, val_fraction: float = 0.2, test_fraction: float = 0.1
) -> TensorDataset:
    """178 wines: input (13,), standardised, float32; target 0 to 2, the cultivar, int64.

    Args:
        split: 'train', 'val', 'test' or 'all'.
        seed: determines the samples of each split.
        val_fraction: share of the samples in the val split.
        test_fraction: share of the samples in the test split.
    """
    bunch = sklearn.datasets.load_wine()
    splits = split_indices(bunch.target, seed, val_fraction, test_fraction)
    names = {"classes": bunch.target_names, "feature_names": bunch.feature_names}
    return _dataset(_standardised(bunch.data, splits), bunch.target, split, splits, names)


def diabetes(
    split: str = "train",
    seed: int = 0,
    val_fraction: float = 0.2,
    test_fraction: float = 0.1,
    standardize_target: bool = False,
) -> TensorDataset:
    """442 patients: input (10,), standardised, float32; target (1,), float32, 25 to 346.

    The target is the progression of the disease one year later.

    Args:
        split: 'train', 'val', 'test' or 'all'.
        seed: determines the samples of each split.
        val_fraction: share of the samples in the val split.
        test_fraction: share of the samples in the test split.
        standardize_target: whether to standardise the targets, which trains best.
    """
    # Unscaled: scikit-learn computes its scaling from all samples, the val and test splits included.
    bunch = sklearn.datasets.load_diabetes(scaled=False)
    target = bunch.target.reshape(-1, 1)
    splits = split_indices(target, seed, val_fraction, test_fraction)
    if standardize_target:
        target = _standardised(target, splits)
    names = {"feature_names": bunch.feature_names, "target_names": ["progression"]}
    return _dataset(_standardised(bunch.data, splits), target, split, splits, names)


def _standardised(values: NDArray[np.float64], splits: Mapping[str, Indices]) -> NDArray[np.float64]:
    """Return the columns scaled to mean 0 and deviation 1 on the train split."""
    train = values[splits["train"]]
    deviation = train.std(axis=0)
    standardised: NDArray[np.float64] = (values - train.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return standardised


def _dataset(
    inputs: NDArray[np.float64],
    target: NDArray[np.generic],
    split: str,
    splits: Mapping[str, Indices],
    names: Mapping[str, Iterable[object]],
) -> TensorDataset:
    check_split(split)
    chosen = splits[split]
    if len(chosen) == 0:
        raise ParamsError(f"the {split} split is empty; raise {split}_fraction until it contains a sample")
    dtype = torch.int64 if target.dtype.kind == "i" else torch.float32
    dataset = TensorDataset(
        torch.tensor(inputs[chosen], dtype=torch.float32), torch.tensor(target[chosen], dtype=dtype)
    )
    # Not a class of its own, as a run reads a plain TensorDataset fastest.
    vars(dataset).update({name: [*map(str, each)] for name, each in names.items()})
    return dataset

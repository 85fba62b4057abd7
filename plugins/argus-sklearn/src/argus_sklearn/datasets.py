"""The datasets that are part of scikit-learn, kind ``dataset``; nothing is downloaded.

Each factory returns a `torch.utils.data.TensorDataset` of (input, target) pairs, with the attributes
``classes``, ``feature_names`` and ``target_names`` where it has such names. The seed determines the samples
of a split. Every factory takes

- ``split``: 'train', 'val', 'test', or 'all' for all samples;
- ``seed``: 0 to 2**32 - 1;
- ``val_fraction``, ``test_fraction``: the shares of all samples in the val and the test split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

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
    mean, deviation = _scale(values[splits["train"]])
    standardised: NDArray[np.float64] = (values - mean) / deviation
    return standardised


def _scale(train: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    deviation = train.std(axis=0)
    return train.mean(axis=0), np.where(deviation > 0, deviation, 1)


def _scaler(load: Callable[[], Any]) -> Callable[..., _Standardise]:
    """Return what a factory declares for rows of files: the scaling of its training samples."""

    def prepare(seed: int = 0, val_fraction: float = 0.2, test_fraction: float = 0.1) -> _Standardise:
        bunch = load()
        # The same arrays as in the factory, since they determine the split.
        target = bunch.target if bunch.target.dtype.kind == "i" else bunch.target.reshape(-1, 1)
        train = bunch.data[split_indices(target, seed, val_fraction, test_fraction)["train"]]
        return _Standardise(*_scale(train))

    return prepare


class _Standardise:
    """Makes an input of a row of numbers, standardised as the training samples were."""

    def __init__(self, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
        self.mean = mean
        self.deviation = deviation

    def __call__(self, row: Sequence[float]) -> torch.Tensor:
        if len(row) != len(self.mean):
            raise ValueError(f"it has {len(row)} numbers; give the {len(self.mean)} features")
        return torch.tensor((np.asarray(row) - self.mean) / self.deviation, dtype=torch.float32)


class _Pixels:
    """Makes an input of the 64 pixels of a digit, 0 to 16."""

    def __init__(self, flat: bool) -> None:
        self.shape = (64,) if flat else (1, 8, 8)

    def __call__(self, row: Sequence[float]) -> torch.Tensor:
        if len(row) != math.prod(self.shape):
            raise ValueError(f"it has {len(row)} numbers; give the 64 pixels of a digit")
        return torch.tensor(np.asarray(row) / 16, dtype=torch.float32).reshape(self.shape)


def _prepare_pixels(flat: bool = False) -> _Pixels:
    return _Pixels(flat)


digits.prepares = {"row": _prepare_pixels}  # type: ignore[attr-defined]
for _factory, _load in (
    (breast_cancer, sklearn.datasets.load_breast_cancer),
    (wine, sklearn.datasets.load_wine),
    (diabetes, partial(sklearn.datasets.load_diabetes, scaled=False)),
):
    _factory.prepares = {"row": _scaler(_load)}  # type: ignore[attr-defined]


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

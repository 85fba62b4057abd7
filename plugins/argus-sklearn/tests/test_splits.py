from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from argus_core import ParamsError
from argus_sklearn.splits import check_split, split_indices

CLASSES = np.repeat(np.arange(4), [40, 30, 20, 10])
NUMBERS = np.linspace(0.0, 1.0, 100)


@pytest.mark.parametrize("target", [CLASSES, NUMBERS])
@pytest.mark.parametrize(("val_fraction", "test_fraction"), [(0.2, 0.1), (0.0, 0.3), (0.3, 0.0), (0.0, 0.0)])
def test_splits_are_disjoint_and_cover_everything(
    target: np.ndarray[Any, Any], val_fraction: float, test_fraction: float
) -> None:
    splits = split_indices(target, 0, val_fraction, test_fraction)
    together = np.concatenate([splits["train"], splits["val"], splits["test"]])
    assert sorted(together) == list(range(100))
    assert (len(splits["val"]), len(splits["test"])) == (100 * val_fraction, 100 * test_fraction)


def test_all_keeps_the_order_of_the_data() -> None:
    assert list(split_indices(CLASSES, 3, 0.2, 0.1)["all"]) == list(range(100))


def test_train_is_in_random_order_even_when_nothing_is_taken_away() -> None:
    assert list(split_indices(CLASSES, 0, 0.0, 0.0)["train"]) != list(range(100))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_split_has_every_class_in_equal_shares(split: str) -> None:
    chosen = CLASSES[split_indices(CLASSES, 0, 0.2, 0.1)[split]]
    expected = len(chosen) * np.array([0.4, 0.3, 0.2, 0.1])
    assert np.abs(np.bincount(chosen, minlength=4) - expected).max() <= 1


def test_one_seed_gives_one_split_and_another_seed_another() -> None:
    first, again, other = (split_indices(CLASSES, seed, 0.2, 0.1)["val"] for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert set(first) != set(other)


def test_the_test_split_does_not_depend_on_the_val_fraction() -> None:
    assert np.array_equal(
        split_indices(CLASSES, 0, 0.2, 0.1)["test"], split_indices(CLASSES, 0, 0.5, 0.1)["test"]
    )


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    split_indices(CLASSES, 0, 0.2, 0.0)
    assert np.array_equal(before, np.random.get_state(legacy=False)["state"]["key"])


def test_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(ParamsError, match="no split named 'valid'; choose 'train', 'val', 'test' or 'all'"):
        check_split("valid")


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), True, "0.2", None])
@pytest.mark.parametrize("name", ["val_fraction", "test_fraction"])
def test_a_fraction_that_is_none_is_refused(name: str, fraction: Any) -> None:
    fractions: dict[str, Any] = {"val_fraction": 0.1, "test_fraction": 0.1, name: fraction}
    with pytest.raises(ParamsError, match=rf"{name} is {fraction!r}; give a number from 0 to below 1"):
        split_indices(CLASSES, 0, **fractions)


def test_fractions_that_leave_no_training_data_are_refused() -> None:
    with pytest.raises(
        ParamsError, match=r"val_fraction=0.7 and test_fraction=0.3 leave no training samples"
    ):
        split_indices(CLASSES, 0, 0.7, 0.3)


@pytest.mark.parametrize(("val_fraction", "test_fraction"), [(0.02, 0.0), (0.0, 0.02), (0.49, 0.49)])
def test_a_split_too_small_for_every_class_is_refused(val_fraction: float, test_fraction: float) -> None:
    with pytest.raises(ParamsError, match="leave a split too few samples; every class needs one"):
        split_indices(CLASSES, 0, val_fraction, test_fraction)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, None, "0"])
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(ParamsError, match=rf"seed is {seed!r}; give an integer from 0 to"):
        split_indices(CLASSES, seed, 0.2, 0.1)

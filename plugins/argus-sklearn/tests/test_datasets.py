from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import sklearn.datasets  # type: ignore[import-untyped]
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from argus_core import ParamsError
from argus_sklearn import datasets
from argus_sklearn.datasets import breast_cancer, diabetes, digits, wine

Factory = Callable[..., TensorDataset]

FACTORIES = [digits, breast_cancer, wine, diabetes]
CLASSIFICATION = [digits, breast_cancer, wine]
STANDARDISED = [breast_cancer, wine, diabetes]
SIZES = {"digits": 1797, "breast_cancer": 569, "wine": 178, "diabetes": 442}


def rows(dataset: TensorDataset) -> list[tuple[float, ...]]:
    inputs, targets = dataset.tensors
    together = torch.cat([inputs.flatten(1), targets.reshape(len(targets), 1).float()], dim=1)
    return [tuple(row) for row in together.tolist()]


@pytest.mark.parametrize(
    ("factory", "params", "shape", "target_shape", "target_dtype"),
    [
        (digits, {}, (1, 8, 8), (), torch.int64),
        (digits, {"flat": True}, (64,), (), torch.int64),
        (breast_cancer, {}, (30,), (), torch.int64),
        (wine, {}, (13,), (), torch.int64),
        (diabetes, {}, (10,), (1,), torch.float32),
        (diabetes, {"standardize_target": True}, (10,), (1,), torch.float32),
    ],
)
def test_a_sample_has_the_documented_shape_and_type(
    factory: Factory,
    params: dict[str, Any],
    shape: tuple[int, ...],
    target_shape: tuple[int, ...],
    target_dtype: torch.dtype,
) -> None:
    sample, target = factory(**params)[0]
    assert (sample.shape, sample.dtype) == (shape, torch.float32)
    assert (target.shape, target.dtype) == (target_shape, target_dtype)


@pytest.mark.parametrize("factory", FACTORIES)
def test_the_three_splits_are_disjoint_and_cover_the_data(factory: Factory) -> None:
    parts = [row for split in ("train", "val", "test") for row in rows(factory(split))]
    assert len(parts) == SIZES[factory.__name__]
    assert sorted(parts) == sorted(rows(factory("all")))


@pytest.mark.parametrize("factory", FACTORIES)
def test_val_and_test_have_the_asked_for_shares(factory: Factory) -> None:
    sizes = [len(factory(split, val_fraction=0.25, test_fraction=0.15)) for split in ("val", "test")]
    assert sizes == [round(share * SIZES[factory.__name__]) for share in (0.25, 0.15)]


@pytest.mark.parametrize("factory", FACTORIES)
def test_the_seed_fixes_the_split(factory: Factory) -> None:
    first, again, other = (factory("val", seed=seed).tensors[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_split_of_a_seed_stays_what_it_was_when_released() -> None:
    assert digits("val").tensors[1][:10].tolist() == [2, 5, 6, 2, 8, 3, 2, 2, 6, 9]


@pytest.mark.parametrize("factory", CLASSIFICATION)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_classes_are_stratified(factory: Factory, split: str) -> None:
    whole = factory("all").tensors[1].bincount()
    part = factory(split).tensors[1].bincount()
    expected = whole * (part.sum() / whole.sum())
    assert (part - expected).abs().max() < 2


@pytest.mark.parametrize("factory", STANDARDISED)
def test_the_train_split_has_mean_zero_and_deviation_one(factory: Factory) -> None:
    inputs = factory("train").tensors[0]
    columns = inputs.shape[1]
    torch.testing.assert_close(inputs.mean(0), torch.zeros(columns), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std(0, correction=0), torch.ones(columns))


@pytest.mark.parametrize(
    ("factory", "raw"),
    [
        (breast_cancer, sklearn.datasets.load_breast_cancer().data),
        (wine, sklearn.datasets.load_wine().data),
        (diabetes, sklearn.datasets.load_diabetes(scaled=False).data),
    ],
)
def test_nothing_but_the_train_split_is_measured(factory: Factory, raw: Any) -> None:
    from_train = torch.tensor(raw).double()
    inputs = factory("all").tensors[0]
    train = {row[:-1] for row in rows(factory("train"))}
    chosen = from_train[[tuple(row) in train for row in inputs.tolist()]]
    expected = (from_train - chosen.mean(0)) / chosen.std(0, correction=0)
    torch.testing.assert_close(inputs, expected.float())


def test_the_standardized_target_is_measured_on_the_train_split() -> None:
    raw = diabetes("train").tensors[1]
    target = diabetes("val", standardize_target=True).tensors[1]
    expected = (diabetes("val").tensors[1] - raw.mean()) / raw.std(correction=0)
    torch.testing.assert_close(target, expected)


def test_digits_are_grey_levels_from_zero_to_one() -> None:
    raw = torch.tensor(sklearn.datasets.load_digits().images).float()
    inputs: Tensor = digits("all").tensors[0]
    assert torch.equal(inputs[:, 0], raw / 16)
    assert (inputs.min().item(), inputs.max().item()) == (0.0, 1.0)


def test_flat_digits_are_the_same_pixels() -> None:
    assert torch.equal(digits("val", flat=True).tensors[0], digits("val").tensors[0].flatten(1))


def test_a_loader_gives_batches() -> None:
    batch = next(iter(DataLoader(digits(), batch_size=5)))
    assert [part.shape for part in batch] == [(5, 1, 8, 8), (5,)]


@pytest.mark.parametrize("factory", FACTORIES)
def test_an_unknown_split_is_refused(factory: Factory) -> None:
    with pytest.raises(
        ParamsError, match="no split named 'validation'; choose 'train', 'val', 'test' or 'all'"
    ):
        factory(split="validation")


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("factory", FACTORIES)
def test_an_empty_split_is_refused(factory: Factory, split: str) -> None:
    with pytest.raises(ParamsError, match=f"the {split} split is empty; raise {split}_fraction"):
        factory(split, **{f"{split}_fraction": 0.0})


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_parameter_is_documented(factory: Factory) -> None:
    documentation = inspect.getdoc(factory) or ""
    assert all(f"    {name}: " in documentation for name in inspect.signature(factory).parameters)


def test_the_public_names_are_the_factories() -> None:
    assert sorted(datasets.__all__) == sorted(SIZES)


def test_data_have_the_names_of_classes_features_and_targets() -> None:
    for factory in CLASSIFICATION:
        classes = vars(factory())["classes"]
        assert len(classes) == int(factory(split="all").tensors[1].max()) + 1
    assert vars(breast_cancer())["classes"] == ["malignant", "benign"]
    assert "feature_names" not in vars(digits())
    for dataset in (digits(flat=True), breast_cancer(), wine(), diabetes()):
        assert len(vars(dataset)["feature_names"]) == dataset.tensors[0].shape[1]
    assert vars(diabetes())["target_names"] == ["progression"]


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "wine"])
def test_rows_of_files_are_standardised_as_the_samples_are(name: str) -> None:
    factory = getattr(datasets, name)
    options = {"scaled": False} if name == "diabetes" else {}
    raw = getattr(sklearn.datasets, f"load_{name}")(**options).data
    prepare = factory.prepares["row"](seed=3)
    expected = factory(split="all", seed=3).tensors[0]
    found = torch.stack([prepare(row.tolist()) for row in raw])
    torch.testing.assert_close(found.sort(0).values, expected.sort(0).values)
    with pytest.raises(ValueError, match="it has 2 numbers; give the"):
        prepare([1.0, 2.0])


@pytest.mark.parametrize("flat", [False, True])
def test_pixels_of_files_are_scaled_as_those_of_digits(flat: bool) -> None:
    prepare = datasets.digits.prepares["row"](flat=flat)  # type: ignore[attr-defined]
    sample, _ = datasets.digits(split="all", flat=flat)[0]
    assert torch.equal(prepare((16 * sample.flatten()).tolist()), sample)
    with pytest.raises(ValueError, match="it has 2 numbers; give the 64 pixels"):
        prepare([1.0, 2.0])

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from argus_core import ParamsError
from argus_example.losses import FocalLoss

WEIGHT = [0.5, 2.0, 1.0]


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def target() -> Tensor:
    return torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_gamma_of_zero_is_cross_entropy(
    logits: Tensor, target: Tensor, weight: list[float] | None, reduction: str
) -> None:
    tensor = None if weight is None else torch.tensor(weight)
    expected = nn.CrossEntropyLoss(tensor, reduction=reduction)(logits, target)
    torch.testing.assert_close(FocalLoss(0.0, weight, reduction)(logits, target), expected)


def test_loss_is_the_formula_of_the_paper(logits: Tensor, target: Tensor) -> None:
    p = logits.softmax(dim=1)[torch.arange(6), target]
    expected = (-((1 - p) ** 2) * p.log()).mean()
    torch.testing.assert_close(FocalLoss(gamma=2.0)(logits, target), expected)


def test_weighted_mean_is_divided_by_the_weights(logits: Tensor, target: Tensor) -> None:
    p = logits.softmax(dim=1)[torch.arange(6), target]
    w = torch.tensor(WEIGHT)[target]
    expected = (-w * (1 - p) ** 2 * p.log()).sum() / w.sum()
    torch.testing.assert_close(FocalLoss(2.0, WEIGHT)(logits, target), expected)


def test_gradient_is_that_of_finite_differences(logits: Tensor, target: Tensor) -> None:
    loss = FocalLoss(gamma=1.5)
    torch.autograd.gradcheck(lambda x: loss(x, target), logits.double().requires_grad_())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_gradient_is_finite_for_certain_predictions(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0]], requires_grad=True)
    FocalLoss(gamma)(logits, torch.tensor([0, 1])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_every_pixel_of_a_segmentation_counts(logits: Tensor, target: Tensor) -> None:
    image = logits.T.reshape(1, 3, 2, 3)
    torch.testing.assert_close(FocalLoss()(image, target.reshape(1, 2, 3)), FocalLoss()(logits, target))


def test_weight_moves_with_the_loss() -> None:
    loss = FocalLoss(weight=WEIGHT).to("meta")
    assert loss.weight is not None
    assert loss.weight.device.type == "meta"


def test_unknown_reduction_names_the_known_ones() -> None:
    with pytest.raises(ParamsError, match="reduction of loss focal is 'none'; choose 'mean' or 'sum'"):
        FocalLoss(reduction="none")


def test_negative_gamma_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"gamma of loss focal is -1; give a number of at least 0"):
        FocalLoss(gamma=-1)

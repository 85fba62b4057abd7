from __future__ import annotations

import torch
from torch import nn

from argus_example.steps import GradientCentralization


def parameter_with_gradient(*shape: int) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1
    return parameter


def gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_each_output_of_a_matrix_has_a_gradient_of_zero_mean() -> None:
    weight = parameter_with_gradient(4, 3)
    GradientCentralization().transform_gradients((weight,))
    torch.testing.assert_close(gradient_of(weight).mean(dim=1), torch.zeros(4))


def test_each_filter_of_a_convolution_has_a_gradient_of_zero_mean() -> None:
    weight = parameter_with_gradient(4, 3, 5, 5)
    GradientCentralization().transform_gradients((weight,))
    torch.testing.assert_close(gradient_of(weight).mean(dim=(1, 2, 3)), torch.zeros(4))


def test_only_the_mean_is_taken_away() -> None:
    weight = parameter_with_gradient(2, 3)
    before = gradient_of(weight).clone()
    GradientCentralization().transform_gradients((weight,))
    difference = before - gradient_of(weight)
    torch.testing.assert_close(difference, before.mean(dim=1, keepdim=True).expand(2, 3))


def test_gradients_of_one_dimension_stay() -> None:
    bias = parameter_with_gradient(4)
    before = gradient_of(bias).clone()
    GradientCentralization().transform_gradients((bias,))
    assert torch.equal(gradient_of(bias), before)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    frozen = nn.Parameter(torch.zeros(2, 2))
    GradientCentralization().transform_gradients((frozen,))
    assert frozen.grad is None


def test_it_runs_before_clipping() -> None:
    assert "clip_grad_norm" in GradientCentralization.runs_before

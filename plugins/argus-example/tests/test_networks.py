from __future__ import annotations

import pytest
import torch

from argus_example.networks import CNN


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 28, 28), (3, 31, 17)])
def test_images_of_any_size_give_one_logit_for_each_class(channels: int, height: int, width: int) -> None:
    network = CNN(classes=7, channels=channels, width=8)
    assert network(torch.rand(2, channels, height, width)).shape == (2, 7)


def test_logits_of_a_sample_do_not_depend_on_its_batch() -> None:
    network = CNN(dropout=0.0)
    images = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(network(images)[:1], network(images[:1]))


def test_every_parameter_gets_a_gradient() -> None:
    network = CNN()
    network(torch.rand(2, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_dropout_is_off_in_evaluation() -> None:
    network = CNN(dropout=0.5).eval()
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(network(images), network(images))

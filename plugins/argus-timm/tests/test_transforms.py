from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from argus_core import BuildError, Model, ParamsError
from argus_core.data.order import epoch_batches, ordered
from argus_core.registry.factory import build_component

NAME = "test_resnet.r160_in1k"


def built(**params: Any) -> Any:
    return build_component("transform", ("timm_transform", {"model_name": NAME, **params}), "transform")


class Pictures:
    """Images of noise, each read through a transform."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform
        self.pixels = torch.randint(256, (6, 40, 40, 3), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index].numpy().astype("uint8"))), index % 3


def batches(workers: int, skip: int = 0) -> list[Tensor]:
    transform = built(is_training=True, input_size=[3, 32, 32], auto_augment="rand-m9-mstd0.5", re_prob=0.5)
    loader: Any = DataLoader(Pictures(transform), 3, shuffle=True, num_workers=workers)  # type: ignore[arg-type]
    return [images for images, _ in epoch_batches(ordered(loader, 3, "train"), 1, skip)]


def test_an_image_becomes_what_the_network_expects() -> None:
    image = built()(Image.new("RGB", (200, 300), (255, 255, 255)))
    assert image.shape == (3, 160, 160)
    torch.testing.assert_close(image[:, 0, 0], torch.full((3,), (1 - 0.5) / 0.5))


def test_parameters_go_before_what_the_weights_say() -> None:
    image = built(input_size=[3, 64, 64], mean=[0.0, 0.0, 0.0])(Image.new("RGB", (99, 99)))
    assert torch.equal(image, torch.zeros(3, 64, 64))


def test_training_augments_by_seed_epoch_and_index_whoever_reads() -> None:
    expected = batches(workers=0)
    torch.manual_seed(9)
    assert all(map(torch.equal, batches(workers=2), expected))
    assert all(map(torch.equal, batches(workers=0, skip=1), expected[1:]))


def test_images_are_used_in_an_update() -> None:
    model = Model(
        {
            "nn_module": ("timm", {"model_name": "test_resnet", "num_classes": 3}),
            "loss": "CrossEntropyLoss",
            "optimizer": ("lion", {"lr": 1e-3}),
            "device": "cpu",
        }
    )
    loader: Any = DataLoader(Pictures(built(is_training=True, input_size=[3, 64, 64])), 3)  # type: ignore[arg-type]
    assert model.fit(loader, num_epochs=1)["train_loss"] > 0


def test_a_network_that_is_misspelled_is_told() -> None:
    with pytest.raises(
        ParamsError, match="transform 'timm_transform' finds no network 'test_resnt' in timm; did"
    ):
        built(model_name="test_resnt")


def test_a_parameter_that_timm_does_not_take_is_told() -> None:
    with pytest.raises(BuildError, match="unexpected keyword argument 'sise'"):
        built(sise=3)


@pytest.mark.parametrize("policy", ["rand-m9-n1000000000", "augmix-m5-w101", "augmix-d1000000000000"])
def test_policy_of_changes_without_end_is_refused(policy: str) -> None:
    with pytest.raises(
        ParamsError, match=f"auto_augment='{policy}'; the numbers after n, w and d are 100 at most"
    ):
        built(is_training=True, auto_augment=policy)


@pytest.mark.parametrize("policy", ["rand-m9-n100-mstd0.5", "augmix-m5-w4-d2", "original", "v0-mstd0.5"])
def test_policy_of_few_changes_is_taken(policy: str) -> None:
    assert callable(built(is_training=True, auto_augment=policy))

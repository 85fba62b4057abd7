from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import argus_core
from argus_core import BuildError, Model, ParamsError, SpecError, load_model
from argus_torchvision.outputs import AuxiliaryLoss, MainOutput

MAIN, OTHER, THIRD = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 4, 2])

FORMS: list[tuple[Any, list[Tensor]]] = [
    (MAIN, []),
    ({"out": MAIN, "aux": OTHER}, [OTHER]),
    ({"aux": OTHER, "out": MAIN}, [OTHER]),
    ((MAIN, OTHER, THIRD), [OTHER, THIRD]),
    ((MAIN, None, None), []),
]


def cross_entropy(logits: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, TARGET)


@pytest.mark.parametrize(("outputs", "others"), FORMS)
def test_auxiliary_outputs_count_a_share_in_training(outputs: Any, others: list[Tensor]) -> None:
    expected = cross_entropy(MAIN) + 0.3 * sum((cross_entropy(other) for other in others), torch.zeros(()))
    torch.testing.assert_close(AuxiliaryLoss(weight=0.3)(outputs, TARGET), expected)


@pytest.mark.parametrize(("outputs", "others"), FORMS)
def test_the_main_output_alone_counts_in_validation(outputs: Any, others: list[Tensor]) -> None:
    torch.testing.assert_close(AuxiliaryLoss().eval()(outputs, TARGET), cross_entropy(MAIN))


@pytest.mark.parametrize(("outputs", "others"), FORMS)
def test_the_main_output_is_the_prediction(outputs: Any, others: list[Tensor]) -> None:
    assert MainOutput()(outputs) is MAIN
    torch.testing.assert_close(MainOutput(("Softmax", {"dim": 1}))(outputs), MAIN.softmax(1))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(6, 5), nn.Linear(6, 5)])

    def forward(self, images: Tensor) -> Any:
        return {name: head(images) for name, head in zip(("out", "aux"), self.heads, strict=True)}


def params(step: Any) -> dict[str, Any]:
    return {
        "nn_module": "two_heads",
        "loss": ("auxiliary", {"loss": ["CrossEntropyLoss", {"ignore_index": 0, "weight": [1, 2, 3, 4, 5]}]}),
        "optimizer": ("SGD", {"lr": 0.5}),
        "prediction_transform": ("main_output", {"then": ("LogSoftmax", {"dim": 1})}),
        "step": step,
        "device": "cpu",
    }


def test_a_batch_in_parts_makes_the_update_of_the_whole(tmp_path: Path) -> None:
    def weighted(ignore_index: int, weight: list[float]) -> nn.Module:
        return nn.CrossEntropyLoss(torch.tensor(weight, dtype=torch.float32), ignore_index=ignore_index)

    images = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([0, 0, 0, 1, 4, 2, 3])
    weights = []
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "two_heads", TwoHeads)
        registry.register("loss", "auxiliary", AuxiliaryLoss)
        registry.register("loss", "CrossEntropyLoss", weighted, override=True)
        registry.register("transform", "main_output", MainOutput)
        for step in ([], ("microbatch", {"size": 3})):
            torch.manual_seed(0)
            model = Model(params(step))
            model.train_step((images, target))
            weights.append(model.nn_module.heads[1].weight.detach().clone())
        model.save(tmp_path / "a.safetensors")
        loaded = load_model(tmp_path / "a.safetensors")
        torch.testing.assert_close(loaded.predict(images), model.predict(images))
    torch.testing.assert_close(*weights)


def test_an_output_without_a_main_one_is_refused() -> None:
    with pytest.raises(BuildError, match="returned a dict without a main output; override"):
        AuxiliaryLoss()({"boxes": MAIN}, TARGET)


@pytest.mark.parametrize("weight", [-0.1, "half", None, True, float("nan")])
def test_a_weight_that_is_none_is_refused(weight: Any) -> None:
    with pytest.raises(ParamsError, match=rf"weight of loss auxiliary is {weight!r}; give a number"):
        AuxiliaryLoss(weight=weight)


def test_a_loss_that_is_no_spec_is_refused() -> None:
    with pytest.raises(SpecError, match="auxiliary's loss is 3; give a name or"):
        AuxiliaryLoss(loss=3)

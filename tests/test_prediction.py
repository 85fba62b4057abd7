"""Predictions for a whole loader are those of the model, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from networks import Net, batches
from torch import Tensor, nn

import argus_core
from argus_core import Model
from argus_core.errors import ArgusError, BuildError
from argus_core.prediction import predict_all


class Several(nn.Module):
    """Has several outputs, in a container of the asked kind."""

    def __init__(self, kind: str = "tuple") -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.kind = kind

    def forward(self, input: Tensor) -> Any:
        once, twice = input * self.scale, input * 2
        return {"once": once, "twice": twice} if self.kind == "dict" else (once, [twice])


class Mean(nn.Module):
    """Predicts one number for the whole batch."""

    def forward(self, input: Tensor) -> Tensor:
        return input.mean()


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        for name, network in (("net", Net), ("several", Several), ("mean", Mean)):
            argus_core.register("nn_module", name, network)
        yield


def model(nn_module: Any = "net", **params: Any) -> Model:
    return Model(
        {"nn_module": nn_module, "prediction_transform": ("Softmax", {"dim": 1}), "device": "cpu", **params}
    )


def test_predictions_are_those_of_the_model_in_order() -> None:
    net = model()
    tensors, values = predict_all(net, [input for input, _ in batches()])
    assert torch.equal(tensors["prediction"], torch.cat([net.predict(input) for input, _ in batches()]))
    assert (set(tensors), values) == ({"prediction"}, {})


def test_known_targets_stand_beside_the_predictions() -> None:
    tensors, _ = predict_all(model(), batches())
    assert torch.equal(tensors["target"], torch.cat([target for _, target in batches()]))
    assert len(tensors["prediction"]) == len(tensors["target"]) == 21


def test_batch_of_one_tensor_in_a_list_is_an_input() -> None:
    tensors, _ = predict_all(model(), [[input] for input, _ in batches()])
    assert set(tensors) == {"prediction"}


def test_metrics_are_those_of_a_validation() -> None:
    net = model(loss="CrossEntropyLoss")
    tensors, values = predict_all(net, batches(), ["accuracy"])
    expected = net.validate(batches(), ["accuracy"])
    assert values == {"loss": expected["val_loss"], "accuracy": expected["val_accuracy"]}
    right = (tensors["prediction"].argmax(1) == tensors["target"]).float().mean()
    assert values["accuracy"] == pytest.approx(float(right))


def test_predictions_are_the_same_with_metrics() -> None:
    net = model(loss="CrossEntropyLoss")
    with_metrics, without = (predict_all(net, batches(), metrics)[0] for metrics in (["accuracy"], None))
    assert all(torch.equal(with_metrics[name], without[name]) for name in ("prediction", "target"))


def test_metrics_need_the_loss() -> None:
    with pytest.raises(BuildError, match="the model has no loss, so it cannot validate"):
        predict_all(model(), batches(), ["accuracy"])


def test_several_outputs_are_named_by_their_place() -> None:
    net = model("several", prediction_transform=None)
    tensors, _ = predict_all(net, [torch.ones(2, 3), torch.zeros(1, 3)])
    assert {name: len(tensor) for name, tensor in tensors.items()} == {"prediction.0": 3, "prediction.1.0": 3}


def test_several_outputs_are_named_by_their_key() -> None:
    net = model(("several", {"kind": "dict"}), prediction_transform=None)
    assert set(predict_all(net, [torch.ones(2, 3)])[0]) == {"prediction.once", "prediction.twice"}


def test_predictions_that_cannot_be_put_together_are_refused() -> None:
    with pytest.raises(
        ArgusError, match=r"cannot be put together .*; predict batch by batch with model\.predict"
    ):
        predict_all(model("mean", prediction_transform=None), [torch.ones(2, 3)])


def test_loader_without_batches_is_refused() -> None:
    with pytest.raises(
        ArgusError, match="the loader gave no batches, so there is nothing to predict; give it data"
    ):
        predict_all(model(), [])

"""The warning of parameters that require grad and that no update moves."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from networks import batches
from torch import Tensor, nn

import argus_core
from argus_core import Model
from argus_core.errors import ArgusWarning

PARAMS = {"nn_module": "net", "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.1}), "device": "cpu"}


class Net(nn.Module):
    """A frozen backbone and a head: (batch, 4) to (batch, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 3)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.head(self.backbone(input))
        return output


class Scaled(nn.CrossEntropyLoss):
    """A cross-entropy with a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input * self.scale, target)


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        yield


def unfreeze(model: Model) -> None:
    model.nn_module.backbone.requires_grad_(True)


def new_head(model: Model) -> None:
    model.nn_module.head = nn.Linear(4, 3)


def new_network(model: Model) -> None:
    model.nn_module = nn.Linear(4, 3)


def new_loss(model: Model) -> None:
    model.loss = Scaled()


CHANGES: list[tuple[Callable[[Model], None], str]] = [
    (unfreeze, "'backbone.weight', 'backbone.bias'"),
    (new_head, "'head.weight', 'head.bias'"),
    (new_network, "'weight', 'bias'"),
    (new_loss, "'loss.scale'"),
]


@pytest.mark.parametrize(("change", "names"), CHANGES)
def test_what_the_optimizer_lacks_is_told(change: Callable[[Model], None], names: str) -> None:
    model = Model(PARAMS)
    change(model)
    with pytest.warns(ArgusWarning, match=rf"^the optimizer does not have {names}, which require grad"):
        model.fit(batches())


@pytest.mark.parametrize("change", [change for change, _ in CHANGES])
def test_an_optimizer_that_is_built_again_trains_it_and_strategies_follow(
    change: Callable[[Model], None],
) -> None:
    model = Model({**PARAMS, "step": "ema"})
    model.predict(batches()[0][0])  # sets the strategies up with the parts before the change
    change(model)
    model.set_part("optimizer")
    model.fit(batches())
    averages: Any = model.step_state()["ema"]["averages"]
    trained = [*model.nn_module.named_parameters(), *model.loss.named_parameters(prefix="loss")]
    assert all(parameter.grad is not None for _, parameter in trained if parameter.requires_grad)
    assert not any(torch.equal(averages[name], each) for name, each in trained if each.requires_grad)


def test_many_names_are_counted() -> None:
    model = Model(PARAMS)
    model.nn_module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    with pytest.warns(ArgusWarning, match=r"'0\.weight', '0\.bias', '1\.weight' and 1 more, which"):
        model.fit(batches())


class HeadOnly(Model):
    """Trains less than requires grad."""

    def build_optimizer(self, factory: Any, params: Any) -> Any:
        return factory(self.nn_module.head.parameters(), **params)


def add_group(model: Model) -> None:
    unfreeze(model)
    model.optimizer.add_param_group({"params": model.nn_module.backbone.parameters()})


@pytest.mark.parametrize(("model_class", "change"), [(HeadOnly, unfreeze), (Model, add_group), (Model, id)])
def test_a_chosen_subset_an_added_group_and_frozen_parameters_are_not_told(
    model_class: type[Model], change: Callable[[Model], object]
) -> None:
    model = model_class(PARAMS)
    change(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(batches())

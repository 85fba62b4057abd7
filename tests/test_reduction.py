"""Means that are not over samples still add up: class weights, ignored targets, a loss's own divisor."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from networks import make_model
from torch import Tensor, nn

import argus_core
from argus_core.reduction import mean_divisor, weigh
from argus_core.steps.output import Window

pytestmark = pytest.mark.usefixtures("net_registry")

INPUT = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 0])
CLASS_WEIGHTS = torch.tensor([1.0, 5.0, 20.0])


def weights_after(target: Tensor, loss: Any, step: Any) -> Tensor:
    model = make_model(loss=loss, step=step)
    for _ in range(3):
        model.train_step((INPUT, target))
    return torch.cat([parameter.detach().flatten() for parameter in model.nn_module.parameters()])


@pytest.mark.parametrize("step", [("microbatch", {"chunks": 2}), ("microbatch", {"size": 2})])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("target", [TARGET, torch.tensor([-100, 1, -100, 2, 0, -100, -100, -100, -100])])
def test_class_weights_and_ignored_targets_add_up(
    target: Tensor, smoothing: float, reduction: str, step: Any
) -> None:
    params = {"weight": CLASS_WEIGHTS, "label_smoothing": smoothing, "reduction": reduction}
    loss = ("CrossEntropyLoss", params)
    torch.testing.assert_close(
        weights_after(target, loss, step), weights_after(target, loss, None), rtol=1e-5, atol=1e-6
    )


def test_a_micro_batch_with_nothing_but_ignored_targets_counts_nothing() -> None:
    target = torch.tensor([-100, -100, -100, 0, 1, 2, 0, 1, 2])
    loss = "CrossEntropyLoss"
    cut = weights_after(target, loss, ("microbatch", {"size": 3}))
    assert cut.isfinite().all()
    torch.testing.assert_close(cut, weights_after(target, loss, None), rtol=1e-5, atol=1e-6)


def test_a_micro_batch_with_nothing_but_ignored_targets_leaves_the_reported_loss_alone() -> None:
    batch = INPUT, torch.tensor([-100, -100, -100, 0, 1, 2, 0, 1, 2])
    cut, whole = (make_model(step=step).train_step(batch) for step in (("microbatch", {"size": 3}), None))
    assert cut["loss"] == pytest.approx(whole["loss"], rel=1e-6)


def test_targets_are_counted_where_they_are_more_than_the_samples() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.embedding(tokens)
            return logits.flatten(0, 1)

    argus_core.register("nn_module", "tokens", Tokens)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(7, (4, 5), generator=generator)
    target = torch.randint(3, (20,), generator=generator)
    target[:14] = -100  # of one window half more targets are ignored than it has samples
    torch.manual_seed(0)
    cut = make_model(nn_module="tokens", step=("accumulate", {"steps": 2}))
    whole = copy.deepcopy(cut)
    window = Window([(tokens[:3], target[:15]), (tokens[3:], target[15:])])
    outputs = cut.train_step(window), whole.train_step((tokens, target))
    assert outputs[0]["loss"] == pytest.approx(outputs[1]["loss"], rel=1e-6)
    torch.testing.assert_close(cut.nn_module.state_dict(), whole.nn_module.state_dict())


def test_a_loss_may_say_what_its_mean_divides_by() -> None:
    class Summed(nn.Module):
        def divisor(self, target: Tensor) -> Tensor:
            return (target + 1).sum()

        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            errors = nn.functional.cross_entropy(prediction, target, reduction="none")
            return (errors * (target + 1)).sum() / self.divisor(target)

    argus_core.register("loss", "summed", Summed)
    cut = weights_after(TARGET, "summed", ("microbatch", {"size": 4}))
    torch.testing.assert_close(cut, weights_after(TARGET, "summed", None), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "batch", "divisor"),
    [
        (nn.MSELoss(), (INPUT, INPUT), 9),
        (None, {"x": INPUT}, 9),
        (nn.CrossEntropyLoss(), (INPUT, torch.rand(9, 4)), 9),
        (nn.CrossEntropyLoss(), (INPUT, TARGET), 9),
        (nn.CrossEntropyLoss(ignore_index=2), (INPUT, TARGET), 6),
        (nn.NLLLoss(weight=CLASS_WEIGHTS), (INPUT, TARGET), 78),
    ],
)
def test_the_divisor_is_samples_unless_the_loss_divides_by_something_else(
    loss: Any, batch: Any, divisor: float
) -> None:
    assert float(mean_divisor(loss, batch)) == divisor


def test_weighing_by_a_tensor_of_nothing_gives_nothing() -> None:
    assert weigh(torch.tensor(float("nan")), torch.tensor(0.0)) == 0


def test_a_loss_off_the_graph_is_refused() -> None:
    class Detached(nn.Module):
        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(prediction, target).detach()

    argus_core.register("loss", "detached", Detached)
    with pytest.raises(argus_core.ParamsError, match="depends on no parameter that requires grad"):
        make_model(loss="detached").train_step((INPUT, TARGET))

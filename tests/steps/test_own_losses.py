"""A loss that is not derived from one of torch's is weighted by the mean that it takes, too."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from networks import make_model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import argus_core
from argus_core.steps.observed_mean import observe
from argus_core.steps.reduction import mean_divisor, reduction_of

pytestmark = pytest.mark.usefixtures("net_registry")

GENERATOR = torch.Generator().manual_seed(0)
INPUT = torch.randn(30, 4, generator=GENERATOR)
CLASSES = torch.randint(3, (30,), generator=GENERATOR)
MASKED = torch.where(torch.arange(30) < 11, -100, CLASSES)
MARKED = torch.where(torch.arange(30) < 11, 7, CLASSES)
VALUES = torch.rand(30, 3, generator=GENERATOR)
KNOWN = VALUES.masked_fill(torch.arange(90).view(30, 3) < 31, -1.0)
WEIGHT = torch.tensor([1.0, 3.0, 10.0])


class Wrapped(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.CrossEntropyLoss(**options)])

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.parts[0](prediction, target)
        return loss + 0.5 * self.parts[0](prediction * 2, target)


class Labelled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ignore_label = 7

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, ignore_index=self.ignore_label)


class OfClass(nn.Module):
    ignored = ignore_index = 1

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, ignore_index=self.ignored)


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alpha = WEIGHT.clone()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, self.alpha)


class WeightedMean(Weighted):
    """Its weights do not change what it divides by."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, self.alpha, reduction="none").mean()


class Known(nn.Module):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs()[target >= 0].mean()


class Summed(nn.Module):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, reduction="sum")


class NoHash:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target)


def squares(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean()


def entropy(prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(prediction, target)


LOSSES: dict[str, tuple[Callable[[], Any], Tensor]] = {
    "wrapped": (Wrapped, MASKED),
    "wrapped weights": (lambda: Wrapped(weight=WEIGHT, ignore_index=1), CLASSES),
    "labelled": (Labelled, MARKED),
    "of its class": (OfClass, CLASSES),
    "weighted": (Weighted, MASKED),
    "weighted mean": (WeightedMean, CLASSES),
    "known": (Known, KNOWN),
    "summed": (Summed, CLASSES),
    "without a hash": (NoHash, CLASSES),
    "function": (lambda: squares, VALUES),
    "function of classes": (lambda: entropy, MASKED),
    "partial": (lambda: partial(F.cross_entropy, weight=WEIGHT), MASKED),
    "partial with an ignored class": (lambda: partial(F.cross_entropy, ignore_index=1), CLASSES),
}


@pytest.mark.parametrize(
    "step", [[], ("accumulate", {"steps": 5}), ("microbatch", {"size": 4})], ids=["plain", "5", "4"]
)
@pytest.mark.parametrize("name", LOSSES)
def test_an_own_loss_is_that_of_all_data_however_they_are_cut(name: str, step: Any) -> None:
    factory, target = LOSSES[name]
    argus_core.register("loss", "own", factory)
    data = TensorDataset(INPUT, target)
    model = make_model(loss="own", step=step)
    network = copy.deepcopy(model.nn_module)
    whole = factory()(network(INPUT), target)
    divisor = len(INPUT) if name == "summed" else 1
    for size in (7, 30):
        found = model.validate(DataLoader(data, size))["val_loss"]
        assert found == pytest.approx(whole.item() / divisor, rel=1e-5)
    whole.backward()
    model.fit(DataLoader(data, 6 if step and step[0] == "accumulate" else 30))
    for parameter, expected in zip(model.nn_module.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-4, atol=1e-6)


def test_images_with_an_ignored_class_and_outputs_in_a_dict() -> None:
    class OfImages(Wrapped):
        def forward(self, prediction: Any, target: Tensor) -> Tensor:
            loss: Tensor = self.parts[0](prediction["out"], target)
            return loss + 0.4 * self.parts[0](prediction["aux"], target)

    class Outputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.aux = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

        def forward(self, input: Tensor) -> dict[str, Tensor]:
            return {"out": self.out(input), "aux": self.aux(input)}

    argus_core.register("loss", "of_images", OfImages)
    argus_core.register("nn_module", "outputs", Outputs)
    input = torch.randn(10, 3, 8, 8, generator=GENERATOR)
    target = torch.randint(4, (10, 8, 8), generator=GENERATOR)
    target[8:, :6] = 255
    target[::3, 0] = 255
    model = make_model(nn_module="outputs", loss=("of_images", {"ignore_index": 255}))
    whole = float(model.loss(model.nn_module(input), target).detach())
    for size in (10, 4, 3):
        found = model.validate(DataLoader(TensorDataset(input, target), size))["val_loss"]
        assert found == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("numbers", [10, 2**21])
def test_a_loss_that_is_no_mean_and_one_with_a_network_count_samples_silently(numbers: int) -> None:
    class Contrast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("queue", torch.zeros(numbers))

        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            near = prediction @ prediction.T + self.queue.mean()
            return F.cross_entropy(near, torch.arange(len(near)))

    loss = Contrast()
    observe(loss, torch.randn(30, 3, generator=GENERATOR), CLASSES)
    assert mean_divisor(loss, (INPUT, CLASSES)) == len(INPUT)
    assert reduction_of(loss) == "mean"


class Reducing(nn.CrossEntropyLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = F.cross_entropy(prediction, target, reduction="none") ** 2
        return errors.sum() if self.reduction == "sum" else errors.mean()


class ReducingPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Reducing()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.part(prediction, target)
        return loss


@pytest.mark.parametrize("step", [[], ("accumulate", {"steps": 2}), ("microbatch", {"size": 4})], ids=str)
@pytest.mark.parametrize("kind", [Reducing, ReducingPart])
def test_a_reduction_that_changes_in_a_run_is_observed_again(kind: type[nn.Module], step: Any) -> None:
    argus_core.register("loss", "reducing", kind)
    model = make_model(loss="reducing", step=step, optimizer=("SGD", {"lr": 0.01}))
    network = copy.deepcopy(model.nn_module)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    loss = Reducing()
    data = DataLoader(TensorDataset(INPUT, CLASSES), 7)

    @argus_core.on_epoch_start
    def alternate(state: argus_core.State) -> None:
        getattr(state.model.loss, "part", state.model.loss).reduction = ("mean", "sum")[state.epoch % 2]

    found = model.fit(data, data, num_epochs=4, callbacks=[alternate])
    window = 14 if step and step[0] == "accumulate" else 7
    for epoch in range(4):
        loss.reduction = ("mean", "sum")[epoch % 2]
        total = 0.0
        for input, target in zip(INPUT.split(window), CLASSES.split(window), strict=True):
            optimizer.zero_grad()
            each = loss(network(input), target)
            each.backward()
            optimizer.step()
            total += each.item() * (1 if epoch % 2 else len(target))
    assert found["train_loss"] == pytest.approx(total / len(INPUT), rel=1e-5)
    assert found["val_loss"] == pytest.approx(loss(network(INPUT), CLASSES).item() / len(INPUT), rel=1e-5)
    for parameter, expected in zip(model.nn_module.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected)


class WithPenalty(Wrapped):
    """No divisor fits: its parts are means over unlike targets."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().forward(prediction, target) + 0.01 * prediction.square().mean()


def test_a_batch_of_ignored_targets_is_left_out_where_no_divisor_fits() -> None:
    argus_core.register("loss", "penalty", WithPenalty)
    model = make_model(loss="penalty", step=("microbatch", {"size": 4}))
    data = DataLoader(TensorDataset(INPUT, MASKED), 10)
    expected = [
        WithPenalty()(model.nn_module(INPUT[part]), MASKED[part]) for part in (slice(10, 20), slice(20, 30))
    ]
    found = model.validate(data)["val_loss"]
    assert found == pytest.approx((expected[0].item() * 9 + expected[1].item() * 10) / 19, rel=1e-5)
    assert math.isfinite(model.fit(data)["train_loss"])
    assert model.is_finite()


class Deferred(nn.Module):
    """Its weights come later."""

    weight: Tensor | None = None

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, self.weight)


def test_weights_that_come_in_a_run_are_observed() -> None:
    argus_core.register("loss", "deferred", Deferred)
    model = make_model(loss="deferred", step=("accumulate", {"steps": 2}))
    data = DataLoader(TensorDataset(INPUT, CLASSES), 7)

    @argus_core.on_epoch_start
    def weigh(state: argus_core.State) -> None:
        if state.epoch:
            state.model.loss.weight = WEIGHT

    found = model.fit(data, data, num_epochs=2, callbacks=[weigh])
    whole = F.cross_entropy(model.nn_module(INPUT), CLASSES, WEIGHT)
    assert found["val_loss"] == pytest.approx(whole.item(), rel=1e-5)


def test_a_loss_of_large_images_is_not_tried_on_whole_ones() -> None:
    class Windows(nn.Module):
        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            sizes.append(prediction.numel())
            assert prediction.size(-1) > 100
            return F.mse_loss(F.avg_pool2d(prediction, 11, 1), F.avg_pool2d(target, 11, 1))

    sizes: list[int] = []
    image = torch.rand(2, 3, 256, 256, generator=GENERATOR)
    observe(Windows(), image, image)
    assert max(sizes) < image.numel() / 16


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            {"box": torch.ones(()), "mask": torch.ones(())},
            r"the loss is a dict of box, mask, and only one number .* such as sum\(losses\.values\(\)\)",
        ),
        (torch.ones(4), r"shape \(4,\), .* or return its mean\(\) or sum\(\)"),
    ],
)
def test_a_loss_of_several_numbers_says_how_to_make_one(returned: Any, message: str) -> None:
    argus_core.register("loss", "several", lambda: lambda prediction, target: returned)
    model = make_model(loss="several")
    for call in (model.fit, model.validate):
        with pytest.raises(argus_core.ParamsError, match=message):
            call([(INPUT, CLASSES)])


class Named(argus_core.Model):
    """Its batches are dicts, or of three entries."""

    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        input, target = (batch["input"], batch["target"]) if isinstance(batch, dict) else batch[:2]
        prediction = self.nn_module(input)
        return prediction, target, self.loss(prediction, target)


@pytest.mark.parametrize("step", [[], ("accumulate", {"steps": 5}), ("microbatch", {"size": 4})], ids=str)
@pytest.mark.parametrize("is_dict", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_the_target_is_found_in_batches_that_are_not_pairs(own: bool, is_dict: bool, step: Any) -> None:
    argus_core.register("loss", "wrapped", Wrapped)
    model = Named({**make_model(loss="wrapped" if own else "CrossEntropyLoss").params, "step": step})
    rows = [*zip(INPUT, MASKED, torch.zeros(30), strict=True)]
    data: Any = [{"input": input, "target": target} for input, target, _ in rows] if is_dict else rows
    network = copy.deepcopy(model.nn_module)
    whole = model.loss(network(INPUT), MASKED)
    for size in (7, 30):
        assert model.validate(DataLoader(data, size))["val_loss"] == pytest.approx(whole.item(), rel=1e-5)
    model = Named({**make_model(loss="wrapped" if own else "CrossEntropyLoss").params, "step": step})
    model.nn_module.load_state_dict(network.state_dict())
    whole.backward()
    model.fit(DataLoader(data, 6 if step and step[0] == "accumulate" else 30))
    for parameter, expected in zip(model.nn_module.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-4, atol=1e-6)

"""A loss derived from one of torch's, with its own ``forward``, is weighted by the mean that it takes."""

from __future__ import annotations

import copy
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import make_model
from torch import Tensor, nn
from torch.nn import functional as F

import argus_core
from argus_core.errors import ArgusWarning
from argus_core.steps.observed_mean import observe
from argus_core.steps.reduction import mean_divisor
from argus_core.testing import check_component

pytestmark = pytest.mark.usefixtures("net_registry")

GENERATOR = torch.Generator().manual_seed(0)
INPUT = torch.randn(30, 4, generator=GENERATOR)
CLASSES = torch.randint(3, (30,), generator=GENERATOR)
MASKED = torch.where(torch.arange(30) < 11, -100, CLASSES)
VALUES = torch.rand(30, 3, generator=GENERATOR)
WEIGHT = torch.tensor([1.0, 3.0, 10.0])
STEPS: dict[str, Any] = {
    "plain": [],
    "accumulated": ("accumulate", {"steps": 5}),
    "micro-batches": ("microbatch", {"size": 3}),
    "both": [("accumulate", {"steps": 5}), ("microbatch", {"size": 4})],
    "sam": [("accumulate", {"steps": 5}), "sam"],
}


class Focal(nn.CrossEntropyLoss):
    """The mean over all targets, the ignored ones too."""

    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__(weight, reduction="none")

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = super().forward(prediction, target)
        return ((1 - (-errors).exp()) ** 2 * errors).mean()


class FocalOfClasses(nn.CrossEntropyLoss):
    """A focal loss of weighted classes over the number of targets that are not ignored."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = F.cross_entropy(prediction, target, self.weight, reduction="none")
        return (errors**2).sum() / (target != self.ignore_index).sum()


class OfSamples(nn.CrossEntropyLoss):
    def __init__(self) -> None:
        super().__init__(reduction="sum")

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().forward(prediction, target) / len(target)


class Summed(nn.CrossEntropyLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, reduction="sum")


class Functional(nn.CrossEntropyLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, self.weight, ignore_index=self.ignore_index)


class Kept(nn.CrossEntropyLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = F.cross_entropy(prediction, target, reduction="none")
        return errors[target != self.ignore_index].mean()


class Ratio(nn.NLLLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        mask = target != self.ignore_index
        return F.nll_loss(prediction.log_softmax(1), target, reduction="none").sum() / mask.sum()


class Likelihood(nn.NLLLoss):
    """All its targets count."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(prediction.log_softmax(1), target, self.weight, reduction="none").mean()


class Flat(nn.CrossEntropyLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().forward(prediction.flatten(0, -2), target.flatten())


class FocalOfLogits(nn.BCEWithLogitsLoss):
    def __init__(self, pos_weight: Tensor | None = None) -> None:
        super().__init__(pos_weight=pos_weight, reduction="none")

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors: Tensor = super().forward(prediction, target) ** 2
        return errors.mean()


class LogitsOfSamples(nn.BCEWithLogitsLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = F.binary_cross_entropy_with_logits(
            prediction, target, pos_weight=self.pos_weight, reduction="none"
        )
        return errors.sum() / len(target)


class FlatSquares(nn.MSELoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().forward(prediction.flatten(), target.flatten())


class SquaresOfSamples(nn.MSELoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().sum() / len(target)


class Depth(nn.L1Loss):
    """Values that are not positive were not measured."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs()[target > 0].mean()


class Known(nn.MSELoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        known = ~target.isnan()
        return super().forward(prediction[known], target[known])


class Labelled(nn.BCEWithLogitsLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        there = target >= 0
        errors = F.binary_cross_entropy_with_logits(prediction, target, reduction="none")
        return (errors * there).sum() / there.sum()


class OtherIgnored(nn.CrossEntropyLoss):
    """It ignores another class than its attribute says."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, self.weight, ignore_index=255)


class Foreground(nn.CrossEntropyLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, reduction="sum") / (target > 0).sum()


class LearnedWeights(nn.CrossEntropyLoss):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(WEIGHT.clone())

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = F.cross_entropy(prediction, target, reduction="none") ** 2
        return (self.weight[target] * errors).mean()


class Moving(nn.MSELoss):
    """Its buffer moves with each call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return (prediction - target).square().mean(1).mean()


class Soft(nn.CrossEntropyLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return -(target * prediction.log_softmax(1)).sum(1).mean()


POS_WEIGHT = torch.tensor([1.0, 2.0, 3.0])
SOME = torch.rand(30, 3, generator=GENERATOR) < torch.where(torch.arange(30) < 7, 0.0, 0.6)[:, None]
LATE = torch.where(torch.arange(30) % 10 == 9, 255, CLASSES)
FOREGROUND = torch.where(torch.arange(30) % 3 == 1, 1, torch.where(torch.arange(30) < 7, 2, CLASSES))
LOSSES: dict[str, tuple[type[nn.Module], dict[str, Any], Tensor]] = {
    "focal": (Focal, {}, MASKED),
    "focal of weighted classes": (Focal, {"weight": WEIGHT}, MASKED),
    "weighted over kept": (FocalOfClasses, {"weight": WEIGHT}, MASKED),
    "samples": (OfSamples, {}, MASKED),
    "functional": (Functional, {}, MASKED),
    "functional of weighted classes": (Functional, {"weight": WEIGHT}, MASKED),
    "kept": (Kept, {}, MASKED),
    "ratio": (Ratio, {}, MASKED),
    "likelihood": (Likelihood, {"weight": WEIGHT}, MASKED),
    "flat": (Flat, {}, MASKED),
    "logits": (FocalOfLogits, {"pos_weight": POS_WEIGHT}, VALUES.round()),
    "logits of samples": (LogitsOfSamples, {"pos_weight": POS_WEIGHT}, VALUES.round()),
    "squares": (FlatSquares, {}, VALUES),
    "squares of samples": (SquaresOfSamples, {}, VALUES),
    "positive": (Depth, {}, VALUES.masked_fill(SOME, 0.0)),
    "not nan": (Known, {}, VALUES.masked_fill(SOME, float("nan"))),
    "labelled": (Labelled, {}, VALUES.round().masked_fill(SOME, -1.0)),
    "another ignored class": (OtherIgnored, {}, LATE),
    "another ignored class of weighted ones": (OtherIgnored, {"weight": WEIGHT}, LATE),
    "foreground": (Foreground, {}, FOREGROUND),
    "learned weights": (LearnedWeights, {}, CLASSES),
    "moving buffer": (Moving, {}, VALUES),
    "probabilities": (Soft, {}, VALUES.softmax(1)),
}


def made(kind: type[nn.Module], params: dict[str, Any], **others: Any) -> argus_core.Model:
    argus_core.register("loss", "derived", kind, override=True)
    torch.manual_seed(0)
    return make_model(loss=("derived", params), **others)


class Time(nn.MSELoss):
    """The mean over sequences of the sum over time, which comes first."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().sum() / target.size(1)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, input: Tensor) -> Tensor:
        return input * self.scale


def cut(target: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [*zip(INPUT.split(7), target.split(7), strict=True)]


@pytest.mark.parametrize("step", ["plain", "both", "sam"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_derived_loss_is_that_of_all_data_however_they_are_cut(name: str, step: str) -> None:
    kind, params, target = LOSSES[name]
    model = made(kind, params, step=STEPS[step], optimizer=("SGD", {"lr": 0.0}))
    with torch.no_grad():
        expected = kind(**params)(model.nn_module(INPUT), target).item()
    assert model.fit(cut(target))["train_loss"] == pytest.approx(expected, rel=1e-5)
    fresh = made(kind, params, step=STEPS[step])
    assert fresh.validate(cut(target))["val_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("step", ["accumulated", "micro-batches"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_first_update_of_a_derived_loss_is_that_of_the_whole_window(name: str, step: str) -> None:
    kind, params, target = LOSSES[name]
    model = made(kind, params, step=STEPS[step], optimizer=("SGD", {"lr": 0.1}))
    expected = made(kind, params, optimizer=("SGD", {"lr": 0.1}))
    model.fit([(INPUT, target)] if step == "micro-batches" else cut(target))
    kind(**params)(expected.nn_module(INPUT), target).backward()
    expected.optimizer.step()
    torch.testing.assert_close(model.nn_module.state_dict(), expected.nn_module.state_dict())


@pytest.mark.parametrize("name", LOSSES)
def test_any_first_batch_tells_the_same(name: str) -> None:
    """A resumed run begins with another batch, and several processes have different ones."""
    kind, params, target = LOSSES[name]
    weights = set()
    for first in slice(7), slice(14, 21), slice(29, 30), slice(3, None, 10), slice(1, None, 3):
        model = made(kind, params)
        model.validate([(INPUT[first], target[first])])
        weights.add(float(model.loss_weight((INPUT, target))))
    assert len(weights) == 1


@pytest.mark.parametrize(("kind", "divisor"), [(Time, 18), (FlatSquares, 108)])
@pytest.mark.parametrize("dim", [1, [1, 1]])
@pytest.mark.parametrize("step", ["plain", "both"])
def test_samples_in_another_dimension_are_cut_there(
    step: str, dim: Any, kind: type[nn.Module], divisor: int
) -> None:
    argus_core.register("nn_module", "scale", Scale)
    model = made(kind, {}, nn_module="scale", step=STEPS[step], batch_dim=dim)
    input, target = torch.randn(2, 6, 18, generator=GENERATOR)
    data = [*zip(input.split(7, dim=1), target.split(7, dim=1), strict=True)]
    expected = kind()(input, target).item()
    assert model.validate(data)["val_loss"] == pytest.approx(expected, rel=1e-5)
    assert made(
        kind, {}, nn_module="scale", step=STEPS[step], batch_dim=dim, optimizer=("SGD", {"lr": 0.0})
    ).fit(data)["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert model.loss_weight((input, target)) == divisor


def test_an_empty_first_batch_leaves_it_to_the_next() -> None:
    model = made(Focal, {})
    model.val_step((INPUT[:0], MASKED[:0]))
    model.val_step((INPUT, MASKED))
    assert model.loss_weight((INPUT, MASKED)) == 30


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    "target",
    [
        torch.ones(4, 3, device="meta"),
        torch.eye(4).to_sparse(),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "text",
        torch.ones(()),
    ],
)
def test_targets_that_cannot_be_tried_leave_the_base_class(target: Any) -> None:
    loss = FlatSquares()
    assert observe(loss, target, target)
    assert mean_divisor(loss, (VALUES, VALUES)) == VALUES.numel()


class Seeing(nn.CrossEntropyLoss):
    def __init__(self, numbers: int = 0) -> None:
        super().__init__()
        self.network = nn.Linear(numbers, 1, device="meta" if numbers > 10**6 else None)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        SEEN.append((prediction.numel(), sum(map(torch.Tensor.numel, self.parameters()))))
        return F.cross_entropy(prediction, target, reduction="none").mean()


SEEN: list[tuple[int, int]] = []


def test_images_are_tried_on_a_corner() -> None:
    SEEN.clear()
    images = torch.randn(2, 3, 640, 640, generator=GENERATOR)
    assert observe(loss := Seeing(5), images, images.argmax(1))
    assert max(SEEN)[0] < 10**4
    assert mean_divisor(loss, (images, images.argmax(1))) == 2 * 640 * 640


def test_a_loss_with_a_large_network_is_not_copied() -> None:
    SEEN.clear()
    assert observe(Seeing(10**9), INPUT[:, :3], CLASSES)
    assert not SEEN


@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, FocalOfClasses])
def test_a_compiled_loss_is_weighted_as_itself(kind: type[nn.Module]) -> None:
    model = made(kind, {"weight": WEIGHT})
    plain = model.loss
    model.loss = torch.compile(plain, backend="eager")
    for loss in (model.loss, plain):
        observe(loss, VALUES, CLASSES)
    expected = mean_divisor(plain, (INPUT, MASKED))
    assert model.loss_weight((INPUT, MASKED)) == expected
    assert expected == pytest.approx(WEIGHT[MASKED[11:]].sum().item() if kind is nn.CrossEntropyLoss else 19)


@pytest.mark.parametrize("step", ["plain", "both"])
def test_a_derived_loss_that_sums_is_summed(step: str) -> None:
    model = made(Summed, {}, step=STEPS[step], optimizer=("SGD", {"lr": 0.0}))
    assert model.loss_reduction() == "mean"
    with torch.no_grad():
        expected = Summed()(model.nn_module(INPUT), MASKED).item() / len(INPUT)
    found = model.fit(cut(MASKED), cut(MASKED))
    assert [found["train_loss"], found["val_loss"]] == pytest.approx([expected] * 2, rel=1e-5)
    assert model.loss_reduction() == "sum"


@pytest.mark.parametrize(("kind", "divisor"), [(FlatSquares, 15), (SquaresOfSamples, 3)])
def test_samples_of_other_lengths_are_counted_by_what_the_loss_divides_by(
    kind: type[nn.Module], divisor: int
) -> None:
    model = made(kind, {}, nn_module=("net", {"classes": 5}))
    model.validate([(torch.randn(6, 4), torch.randn(6, 5))])
    assert model.loss_weight((torch.randn(3, 4), torch.randn(3, 5))) == divisor


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_network_of_zeros_tells_as_much(weight: float) -> None:
    """All its losses are the same, whatever they are divided by."""
    model = made(Focal, {"weight": WEIGHT})
    for parameter in model.nn_module.parameters():
        nn.init.constant_(parameter, weight)
    model.train_step((INPUT, CLASSES))
    assert model.loss_weight((INPUT, MASKED)) == 30


def test_one_sample_tells_as_much() -> None:
    model = made(Focal, {"weight": WEIGHT})
    model.train_step((INPUT[:1], CLASSES[:1]))
    assert model.loss_weight((INPUT, MASKED)) == 30


def test_copies_loaded_files_and_other_losses_are_observed_anew(tmp_path: Path) -> None:
    model = made(Focal, {"weight": WEIGHT})
    model.train_step((INPUT, MASKED))
    model.save(tmp_path / "model.pth")
    loaded = argus_core.load_model(tmp_path / "model.pth", device="cpu")
    copied = copy.deepcopy(model)
    model.loss = pickle.loads(pickle.dumps(model.loss))
    for each in (model, copied, loaded):
        each.validate(cut(MASKED))
        assert each.loss_weight((INPUT, MASKED)) == 30
    model.loss = Functional(WEIGHT)
    model.validate(cut(MASKED))
    assert model.loss_weight((INPUT, MASKED)) == pytest.approx(WEIGHT[MASKED[11:]].sum().item())


def test_a_loss_that_takes_no_ignored_targets_is_observed_without_them() -> None:
    class OneHot(nn.CrossEntropyLoss):
        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            return -(F.one_hot(target, 3) * prediction.log_softmax(1)).sum() / len(target)

    model = made(OneHot, {"weight": WEIGHT})
    model.train_step((INPUT, CLASSES))
    assert model.loss_weight((INPUT, CLASSES)) == 30


def test_observing_a_loss_changes_neither_its_state_nor_random_numbers() -> None:
    class Counting(nn.CrossEntropyLoss):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            self.calls += 1
            assert random.random() < 1
            torch.rand(())
            return super().forward(prediction, target)

    model = made(Counting, {})
    torch.manual_seed(3)
    random.seed(3)
    model.train_step((INPUT, MASKED))
    drawn = float(torch.rand(())), random.random()
    torch.manual_seed(3)
    random.seed(3)
    torch.rand(()), random.random()
    assert (float(torch.rand(())), random.random()) == drawn
    assert model.loss.calls == 1


class Root(nn.MSELoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().forward(prediction, target).sqrt()


class Worst(nn.CrossEntropyLoss):
    """The mean over the worst half, which a single sample does not have."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = F.cross_entropy(prediction, target, reduction="none")
        return errors.topk(len(errors) // 2)[0].mean()


class Balanced(nn.BCEWithLogitsLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = F.binary_cross_entropy_with_logits(prediction, target, reduction="sum")
        return errors / (target == 1).sum()


@pytest.mark.parametrize(("kind", "target"), [(Worst, CLASSES), (Balanced, torch.ones(30, 3))])
def test_a_loss_that_does_not_add_up_warns_whatever_the_first_batch_has(
    kind: type[nn.Module], target: Tensor
) -> None:
    with pytest.warns(ArgusWarning, match=r"the loss \w+ \(\w+\) is neither a sum nor a mean"):
        made(kind, {}).validate(cut(target))


def test_a_loss_that_does_not_add_up_warns_once_and_counts_as_its_base_class() -> None:
    model = made(Root, {})
    with pytest.warns(
        ArgusWarning, match=r"the loss Root \(MSELoss\) is neither .*divisor\(target\)"
    ) as seen:
        model.fit(cut(VALUES), cut(VALUES))
    assert len(seen) == 1
    assert model.loss_weight((INPUT, VALUES)) == VALUES.numel()


def test_a_declared_divisor_is_not_observed() -> None:
    class Declares(Root):
        def divisor(self, target: Tensor) -> int:
            return len(target)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = made(Declares, {})
        model.train_step((INPUT, VALUES))
    assert model.loss_weight((INPUT, VALUES)) == len(INPUT)


@pytest.mark.parametrize("kind", [Focal, OfSamples, Summed, Flat, FlatSquares])
def test_the_check_of_a_loss_observes_it(kind: type[nn.Module]) -> None:
    argus_core.register("loss", "checked", kind)
    target = VALUES if issubclass(kind, nn.MSELoss) else MASKED
    check_component("loss", "checked", batch=(VALUES.clone(), target), reload=False)

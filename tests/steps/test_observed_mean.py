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


POS_WEIGHT = torch.tensor([1.0, 2.0, 3.0])
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
}


def made(kind: type[nn.Module], params: dict[str, Any], **others: Any) -> argus_core.Model:
    argus_core.register("loss", "derived", kind, override=True)
    torch.manual_seed(0)
    return make_model(loss=("derived", params), **others)


def cut(target: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [*zip(INPUT.split(7), target.split(7), strict=True)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_derived_loss_is_that_of_all_data_however_they_are_cut(name: str, step: str) -> None:
    kind, params, target = LOSSES[name]
    model = made(kind, params, step=STEPS[step], optimizer=("SGD", {"lr": 0.0}))
    with torch.no_grad():
        expected = kind(**params)(model.nn_module(INPUT), target).item()
    assert model.fit(cut(target))["train_loss"] == pytest.approx(expected, rel=1e-5)
    fresh = made(kind, params, step=STEPS[step])
    assert fresh.validate(cut(target))["val_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("step", ["accumulated", "micro-batches", "both"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_first_update_of_a_derived_loss_is_that_of_the_whole_window(name: str, step: str) -> None:
    kind, params, target = LOSSES[name]
    model = made(kind, params, step=STEPS[step], optimizer=("SGD", {"lr": 0.1}))
    expected = made(kind, params, optimizer=("SGD", {"lr": 0.1}))
    model.fit([(INPUT, target)] if step == "micro-batches" else cut(target))
    kind(**params)(expected.nn_module(INPUT), target).backward()
    expected.optimizer.step()
    torch.testing.assert_close(model.nn_module.state_dict(), expected.nn_module.state_dict())


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

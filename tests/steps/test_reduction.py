"""Means that are not over samples still add up: class weights, ignored targets, a loss's own divisor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy
import pytest
import torch
from networks import make_model
from torch import Tensor, nn

import argus_core
from argus_core import ParamsError, hookimpl
from argus_core.steps.output import Window
from argus_core.steps.reduction import mean_divisor, mean_divisors
from argus_core.steps.shares import weigh

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


class Masked(nn.Module):
    """The mean error over the targets that are not 0."""

    def divisor(self, target: Tensor) -> Tensor:
        return (target != 0).sum()

    def forward(self, prediction: Any, target: Tensor) -> Tensor:
        prediction = prediction["logits"][0] if isinstance(prediction, dict) else prediction
        errors = nn.functional.cross_entropy(prediction, target, reduction="none")
        return (errors * (target != 0)).sum() / self.divisor(target)


class InADict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 6)

    def forward(self, input: Tensor) -> dict[str, Any]:
        logits, unused = self.hidden(input).chunk(2, dim=1)
        return {"logits": (logits,), "unused": unused, "name": "hidden"}


@pytest.mark.parametrize(
    ("nn_module", "loss"),
    [
        ("net", ("CrossEntropyLoss", {"weight": torch.tensor([0.0, 1.0, 2.0])})),
        ("net", "masked"),
        ("in_a_dict", "masked"),
    ],
)
@pytest.mark.parametrize("steps", [[], ["given"], [("amp", {"dtype": "float16", "init_scale": 2.0**10})]])
def test_gradients_stay_finite_where_a_micro_batch_counts_nothing(
    nn_module: str, loss: Any, steps: list[Any]
) -> None:
    class Given:
        @hookimpl
        def backward(self, loss: Tensor) -> None:
            loss.backward()  # type: ignore[no-untyped-call]

    argus_core.register("loss", "masked", Masked)
    argus_core.register("nn_module", "in_a_dict", InADict)
    argus_core.register("step", "given", Given)
    params = {"nn_module": nn_module, "loss": loss}
    cut = make_model(**params, step=[("microbatch", {"size": 2}), *steps])
    whole = make_model(**params, step=steps)
    batch = INPUT, torch.tensor([0, 0, 2, 1, 0, 2, 2, 1, 0])
    outputs = cut.train_step(batch), whole.train_step(batch)
    assert outputs[0].stepped
    assert outputs[0]["loss"] == pytest.approx(outputs[1]["loss"], rel=1e-3 if steps else 1e-6)
    close = {"rtol": 1e-2, "atol": 1e-3} if steps else {}
    torch.testing.assert_close(cut.nn_module.state_dict(), whole.nn_module.state_dict(), **close)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_a_ragged_prediction_may_be_weighed_by_a_tensor(layout: torch.layout) -> None:
    class Ragged(argus_core.Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            rows = self.nn_module(batch[0])
            prediction = torch.nested.as_nested_tensor([rows[:1], rows[1:]], layout=layout)
            errors = torch.cat([*prediction.unbind()]).square()
            return prediction, batch[1], errors.mean()

        def loss_weight(self, batch: Any) -> Tensor:
            return torch.tensor(len(batch[0]))

    model = Ragged(make_model(step=("microbatch", {"size": 5})).params)
    assert model.train_step((INPUT, TARGET)).stepped


def test_a_parameter_among_the_predictions_goes_on_learning() -> None:
    class Own(argus_core.Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            prediction, target, loss = super().forward_loss(batch)
            return (prediction, self.nn_module.hidden.weight), target, loss

    given = make_model().params | {"loss": "masked", "step": ("microbatch", {"size": 2})}
    argus_core.register("loss", "masked", Masked)
    model = Own(given)
    model.train_step((INPUT, torch.tensor([0, 0, 2, 1, 0, 2, 2, 1, 0])))
    before = model.nn_module.hidden.weight.detach().clone()
    model.train_step((INPUT, TARGET))
    assert not torch.equal(model.nn_module.hidden.weight, before)


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


def test_a_divisor_holds_in_a_loss_derived_from_one_of_torchs() -> None:
    """Its mean counts the ignored targets, which its base class does not."""

    class Focal(nn.CrossEntropyLoss):
        def divisor(self, target: Tensor) -> int:
            return target.numel()

        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            errors = nn.functional.cross_entropy(prediction, target, reduction="none")
            return ((1 - (-errors).exp()) * errors).mean()

    argus_core.register("loss", "derived_focal", Focal)
    target = torch.where(torch.arange(len(TARGET)) < 3, -100, TARGET)
    cut = weights_after(target, "derived_focal", ("microbatch", {"size": 4}))
    torch.testing.assert_close(cut, weights_after(target, "derived_focal", None), rtol=1e-5, atol=1e-6)


def window_weighed_by(weigh: Callable[[int], Any], device: str = "cpu", **params: Any) -> tuple[Any, Any]:
    """Return a model whose own weight comes of the number of samples, and a step of it by two batches."""

    class Weighs(argus_core.Model):
        def loss_weight(self, batch: Any) -> Any:
            return weigh(len(batch[0]))

    given = make_model().params | {"step": ("accumulate", {"steps": 2}), "device": device} | params
    torch.manual_seed(0)
    model = Weighs(given)
    return model, model.train_step(Window([(INPUT[:2], TARGET[:2]), (INPUT[2:], TARGET[2:])]))


@pytest.mark.parametrize(
    "weight",
    [
        float,
        Fraction,
        numpy.float64,
        numpy.float32,
        numpy.int64,
        numpy.array,
        torch.tensor,
        lambda samples: torch.tensor([samples]),
    ],
)
def test_a_weight_may_be_any_real_number(weight: Callable[[int], Any]) -> None:
    model, output = window_weighed_by(weight)
    whole = make_model()
    assert output["loss"] == pytest.approx(whole.train_step((INPUT, TARGET))["loss"], rel=1e-6)
    torch.testing.assert_close(model.nn_module.state_dict(), whole.nn_module.state_dict())


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (None, "None"),
        ("2", "2"),
        (2j, "2j"),
        (torch.tensor(2j), r"a torch.complex64 tensor of shape \(\)"),
        (torch.ones(2), r"a torch.float32 tensor of shape \(2,\)"),
    ],
)
def test_a_weight_that_is_no_real_number_is_refused(weight: Any, said: str) -> None:
    with pytest.raises(
        ParamsError, match=f"a micro-batch weighs {said}; return a real number or a 0-d tensor"
    ):
        window_weighed_by(lambda samples: weight)


def test_a_weight_may_be_on_another_device_than_the_loss() -> None:
    _, output = window_weighed_by(lambda samples: torch.tensor(samples, device="cpu"), device="meta")
    assert output.loss_tensor.is_meta


@pytest.mark.parametrize("nothing", [0, torch.tensor(0)])
def test_a_window_that_weighs_nothing_leaves_the_weights_alone(nothing: Any) -> None:
    model, output = window_weighed_by(lambda samples: nothing)
    assert output["loss"] == 0
    torch.testing.assert_close(model.nn_module.state_dict(), make_model().nn_module.state_dict())


@pytest.mark.parametrize("weight", [float, torch.tensor])
def test_a_parameter_of_which_the_loss_holds_a_view_changes_no_share(weight: Callable[[int], Any]) -> None:
    """torch lets such a parameter's gradient share memory with what backward begins with."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(4, 3)
            self.spread = nn.Parameter(torch.full((1,), 0.5))

        def forward(self, input: Tensor) -> Tensor:
            logits: Tensor = self.hidden(input)
            return logits

    class Spread(argus_core.Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            prediction, target, loss = super().forward_loss(batch)
            return prediction, target, loss * 2 + self.nn_module.spread.squeeze()

        def loss_weight(self, batch: Any) -> Any:
            return weight(len(batch[0]))

    argus_core.register("nn_module", "scaled", Scaled)

    def stepped(*steps: Any) -> tuple[Any, float]:
        torch.manual_seed(0)
        model = Spread(make_model(nn_module="scaled", step=[("sam", {"rho": 0.5}), *steps]).params)
        model.nn_module.double()
        output = model.train_step((INPUT.double(), TARGET))
        return model.nn_module.state_dict(), output["loss"]

    torch.testing.assert_close(stepped(("microbatch", {"size": 2})), stepped(), rtol=1e-12, atol=1e-12)


def test_a_complex_loss_of_a_window_is_refused() -> None:
    class Complex(nn.Module):
        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(prediction, target) + 0j

    argus_core.register("loss", "complex", Complex)
    with pytest.raises(ParamsError, match=r"the loss is complex \(torch.complex64\).*return its real part"):
        window_weighed_by(float, loss="complex")


@pytest.mark.parametrize(
    ("loss", "batch", "divisor"),
    [
        (nn.MSELoss(), (INPUT, INPUT), 36),
        (nn.MultiLabelSoftMarginLoss(), (INPUT, INPUT), 36),
        (nn.MultiMarginLoss(), (INPUT, TARGET), 9),
        (nn.KLDivLoss(reduction="batchmean"), (INPUT, INPUT), 9),
        (None, {"x": INPUT}, 9),
        (nn.CrossEntropyLoss(), (INPUT, torch.rand(9, 4)), 9),
        (nn.CrossEntropyLoss(), (INPUT, torch.rand(9, 4, 5, 2)), 90),
        (nn.CrossEntropyLoss(), (INPUT[0], torch.rand(4)), 1),
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
    with pytest.raises(ParamsError, match="depends on no parameter that requires grad"):
        make_model(loss="detached").train_step((INPUT, TARGET))


@pytest.mark.skipif(not hasattr(nn, "LinearCrossEntropyLoss"), reason="this torch does not have it")
@pytest.mark.parametrize(
    "given", [{}, {"ignore_index": 1}, {"weight": torch.tensor([1.0, 2.0, 5.0])}], ids=str
)
def test_a_linear_cross_entropy_divides_by_the_targets_that_it_does_not_ignore(given: dict[str, Any]) -> None:
    loss = nn.LinearCrossEntropyLoss(4, 3, **given)
    target = torch.tensor([0, -100 if not given.get("ignore_index") else 1, 2, 1])
    inputs = torch.randn(4, 4)
    divisor = mean_divisor(loss, (inputs, target))
    (several,) = mean_divisors(loss, [(inputs, target)])
    loss.reduction = "sum"
    total = loss(inputs, target).item()
    loss.reduction = "mean"
    assert float(divisor) == float(several) == pytest.approx(total / loss(inputs, target).item(), rel=1e-5)


class Spelled(argus_core.Model):
    """Gives CTCLoss its four inputs, from a batch ((inputs, lengths), (targets, lengths))."""

    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        (inputs, input_lengths), (targets, target_lengths) = batch
        prediction = self.nn_module(inputs).log_softmax(-1).transpose(0, 1)
        return prediction, targets, self.loss(prediction, targets, input_lengths, target_lengths)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("step", [("microbatch", {"size": 1}), ("microbatch", {"chunks": 2})])
@pytest.mark.parametrize("samples", [2, 4, 5])
def test_a_loss_of_several_inputs_adds_up(samples: int, step: Any, reduction: str) -> None:
    inputs = torch.randn(samples, 7, 4)
    lengths = torch.arange(samples) % 3 + 5
    targets, target_lengths = torch.randint(1, 3, (samples, 3)), torch.arange(samples) % 3 + 1
    batch = (inputs, lengths), (targets, target_lengths)
    loss = ("CTCLoss", {"reduction": reduction, "zero_infinity": True})
    params = {"nn_module": "net", "loss": loss, "optimizer": ("SGD", {"lr": 0.01}), "device": "cpu"}
    models = []
    for steps in (step, []):
        torch.manual_seed(0)
        models.append(Spelled({**params, "step": steps}))
    reported = [model.fit([batch])["train_loss"] for model in models]
    assert reported[0] == pytest.approx(reported[1], rel=1e-5)
    for one, other in zip(*(model.nn_module.parameters() for model in models), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)

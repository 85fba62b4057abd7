"""The loss of an epoch: the mean over what the loss divides by, however the data are cut, of updates made."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from networks import make_model
from torch import Tensor, nn
from torch.nn import functional

import argus_core
from argus_core import Model, StepOutput, hookimpl, on_epoch_complete
from argus_core.callbacks.epoch_report import update_loss
from argus_core.metrics import Loss, MeanMetric
from argus_core.steps.reduction import mean_divisor
from argus_core.steps.weights import Weights

pytestmark = pytest.mark.usefixtures("net_registry")

GENERATOR = torch.Generator().manual_seed(0)
INPUT = torch.randn(60, 4, generator=GENERATOR)
CLASSES = torch.randint(3, (60,), generator=GENERATOR)
MASKED = torch.where(torch.arange(60) < 25, -100, CLASSES)
VALUES = torch.rand(60, 3, generator=GENERATOR)
WEIGHT = torch.tensor([1.0, 1.0, 10.0])
NO_STEP = {"optimizer": ("SGD", {"lr": 0.0})}

LOSSES: dict[str, tuple[Any, Tensor]] = {
    "class weights": (("CrossEntropyLoss", {"weight": WEIGHT}), CLASSES),
    "ignored targets": ("CrossEntropyLoss", MASKED),
    "ignored and weighted": (("CrossEntropyLoss", {"weight": WEIGHT}), MASKED),
    "smoothed": (("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}), MASKED),
    "probabilities": ("CrossEntropyLoss", VALUES),
    "log-likelihood": (("NLLLoss", {"weight": WEIGHT, "ignore_index": 1}), CLASSES),
    "elements": ("MSELoss", VALUES),
    "weighted elements": (
        ("BCEWithLogitsLoss", {"weight": WEIGHT, "pos_weight": torch.tensor([1.0, 2.0, 3.0])}),
        VALUES.round(),
    ),
    "divergence of elements": ("KLDivLoss", VALUES),
    "divergence of samples": (("KLDivLoss", {"reduction": "batchmean"}), VALUES),
    "samples": ("MultiLabelSoftMarginLoss", VALUES.round()),
    "broadcast": ("L1Loss", VALUES[:, :1]),
}
STEPS: dict[str, Any] = {
    "default": None,
    "accumulate": ("accumulate", {"steps": 3}),
    "microbatch": ("microbatch", {"size": 4}),
    "both": [("accumulate", {"steps": 2}), ("microbatch", {"chunks": 3})],
    "sam": ["sam", ("microbatch", {"size": 4})],
    "closure": ["closure", ("accumulate", {"steps": 2})],
    "bfloat16": "amp",
}


def cut(*tensors: Tensor, size: int) -> list[tuple[Tensor, ...]]:
    return [*zip(*(tensor.split(size) for tensor in tensors), strict=True)]


def close(found: Any, expected: float, steps: Any = None) -> bool:
    return bool(found == pytest.approx(expected, rel=2e-2 if steps == "amp" else 1e-5))


CUTS = [
    *[(loss, steps, 7) for loss in LOSSES for steps in ("default", "both")],
    *[("ignored and weighted", steps, 7) for steps in STEPS],
    *[("ignored and weighted", "default", size) for size in (15, 60)],
]


@pytest.mark.filterwarnings("ignore:.*reduction.*:UserWarning", "ignore:Using a target size:UserWarning")
@pytest.mark.parametrize(("loss", "steps", "size"), dict.fromkeys(CUTS))
def test_it_is_the_loss_of_all_data_in_training_and_validation(loss: str, steps: str, size: int) -> None:
    spec, target = LOSSES[loss]
    model = make_model(loss=spec, step=STEPS[steps], **NO_STEP)
    with torch.no_grad():
        whole = model.loss(model.nn_module(INPUT), target).item()
    data = cut(INPUT, target, size=size)
    found = model.fit(data, data)
    assert close(found["train_loss"], whole, STEPS[steps])
    assert close(found["val_loss"], whole, STEPS[steps])


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_of_a_loss_that_sums_it_is_the_mean_over_the_samples(steps: Any) -> None:
    model = make_model(loss=("CrossEntropyLoss", {"reduction": "sum"}), step=steps, **NO_STEP)
    with torch.no_grad():
        whole = model.loss(model.nn_module(INPUT), CLASSES).item()
    data = cut(INPUT, CLASSES, size=7)
    found = model.fit(data, data)
    assert close(found["train_loss"], whole / 60, steps)
    assert close(found["val_loss"], whole / 60, steps)


def test_the_loss_of_an_update_is_reported_as_that_of_an_epoch() -> None:
    model = make_model(loss=("CrossEntropyLoss", {"reduction": "sum"}), **NO_STEP)
    seen: list[tuple[float, float]] = []

    @on_epoch_complete
    def note(state: Any) -> None:
        seen.append((update_loss(state), state.step_output["loss"]))

    metrics = model.fit([(INPUT, CLASSES)], callbacks=[note])
    assert seen[0][0] == pytest.approx(metrics["train_loss"]) == pytest.approx(seen[0][1] / 60)


@pytest.mark.parametrize("steps", [None, ("accumulate", {"steps": 2})], ids=str)
def test_sequences_of_several_lengths_count_by_their_elements(steps: Any) -> None:
    argus_core.register("nn_module", "tripled", lambda: _Tripled())
    data = [(torch.rand(4, length), torch.rand(4, length)) for length in (7, 5, 9)]
    model = make_model(nn_module="tripled", loss="MSELoss", step=steps, **NO_STEP)
    errors = torch.cat(
        [(input * model.nn_module.factor - target).square().flatten() for input, target in data]
    )
    found = model.fit(data, data)
    assert close(found["train_loss"], errors.mean().item())
    assert close(found["val_loss"], errors.mean().item())


class Renamed(nn.MSELoss):
    """The loss of torch, under another name."""


@pytest.mark.parametrize("steps", [None, ("accumulate", {"steps": 3})], ids=str)
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.MultiLabelSoftMarginLoss, Renamed])
def test_losses_of_maps_of_several_sizes_count_by_what_torch_divides_by(loss: Any, steps: Any) -> None:
    argus_core.register("nn_module", "tripled", lambda: _Tripled())
    argus_core.register("loss", "of_maps", loss)
    data = [(torch.rand(4, 3, length), torch.rand(4, 3, length).softmax(1)) for length in (7, 5, 9)]
    model = make_model(nn_module="tripled", loss="of_maps", step=steps, **NO_STEP)
    expected = sum(loss()(input * 3, target).item() * input.size(2) for input, target in data) / 21
    found = model.fit(data, data)
    assert close(found["train_loss"], expected)
    assert close(found["val_loss"], expected)


def test_a_variance_of_its_own_does_not_change_what_a_loss_counts() -> None:
    class Normal(Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            input, target = batch
            mean = self.nn_module(input)
            return mean, target, self.loss(mean, target, torch.full_like(mean, 0.5))

    argus_core.register("nn_module", "tripled", lambda: _Tripled())
    data = [(torch.rand(4, length), torch.rand(4, length)) for length in (7, 5, 9)]
    params = {"nn_module": "tripled", "loss": "GaussianNLLLoss", "device": "cpu"}
    losses = torch.cat([0.5 * (2 * (3 * x - y).square() + math.log(0.5)).flatten() for x, y in data])
    assert close(Normal(params).validate(data)["val_loss"], losses.mean().item())


class _Tripled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3.0))

    def forward(self, input: Tensor) -> Tensor:
        return input * self.factor


class Tokens(Model):
    """Takes its mean over tokens that are not padding, in a batch that is a dict."""

    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        prediction = self.nn_module(batch["x"])
        losses = functional.cross_entropy(prediction, batch["y"], reduction="none")
        return prediction, batch["y"], (losses * batch["mask"]).sum() / batch["mask"].sum()

    def loss_weight(self, batch: Any) -> Any:
        return batch["mask"].sum()


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_model_with_a_loss_and_a_weight_of_its_own_gets_the_same(steps: Any) -> None:
    mask = (torch.arange(60) % 7 > 2).float()
    model = Tokens({**make_model().params, **NO_STEP, "loss": None, "step": steps})
    data = [dict(zip(("x", "y", "mask"), each, strict=True)) for each in cut(INPUT, CLASSES, mask, size=7)]
    padding = {"x": INPUT[:4], "y": CLASSES[:4], "mask": torch.zeros(4)}  # its mean over nothing is nan
    with torch.no_grad():
        whole = model.forward_loss({"x": INPUT, "y": CLASSES, "mask": mask})[2].item()
    found = model.fit(data, [padding, *data])
    assert close(found["train_loss"], whole, steps)
    assert close(found["val_loss"], whole, steps)


def test_a_strategy_that_weighs_micro_batches_is_asked_for_the_epoch_too() -> None:
    class ByMask:
        @hookimpl
        def micro_batch_weight(self, micro_batch: Any) -> Any:
            return (micro_batch[1] != 2).sum()

    argus_core.register("step", "by_mask", ByMask)
    argus_core.register("loss", "without_2", lambda: _without_2)
    model = make_model(loss="without_2", step=["by_mask", ("accumulate", {"steps": 2})], **NO_STEP)
    with torch.no_grad():
        whole = _without_2(model.nn_module(INPUT), CLASSES).item()
    data = cut(INPUT, CLASSES, size=7)
    found = model.fit(data, data)
    assert close(found["train_loss"], whole)
    assert close(found["val_loss"], whole)


def _without_2(prediction: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(prediction, target, ignore_index=2)


def test_bytes_are_not_taken_for_ignored_ones_modulo_256() -> None:
    target = torch.tensor([156, 0, 1], dtype=torch.uint8)
    assert mean_divisor(nn.NLLLoss(), (torch.zeros(3, 200), target)) == 3


def test_where_every_target_is_ignored_there_is_no_loss() -> None:
    metrics = make_model().validate([(INPUT, torch.full_like(CLASSES, -100))], metrics=["accuracy"])
    assert math.isnan(metrics["val_loss"])
    assert math.isnan(metrics["val_accuracy"])


# Batches that are not stacked in the first dimension.


class Recurrent(nn.Module):
    """Takes sequences with time in the first dimension, as torch's recurrent networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.out = nn.GRU(4, 5), nn.Linear(5, 3)

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.out(self.cells(input)[1][0])
        return logits


SEQUENCES = torch.randn(6, 60, 4, generator=GENERATOR)


class SmoothLoss(nn.Module):
    """A loss that does not say what it divides by."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return functional.smooth_l1_loss(prediction, functional.one_hot(target, 3).float())


class RootedLoss(SmoothLoss):
    """A loss that is not a mean."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().forward(prediction, target).sqrt()


@pytest.fixture
def _recurrent(net_registry: None) -> None:
    argus_core.register("nn_module", "recurrent", Recurrent)
    argus_core.register("loss", "smooth", SmoothLoss)


def recurrent(**params: Any) -> Model:
    torch.manual_seed(0)
    return make_model(nn_module="recurrent", **params)


def by_sequence(sizes: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    parts = SEQUENCES.split([*sizes], dim=1), CLASSES.split([*sizes])
    return [*zip(*parts, strict=True)]


@pytest.mark.usefixtures("_recurrent")
@pytest.mark.parametrize("loss", ["smooth", "CrossEntropyLoss", ("CrossEntropyLoss", {"reduction": "sum"})])
def test_a_declared_dimension_makes_losses_accumulation_and_micro_batches_right(loss: Any) -> None:
    params: dict[str, Any] = {"loss": loss, "batch_dim": 1, "optimizer": ("SGD", {"lr": 0.01})}
    steps = [("accumulate", {"steps": 4}), ("microbatch", {"size": 4})]
    whole, parts = recurrent(**params), recurrent(**params, step=steps)
    cut = by_sequence([25, 25, 7, 3])
    assert close(parts.validate(cut)["val_loss"], whole.validate(by_sequence([60]))["val_loss"])
    assert close(parts.fit(cut)["train_loss"], whole.fit(by_sequence([60]))["train_loss"])
    torch.testing.assert_close(parts.nn_module.state_dict(), whole.nn_module.state_dict())


@pytest.mark.usefixtures("_recurrent")
def test_a_class_may_declare_the_dimension_and_a_method_may_count() -> None:
    class Declared(Model):
        batch_dim = (1, 0)

    class Counted(Model):
        def batch_size(self, batch: Any) -> int:
            return int(batch[0].shape[1])

    params = {**recurrent(loss="smooth").params, **NO_STEP}
    for cls in (Declared, Counted):
        torch.manual_seed(0)
        model = cls({**params, "step": ("accumulate", {"steps": 2})})
        expected = model.validate(by_sequence([60]))["val_loss"]
        assert close(model.fit(by_sequence([50, 7, 3]))["train_loss"], expected)


@pytest.mark.usefixtures("_recurrent")
@pytest.mark.parametrize(
    "call", [lambda model, data: model.fit(data), lambda model, data: model.validate(data)]
)
def test_undeclared_it_is_an_error_that_says_how_to_declare_it(call: Callable[[Model, Any], object]) -> None:
    argus_core.register("loss", "rooted", RootedLoss)  # no divisor makes it add up
    with pytest.raises(argus_core.ParamsError, match=r"6 and 7 samples .* declare .* batch_dim = 1"):
        call(recurrent(loss="rooted"), by_sequence([7, 53]))


@pytest.mark.usefixtures("_recurrent")
@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "smooth"])
def test_where_the_loss_divides_by_the_targets_nothing_needs_to_be_declared(loss: str) -> None:
    model = recurrent(**NO_STEP, loss=loss, step=("accumulate", {"steps": 2}))
    expected = model.validate(by_sequence([60]))["val_loss"]
    assert close(model.fit(by_sequence([50, 7, 3]))["train_loss"], expected)


class Tagger(nn.Module):
    """Predicts for each step of each sequence, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.out = nn.GRU(4, 5), nn.Linear(5, 1)

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.out(self.cells(input)[0])
        return logits.squeeze(2)


@pytest.mark.usefixtures("_recurrent")
@pytest.mark.parametrize("step", [("accumulate", {"steps": 3}), ("microbatch", {"size": 3})], ids=str)
@pytest.mark.parametrize("sizes", [[6, 6, 6], [7, 5, 6]])
@pytest.mark.parametrize(("network", "dim"), [("tagger", 1), ("tagger", [1, 1]), ("recurrent", [1, 0])])
def test_what_a_callback_reads_whole_is_joined_along_the_samples(
    network: str, dim: Any, sizes: list[int], step: Any
) -> None:
    argus_core.register("nn_module", "tagger", Tagger)
    loss = "MSELoss" if network == "tagger" else "CrossEntropyLoss"
    model = make_model(nn_module=network, loss=loss, batch_dim=dim, step=step, **NO_STEP)
    input = SEQUENCES[:, :18]
    target = torch.randn(6, 18, generator=GENERATOR) if network == "tagger" else CLASSES[:18]
    targets = target.split(sizes, dim=1 if network == "tagger" else 0)
    data = [*zip(input.split(sizes, dim=1), targets, strict=True)]
    seen: list[tuple[Tensor, Tensor]] = []

    @argus_core.on_iteration_complete
    def note(state: Any) -> None:
        seen.append((state.step_output["prediction"], state.step_output["target"]))

    model.fit(data if step[0] == "accumulate" else [(input, target)], callbacks=[note])
    torch.testing.assert_close(seen, [(model.nn_module(input).detach(), target)])


NESTED = {"in": {"x": 1, "scale": None}, "out": {"tags": 1, "class": 0}, "labels": "entries"}


class Nested(Model):
    """Tags each step of each sequence, time first, and classifies each sequence."""

    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        tags = self.nn_module(batch["in"]["x"] * batch["in"]["scale"])
        prediction = {"tags": tags, "class": tags.T.mean(1, keepdim=True), "time": tags.mean(1)}
        loss = functional.mse_loss(tags, batch["out"]["tags"])
        return prediction, TARGETS[self.params["target"]](batch), loss


TARGETS: dict[str, Callable[[Any], Any]] = {
    "entry": lambda batch: batch["out"],
    "entries": lambda batch: {"tags": batch["out"]["tags"], "labels": batch["labels"], **batch["in"]},
    "pair": lambda batch: (batch["out"]["tags"], batch["out"]["class"]),
    "one": lambda batch: batch["out"]["tags"],
    "made": lambda batch: batch["out"]["tags"].double(),
    "nothing": lambda batch: None,
}


def nested_batch(input: Tensor) -> dict[str, Any]:
    return {
        "in": {"x": input, "scale": torch.ones(4)},
        "out": {"tags": input.sum(2), "class": input[0, :, 0]},
        "labels": input[0, :, 0].tolist(),
    }


@pytest.mark.usefixtures("_recurrent")
@pytest.mark.parametrize("step", [("accumulate", {"steps": 3}), ("microbatch", {"size": 7})], ids=str)
@pytest.mark.parametrize("sizes", [[6, 6, 6], [7, 5, 6]])
@pytest.mark.parametrize("target", TARGETS)
def test_a_window_of_nested_parts_is_joined_along_the_dimension_of_each(
    target: str, sizes: list[int], step: Any
) -> None:
    argus_core.register("nn_module", "tagger", Tagger)
    params = {**make_model(**NO_STEP, step=step, batch_dim=NESTED).params, "nn_module": "tagger"}
    model = Nested({**params, "target": target})
    whole = nested_batch(SEQUENCES[:, :18])
    parts = [nested_batch(part) for part in SEQUENCES[:, :18].split(sizes, dim=1)]
    seen: list[Any] = []

    @argus_core.on_iteration_complete
    def note(state: Any) -> None:
        seen.extend([state.step_output["prediction"], state.step_output["target"]])

    model.fit(parts if step[0] == "accumulate" else [whole], callbacks=[note])
    with torch.no_grad():
        prediction, expected, _ = model.forward_loss(whole)
    del prediction["time"], seen[0]["time"]  # which has no samples
    if target == "entries" and step[0] == "accumulate":
        del expected["scale"], seen[1]["scale"]  # which each batch has its own of
    torch.testing.assert_close(seen, [prediction, expected])


class Graph:
    """A batch as libraries of graphs make it: no container, and it knows how to move."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def to(self, *args: Any, **kwargs: Any) -> Graph:
        return Graph(self.x.to(*args, **kwargs), self.y.to(*args, **kwargs))


class Graphs(Model):
    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        prediction = self.nn_module(batch.x)
        return prediction, batch.y, functional.cross_entropy(prediction, batch.y)


def test_a_batch_that_tells_nothing_counts_what_came_of_it() -> None:
    model = Graphs({**make_model().params, **NO_STEP})
    expected = model.validate([Graph(INPUT, CLASSES)])["val_loss"]
    data = [Graph(*each) for each in cut(INPUT, CLASSES, size=7)]
    assert close(model.fit(data, data)["train_loss"], expected)
    assert close(model.validate(data)["val_loss"], expected)


def test_a_window_of_batches_that_tell_nothing_needs_a_batch_size() -> None:
    params = {**make_model().params, **NO_STEP, "step": ("accumulate", {"steps": 2})}
    data = [Graph(*each) for each in cut(INPUT, CLASSES, size=7)]
    with pytest.raises(argus_core.ParamsError, match=r"a batch is a Graph, which .* override batch_size"):
        Graphs(params).fit(data)

    class Sized(Graphs):
        def batch_size(self, batch: Any) -> int:
            return len(batch.y)

    model = Sized(params)
    expected = model.validate([Graph(INPUT, CLASSES)])["val_loss"]
    assert close(model.fit(data)["train_loss"], expected)


class Detection(Model):
    """The usual detection batch: a tuple of images and a tuple of dicts."""

    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        images, targets = batch
        prediction = torch.stack([self.nn_module(image.mean(dim=(0, 1))) for image in images])
        target = torch.stack([each["count"] for each in targets])
        return prediction, target, (prediction.sum(1) - target).square().mean()


@pytest.mark.parametrize("steps", [("accumulate", {"steps": 3}), ("microbatch", {"size": 3})], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_lists_of_images_count_and_are_cut_by_image(steps: Any, channels: int) -> None:
    samples = [
        (
            torch.randn(channels, 6, 4),
            {"count": torch.tensor(float(index)), "boxes": torch.rand(index % 4, 4)},
        )
        for index in range(10)
    ]
    whole = [tuple(zip(*samples, strict=True))]
    parts = [tuple(zip(*samples[start:stop], strict=True)) for start, stop in ((0, 6), (6, 8), (8, 10))]
    data = parts if steps[0] == "accumulate" else whole
    params = {**make_model().params, "loss": None, "optimizer": ("SGD", {"lr": 0.01})}
    torch.manual_seed(0)
    one = Detection(params)
    torch.manual_seed(0)
    two = Detection({**params, "step": steps})
    assert close(two.validate(parts)["val_loss"], one.validate(whole)["val_loss"])
    assert close(two.fit(data)["train_loss"], one.fit(whole)["train_loss"])
    torch.testing.assert_close(two.nn_module.state_dict(), one.nn_module.state_dict())


# Updates that were not made.


def with_nan(rows: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    data = cut(INPUT, CLASSES, size=6)
    return [
        (input * math.nan if index in rows else input, target) for index, (input, target) in enumerate(data)
    ]


@pytest.mark.parametrize(
    "steps", [[], [("accumulate", {"steps": 2})], [("microbatch", {"size": 4})]], ids=str
)
def test_skipped_updates_are_left_out_of_losses_and_metrics_and_counted_apart(steps: list[Any]) -> None:
    guarded = [("finite_guard", {"policy": "skip"}), *steps]
    skipped = (2, 3) if ("accumulate", {"steps": 2}) in steps else (2,)
    model, same = make_model(step=guarded, **NO_STEP), make_model(step=steps, **NO_STEP)
    records: list[int] = []

    @on_epoch_complete
    def note(state: Any) -> None:
        records.append(state.updates_skipped)

    def squared() -> Any:
        return _Squares()

    found = model.fit(with_nan([2]), metrics=["accuracy", squared()], metrics_on_train=True, callbacks=[note])
    made = [batch for index, batch in enumerate(with_nan([])) if index not in skipped]
    expected = same.fit(made, metrics=["accuracy", squared()], metrics_on_train=True)
    assert found == pytest.approx(expected, rel=1e-6)
    assert records == [1]


class _Squares(MeanMetric):
    name = "squares"

    def update(self, step_output: Any) -> None:
        prediction = step_output["prediction"]
        self.total = self.total + prediction.square().sum().item()
        self.count = self.count + prediction.numel()


def test_an_update_that_the_loss_scaler_skips_is_left_out() -> None:
    data = cut(INPUT, CLASSES, size=6)
    data[0] = (data[0][0] * 1e4, data[0][1])  # overflows in the gradients of float16
    steps = [("amp", {"dtype": "float16", "init_scale": 2.0**14})]
    model = make_model(step=steps, **NO_STEP)
    losses: list[tuple[bool, float]] = []

    @argus_core.on_iteration_complete
    def note(state: Any) -> None:
        losses.append((state.step_output.stepped, state.step_output["loss"]))

    found = model.fit(data, callbacks=[note])
    made = [loss for stepped, loss in losses if stepped]
    assert len(made) < len(losses)
    assert found["train_loss"] == pytest.approx(sum(made) / len(made))


def test_an_epoch_of_skipped_updates_alone_is_nan_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model(step=("finite_guard", {"policy": "skip"}))
    with caplog.at_level(logging.WARNING, logger="argus_core.runs.run"):
        found = model.fit(with_nan(range(10)), metrics=["accuracy"], metrics_on_train=True)
    assert set(found) == {"train_loss", "train_accuracy"}
    assert all(map(math.isnan, found.values()))
    assert "epoch 1: all 10 updates were skipped" in caplog.text


def test_a_step_output_of_ones_own_may_say_what_its_loss_counts() -> None:
    outputs = [
        StepOutput(make_model(), (), torch.tensor(loss), count, True) for loss, count in ((1.0, 3), (5.0, 1))
    ]
    metric = Loss()
    for output in outputs:
        metric.update(output)
    assert metric.compute() == 2.0


@pytest.mark.parametrize("name", ["batch_size", "loss_weight", "loss_reduction"])
@pytest.mark.parametrize("kept_by", ["class", "instance"])
def test_a_value_of_its_own_under_the_name_of_a_method_changes_nothing(name: str, kept_by: str) -> None:
    class Own(Model):
        def __init__(self, params: Any) -> None:
            super().__init__(params)
            if kept_by == "instance":
                setattr(self, name, 32)

    class Largest(nn.Module):
        def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
            return (prediction - target).square().amax(1).mean()

    if kept_by == "class":
        setattr(Own, name, 32)
    argus_core.register("loss", "largest", Largest)
    data = cut(INPUT, VALUES, size=7)
    for step in (None, ("microbatch", {"size": 3})):
        params = {"nn_module": "net", "loss": "largest", "device": "cpu", "step": step or [], **NO_STEP}
        torch.manual_seed(0)
        usual = Model(params).fit(data, data)
        torch.manual_seed(0)
        assert Own(params).fit(data, data) == usual


class EveryBatchAlike(Model):
    """Weights every batch alike, whatever its size, in windows and in epochs."""

    def build_weights(self, of_step: Any) -> Weights:
        return Weights(self, Model, lambda batch: 1)


@pytest.mark.parametrize("steps", [None, ("accumulate", {"steps": 2})])
def test_a_model_may_replace_the_weights_of_its_batches(steps: Any) -> None:
    data = [(INPUT[:4], CLASSES[:4]), (INPUT[4:9], CLASSES[4:9])]
    model = EveryBatchAlike({**make_model().params, **NO_STEP, "step": steps})
    mean = sum(float(model.val_step(batch)["loss"]) for batch in data) / 2
    found = model.fit(data, data)
    assert found["train_loss"] == pytest.approx(mean)
    assert found["val_loss"] == pytest.approx(mean)

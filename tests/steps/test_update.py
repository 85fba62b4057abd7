"""One update: the order of its slots, what it returns and what it refuses."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import hand_written
import pytest
import torch
from networks import batches
from strategies import CLIP, CUT, PARAMS, Record, build, given, same_weights, weights
from torch import Tensor, nn

import argus_core
from argus_core import ArgusError, BuildError, Metric, Model, ParamsError, StepOutput, hookimpl, register
from argus_core.steps.output import Window

pytestmark = pytest.mark.usefixtures("strategies_registry")

SIZES = (7, 3, 8, 1, 5)


# The order of an update.


class Watcher:
    """Follows updates and changes nothing, which is enough for the composed form of an update."""

    @hookimpl
    def after_update(self) -> None:
        return None


def test_the_plain_form_of_an_update_equals_the_composed_one_to_the_bit() -> None:
    plain, composed = build(), build(given(Watcher()))
    for batch in batches(SIZES):
        outputs = plain.train_step(batch), composed.train_step(batch)
        assert outputs[0]["loss"] == outputs[1]["loss"]
        assert outputs[0].samples == outputs[1].samples
        assert torch.equal(outputs[0]["prediction"], outputs[1]["prediction"])
    assert same_weights(plain, composed)
    assert plain._updater.slots.is_plain
    assert not composed._updater.slots.is_plain


def test_an_update_goes_through_its_slots_in_the_documented_order() -> None:
    record = Record()
    model = build(given(record), ("accumulate", {"steps": 2}))
    model.train_step(Window(batches((2, 2))))
    part = ["forward", "loss", "scale", "backward", "synced"]
    assert record.events == [
        ("set_up", "cpu"),
        *["prepare", "prepare"],
        *[("sync", False), *part],
        *[("sync", True), *part],
        *["unscale", "transform", "allow", "apply", ("after", True)],
    ]


def test_a_window_may_be_split_by_a_generator() -> None:
    class Halves:
        @hookimpl
        def split_window(self, window: Any) -> Iterator[Any]:
            return (half for batch in window for half in argus_core.deep_chunk(batch, 2))

    halved, whole, batch = build(given(Halves())), build(), batches((6,))[0]
    assert halved.train_step(batch)["loss"] == pytest.approx(whole.train_step(batch)["loss"])
    assert same_weights(halved, whole, 1e-6)


def test_a_window_split_into_nothing_is_refused() -> None:
    class Nothing:
        @hookimpl
        def split_window(self, window: Any) -> list[Any]:
            return []

    with pytest.raises(BuildError, match="split_window returned no micro-batches; return at least one"):
        build(given(Nothing())).train_step(batches((3,))[0])


@pytest.mark.parametrize(
    ("steps", "sizes", "micro_batches"),
    [([], (6,), 1), (CUT[:1], (6, 2), 2), (CUT[1:], (6,), 3), (CUT, (6, 2), 5), (CUT, (1,), 1)],
)
def test_gradients_meet_in_the_last_micro_batch_alone(
    steps: list[Any], sizes: tuple[int, ...], micro_batches: int
) -> None:
    record = Record()
    build(given(record), *steps).train_step(Window(batches(sizes)))
    sync = [event[1] for event in record.events if event[0] == "sync"]
    assert sync == [False] * (micro_batches - 1) + [True]


def test_set_up_comes_once_for_each_device() -> None:
    record = Record()
    model = build(given(record))
    model.fit(batches(), num_epochs=2)
    model.predict(torch.ones(1, 4))
    model.set_device("meta")
    model.window_size()
    assert [event for event in record.events if event[0] == "set_up"] == [
        ("set_up", "cpu"),
        ("set_up", "meta"),
    ]


def test_training_mode_is_set_for_network_and_loss_by_each_step_alone() -> None:
    model = build()
    model.train_step(batches()[0])
    assert model.nn_module.training
    assert model.loss.training
    model.val_step(batches()[0])
    assert not model.nn_module.training
    assert not model.loss.training
    model.train_step(batches()[0])
    assert model.nn_module.training


# What a step returns.


@pytest.mark.parametrize("steps", [CUT[:1], CUT[1:], CUT])
def test_the_output_has_the_whole_window_in_its_order(steps: list[Any]) -> None:
    model = build(*steps)
    input, target = hand_written.joined(batches(SIZES[:2]))
    with torch.no_grad():
        logits = model.nn_module(input)
        loss = model.loss(logits, target)
    output = model.train_step(Window(batches(SIZES[:2])))
    assert torch.equal(output["target"], target)
    torch.testing.assert_close(output["prediction"], logits)
    assert output["loss"] == pytest.approx(loss.item(), rel=1e-6)


def test_metrics_see_every_sample_of_an_epoch_once() -> None:
    class Samples(Metric):
        name = "samples"

        def reset(self) -> None:
            self.targets: list[int] = []

        def update(self, step_output: Mapping[str, Any]) -> None:
            assert len(step_output["prediction"]) == len(step_output["target"])
            self.targets += step_output["target"].tolist()

        def compute(self) -> float:
            return float(len(self.targets))

    metric, data = Samples(), batches(SIZES)
    build(*CUT).fit(data, metrics=[metric], metrics_on_train=True)
    assert metric.targets == hand_written.joined(data)[1].tolist()


def test_the_logged_loss_is_the_mean_over_samples() -> None:
    frozen = {"optimizer": ("SGD", {"lr": 0.0})}
    plain = build(**frozen).fit(batches(SIZES))
    assert build(*CUT, CLIP, **frozen).fit(batches(SIZES)) == pytest.approx(plain, rel=1e-6)


def test_the_output_is_a_mapping_of_three() -> None:
    model = build()
    output = model.train_step(batches((2,))[0])
    assert isinstance(output, StepOutput)
    assert list(output) == ["prediction", "target", "loss"]
    assert len(output) == 3
    assert type(output["loss"]) is float
    assert output["loss"] == output.loss_tensor.item()
    assert "'loss': " in repr(output)
    with pytest.raises(KeyError, match="accuracy"):
        output["accuracy"]


def test_nothing_of_the_output_is_on_the_graph() -> None:
    class OwnTarget(Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            prediction = self.nn_module(batch)
            target = prediction * 2
            return {"logits": (prediction,)}, target, prediction.sum()

    output = OwnTarget(PARAMS).train_step(torch.ones(2, 4))
    assert isinstance(output, StepOutput)
    tensors = [output["prediction"]["logits"][0], output["target"], output.loss_tensor]
    assert not any(tensor.requires_grad for tensor in tensors)


def test_the_transform_runs_once_outside_the_graph_on_the_whole_window() -> None:
    seen: list[tuple[int, bool, bool]] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, prediction: Tensor) -> Tensor:
            seen.append((len(prediction), prediction.requires_grad, torch.is_grad_enabled()))
            return prediction * self.scale

    argus_core.register("transform", "watch", Watch)
    model = build(*CUT, prediction_transform="watch")
    output = model.train_step(Window(batches((4, 3))))
    assert seen == []  # nobody has asked for the prediction
    assert output["prediction"] is output["prediction"]
    assert not output["prediction"].requires_grad
    assert seen == [(7, False, False)]


def test_samples_are_those_of_the_batch_whatever_the_target_is() -> None:
    class Boxes(Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            images, boxes = batch
            prediction = self.nn_module(images)
            return prediction, boxes, prediction.sum()

    model = Boxes({**PARAMS, "step": ("accumulate", {"steps": 2})})
    data = [
        (torch.ones(2, 4), [{"boxes": torch.ones(5, 4)}, {"boxes": torch.ones(1, 4)}]),
        (torch.ones(2, 4), [{"boxes": torch.ones(2, 4)}, {"boxes": torch.ones(3, 4)}]),
    ]
    output = model.train_step(Window(data))
    assert isinstance(output, StepOutput)
    assert output.samples == 4
    assert [len(sample["boxes"]) for sample in output["target"]] == [5, 1, 2, 3]
    validated = model.val_step(data[0])
    assert isinstance(validated, StepOutput)
    assert validated.samples == 2


def test_the_batch_is_released_after_the_update() -> None:
    inputs: list[weakref.ref[Tensor]] = []

    class Watch(Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
            inputs.append(weakref.ref(batch[0]))
            return super().forward_loss(batch)

    model = Watch(PARAMS)
    output = model.train_step((torch.ones(2, 4), torch.tensor([0, 1])))
    assert inputs[0]() is None
    assert len(output["prediction"]) == 2


# Losses and batches that do not fit.


def test_a_loss_that_is_no_tensor_is_refused() -> None:
    class FloatLoss(Model):
        def forward_loss(self, batch: Any) -> tuple[Any, Any, Any]:
            prediction, target, loss = super().forward_loss(batch)
            return prediction, target, loss.item()

    with pytest.raises(ParamsError, match="the loss is a float; return a 0-d tensor from forward_loss"):
        FloatLoss(PARAMS).train_step(batches()[0])


@pytest.mark.parametrize("steps", [[], CUT])
def test_a_loss_of_each_sample_is_refused(steps: list[Any]) -> None:
    model = build(*steps, loss=("CrossEntropyLoss", {"reduction": "none"}))
    for step in (model.train_step, model.val_step):
        with pytest.raises(
            ParamsError, match=r"the loss has shape \(\d,\), and only one number can be minimised"
        ):
            step(batches()[0])


@pytest.mark.parametrize("is_composed", [False, True])
@pytest.mark.parametrize("batch", [torch.ones(2, 4), {"x": 1, "y": 2}, "xy", (1, 2, 3)], ids=str)
def test_what_merely_unpacks_into_two_is_no_pair(batch: Any, is_composed: bool) -> None:
    model = build(given(Watcher())) if is_composed else build()
    with pytest.raises(
        BuildError, match=r"a batch is an? .+, not a pair \(input, target\); give a loader of pairs"
    ):
        model.train_step(batch)


@pytest.mark.parametrize("is_composed", [False, True])
def test_a_forward_loss_put_on_a_model_that_has_been_trained_counts(is_composed: bool) -> None:
    model = build(given(Watcher())) if is_composed else build()
    batch = batches()[0]
    model.train_step(batch)
    usual = model.forward_loss

    def half(batch: Any) -> tuple[Any, Any, torch.Tensor]:
        prediction, target, loss = usual(batch)
        return prediction, target, loss / 2

    whole = model.val_step(batch)["loss"]
    model.forward_loss = half
    assert model.train_step(batch)["loss"] == pytest.approx(whole / 2)


def test_a_batch_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ArgusError, match="tensors have 4 and 3 samples"):
        build(("microbatch", {"size": 2})).train_step((torch.ones(4, 4), torch.zeros(3, dtype=torch.long)))


# Copies.


@pytest.mark.parametrize("steps", [[], [*CUT, CLIP], [("amp", {"dtype": "float16"}), CLIP], ["ema", "sam"]])
def test_a_copy_made_in_mid_training_goes_on_by_itself(steps: Sequence[Any]) -> None:
    model, data = build(*steps), batches(SIZES)
    model.fit(data[:2])
    twin = copy.deepcopy(model)
    at_copy = weights(model)
    model.fit(data[2:])
    assert torch.equal(weights(twin), at_copy)
    twin.fit(data[2:])
    assert same_weights(model, twin)
    assert torch.equal(model.predict(data[0][0]), twin.predict(data[0][0]))


@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "MSELoss"])
@pytest.mark.parametrize("empty", [0, 1, 2])
def test_an_empty_batch_counts_nothing_in_its_window(empty: int, loss: str) -> None:
    sizes = [4, 3]
    sizes.insert(empty, 0)
    model, same = (build(("accumulate", {"steps": steps}), loss=loss) for steps in (3, 2))
    window = batches(tuple(sizes))
    if loss == "MSELoss":
        window = [(input, input[:, :3]) for input, _ in window]
    output = model.train_step(Window(window))
    full = [batch for batch in window if len(batch[1])]
    assert output["loss"] == same.train_step(Window(full))["loss"]
    assert output["prediction"].shape[0] == 7
    assert same_weights(model, same)


def test_an_empty_batch_does_not_go_through_the_network() -> None:
    model = build(("accumulate", {"steps": 2}))
    seen: list[int] = []
    model.nn_module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    model.train_step(Window(batches((4, 0))))
    assert seen == [4]


def test_a_window_of_empty_batches_leaves_the_weights_alone() -> None:
    model, untouched = build(("accumulate", {"steps": 2})), build()
    model.train_step(Window(batches((0, 0))))
    assert same_weights(model, untouched)


def test_a_vote_that_says_nothing_is_an_error() -> None:
    class Forgetful:
        @hookimpl
        def allow_update(self) -> None:
            """Return nothing."""

    register("step", "forgetful", Forgetful)
    with pytest.raises(BuildError, match="a step strategy's allow_update returned None; return whether to"):
        Model(PARAMS | {"step": "forgetful"}).train_step(batches((2,))[0])

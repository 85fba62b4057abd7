"""Metrics: their values against plain formulas, however the data are cut, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from networks import Net, batches
from torch import nn

import argus_core
from argus_core import ArgusError, Metric, Model, ParamsError
from argus_core.metrics import MAE, MSE, Accuracy, Loss, TopKAccuracy
from argus_core.registry.registry import names, resolve
from argus_core.steps.output import StepOutput

SIZES = [(32,), (16, 16), (1, 30, 1), (5, 7, 9, 11), (1,) * 32]


class _NoTransform:
    def transform_prediction(self, prediction: Any) -> Any:
        return prediction


def output(prediction: Any, target: Any, loss: float = 0.0, model: Any = _NoTransform()) -> StepOutput:  # noqa: B008
    samples = len(target) if target.ndim else 1
    return StepOutput(model, [(prediction, target)], torch.tensor(loss), samples, stepped=True)


def computed(metric: Metric, *outputs: Mapping[str, Any]) -> float:
    metric.reset()
    for step_output in outputs:
        metric.update(step_output)
    return metric.compute()


def cut(prediction: torch.Tensor, target: torch.Tensor, sizes: tuple[int, ...]) -> list[StepOutput]:
    return [output(*parts) for parts in zip(prediction.split(sizes), target.split(sizes), strict=True)]


CLASSES = torch.randn(32, 10, generator=torch.Generator().manual_seed(0))
CLASS_TARGETS = torch.randint(10, (32,), generator=torch.Generator().manual_seed(1))
VALUES = torch.randn(32, 3, generator=torch.Generator().manual_seed(2))
VALUE_TARGETS = torch.randn(32, 3, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    ("metric", "prediction", "target", "expected"),
    [
        (Accuracy(), CLASSES, CLASS_TARGETS, (CLASSES.argmax(1) == CLASS_TARGETS).double().mean()),
        (
            TopKAccuracy(3),
            CLASSES,
            CLASS_TARGETS,
            (CLASSES.argsort(1, descending=True)[:, :3] == CLASS_TARGETS[:, None]).any(1).double().mean(),
        ),
        (MAE(), VALUES, VALUE_TARGETS, (VALUES - VALUE_TARGETS).abs().double().mean()),
        (MSE(), VALUES, VALUE_TARGETS, (VALUES - VALUE_TARGETS).square().double().mean()),
    ],
    ids=lambda value: value.name if isinstance(value, Metric) else "",
)
def test_value_is_the_formula_over_all_data_however_they_are_cut(
    metric: Metric,
    prediction: torch.Tensor,
    target: torch.Tensor,
    expected: torch.Tensor,
    sizes: tuple[int, ...],
) -> None:
    value = computed(metric, *cut(prediction, target, sizes))
    assert value == pytest.approx(expected.item(), rel=1e-12)
    assert type(value) is float


@pytest.mark.parametrize("metric", [Accuracy(), TopKAccuracy(2)])
def test_counts_are_exactly_the_same_however_the_data_are_cut(metric: Metric) -> None:
    values = {computed(metric, *cut(CLASSES, CLASS_TARGETS, sizes)) for sizes in SIZES}
    assert len(values) == 1


def test_loss_is_weighted_by_samples() -> None:
    value = computed(
        Loss(), output(torch.zeros(3, 2), torch.zeros(3), 1.0), output(None, torch.zeros(1), 5.0)
    )
    assert value == 2.0


def test_loss_equals_the_loss_of_all_data_in_one_batch() -> None:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        model = Model({"nn_module": "net", "loss": "CrossEntropyLoss", "device": "cpu"})
    loader = batches((8, 8, 5))
    whole = tuple(torch.cat(parts) for parts in zip(*loader, strict=True))
    assert model.validate(loader)["val_loss"] == pytest.approx(model.validate([whole])["val_loss"], rel=1e-6)


@pytest.mark.parametrize("loss", [3.0, torch.tensor(3.0), torch.tensor(3.0, requires_grad=True)])
def test_loss_takes_the_plain_dict_of_a_step_of_ones_own(loss: Any) -> None:
    metric = Loss()
    step_output = {"prediction": torch.zeros(4, 2), "target": torch.zeros(4), "loss": loss}
    assert computed(metric, step_output, step_output) == 3.0
    assert metric.count == 8
    assert not getattr(metric.total, "requires_grad", False)


def test_loss_without_a_target_counts_the_predictions() -> None:
    metric = Loss()
    metric.update({"prediction": torch.zeros(4, 2), "loss": 1.0})
    assert metric.count == 4


def test_loss_of_no_samples_counts_nothing() -> None:
    empty = output(torch.zeros(0, 2), torch.zeros(0), float("nan"))
    assert computed(Loss(), empty, output(torch.zeros(2, 2), torch.zeros(2), 1.5)) == 1.5


def test_loss_that_is_not_finite_shows() -> None:
    assert math.isnan(computed(Loss(), output(None, torch.zeros(2), float("nan"))))


def test_loss_on_a_device_is_summed_there_in_float64() -> None:
    metric = Loss()
    with torch.device("meta"):  # has no values: reading one would raise
        for _ in range(2):
            metric.update(output(None, torch.zeros(3)))
    assert isinstance(metric.total, torch.Tensor)
    assert metric.total.dtype == torch.float64
    assert metric.count == 6


@pytest.mark.parametrize(
    ("metric", "prediction", "target"),
    [
        (Accuracy(), torch.zeros(4, 3), torch.zeros(4)),
        (Accuracy(), torch.zeros(4), torch.zeros(4)),
        (TopKAccuracy(2), torch.zeros(4, 3), torch.zeros(4)),
        (MAE(), torch.zeros(4, 3), torch.zeros(4, 3)),
        (MSE(), torch.zeros(4, 3), torch.zeros(4, 3)),
    ],
)
def test_update_never_reads_a_value_from_a_device(
    metric: Accuracy, prediction: torch.Tensor, target: torch.Tensor
) -> None:
    for _ in range(2):
        metric.update({"prediction": prediction.to("meta"), "target": target.to("meta")})
    assert isinstance(metric.total, torch.Tensor)
    assert metric.total.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.parametrize("metric", [Loss(), Accuracy(), TopKAccuracy(), MAE(), MSE()])
def test_update_never_waits_for_a_gpu(metric: Loss) -> None:
    same_shape = isinstance(metric, MAE | MSE)
    prediction, target = (VALUES, VALUE_TARGETS) if same_shape else (CLASSES, CLASS_TARGETS)
    expected = computed(metric, output(prediction, target, 0.5))
    step_output = output(prediction.cuda(), target.cuda())
    step_output.loss_tensor = torch.tensor(0.5).cuda()
    metric.reset()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            metric.update(step_output)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metric.compute() == pytest.approx(expected, rel=1e-6)
    assert isinstance(metric.total, torch.Tensor)
    assert metric.total.is_cuda


@pytest.mark.parametrize("prediction_shape", [(4,), (4, 1)])
@pytest.mark.parametrize("target_shape", [(4,), (4, 1)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_accuracy_of_binary_probabilities(
    prediction_shape: tuple[int, ...], target_shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    prediction = torch.tensor([0.1, 0.5, 0.51, 0.9]).reshape(prediction_shape)
    target = torch.tensor([0, 1, 1, 0]).to(dtype).reshape(target_shape)
    assert computed(Accuracy(), output(prediction, target)) == 0.5


@pytest.mark.parametrize("other", [0.37, -1.0, 2.0, float("nan")])
def test_accuracy_refuses_the_targets_of_a_regression(other: float) -> None:
    step_output = output(torch.tensor([[0.2], [0.7], [0.9]]), torch.tensor([[0.0], [1.0], [other]]))
    with pytest.raises(ParamsError, match=f"got the target {other:g}; .* choose 'mae' or 'mse'"):
        computed(Accuracy(), step_output)


def test_accuracy_of_binary_targets_ignores_the_ignored_one() -> None:
    assert (
        computed(Accuracy(), output(torch.tensor([0.2, 0.7, 0.9]), torch.tensor([0.0, 1.0, -100.0]))) == 1.0
    )


def test_accuracy_threshold_zero_takes_binary_logits() -> None:
    assert (
        computed(Accuracy(threshold=0), output(torch.tensor([-1.0, 0.3, 2.0]), torch.tensor([0, 1, 1])))
        == 1.0
    )


def test_accuracy_of_pixels() -> None:
    prediction = torch.randn(2, 5, 4, 3)
    assert computed(Accuracy(), output(prediction, prediction.argmax(1))) == 1.0


@pytest.mark.parametrize("target_shape", [(2, 1, 4, 3), (2, 4, 3)])
def test_accuracy_of_binary_pixels(target_shape: tuple[int, ...]) -> None:
    prediction = torch.rand(2, 1, 4, 3)
    target = (prediction > 0.5).long().reshape(target_shape)
    assert computed(Accuracy(), output(prediction, target)) == 1.0


@pytest.mark.parametrize(
    ("prediction", "target"),
    [((4, 3), (4, 1)), ((4, 3), (4, 3)), ((4,), (3,)), ((4, 3), (1,)), ((4, 1), (4, 2)), ((), (4,))],
)
def test_accuracy_refuses_shapes_that_would_broadcast(
    prediction: tuple[int, ...], target: tuple[int, ...]
) -> None:
    with pytest.raises(
        ParamsError, match=r"metric 'accuracy' got predictions of shape .* it takes \(batch, classes"
    ):
        Accuracy().update(output(torch.zeros(prediction), torch.zeros(target)))


@pytest.mark.parametrize("target", [(4, 1), (4, 3)])
def test_top_k_accuracy_refuses_other_shapes(target: tuple[int, ...]) -> None:
    with pytest.raises(ParamsError, match=r"metric 'top_k_accuracy' got predictions of shape \(4, 3\)"):
        TopKAccuracy(2).update(output(torch.zeros(4, 3), torch.zeros(target)))


def test_top_k_accuracy_refuses_more_than_there_are_classes() -> None:
    with pytest.raises(ParamsError, match="has k=5, and there are 3 classes; choose a smaller k"):
        TopKAccuracy().update(output(torch.zeros(4, 3), torch.zeros(4)))


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", True])
def test_top_k_accuracy_refuses_a_k_that_is_no_count(k: Any) -> None:
    with pytest.raises(ParamsError, match="top_k_accuracy takes k >= 1, not"):
        TopKAccuracy(k)


@pytest.mark.parametrize("metric", [MAE(), MSE()])
def test_errors_refuse_shapes_that_would_broadcast(metric: Metric) -> None:
    with pytest.raises(
        ParamsError,
        match=rf"metric '{metric.name}' got predictions of shape \(4, 1\) and targets of shape \(4,\); "
        "it takes equal shapes",
    ):
        metric.update(output(torch.zeros(4, 1), torch.zeros(4)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_squares_do_not_overflow_in_half_precision(dtype: torch.dtype) -> None:
    assert computed(MSE(), output(torch.full((4,), 1024.0, dtype=dtype), torch.zeros(4))) == 1024.0**2


def test_errors_take_integer_and_boolean_targets() -> None:
    assert computed(MAE(), output(torch.tensor([0.25, 0.5]), torch.tensor([0, 1]))) == 0.375
    assert computed(MSE(), output(torch.tensor([0.5, 0.5]), torch.tensor([True, False]))) == 0.25


def test_errors_keep_no_graph() -> None:
    metric = MSE()
    metric.update({"prediction": nn.Parameter(torch.ones(2)), "target": torch.zeros(2)})
    assert not getattr(metric.total, "requires_grad", False)


@pytest.mark.parametrize("metric", [Loss(), Accuracy(), TopKAccuracy(), MAE(), MSE()])
def test_computing_before_any_update_is_an_error(metric: Metric) -> None:
    with pytest.raises(ArgusError, match=f"metric '{metric.name}' has seen no samples; update it"):
        metric.compute()


def test_reset_forgets_updates() -> None:
    metric = Accuracy()
    metric.update(output(torch.tensor([1.0, 1.0]), torch.tensor([0, 0])))
    assert computed(metric, output(torch.tensor([1.0]), torch.tensor([1]))) == 1.0


def test_two_instances_share_no_state() -> None:
    first, second = Loss(), Loss()
    first.update(output(None, torch.zeros(2), 1.0))
    with pytest.raises(ArgusError, match="no samples"):
        second.compute()


@pytest.mark.parametrize("metric", [Loss(), Accuracy()])
def test_step_output_that_is_no_mapping_is_refused(metric: Metric) -> None:
    with pytest.raises(
        ParamsError, match="the step output is a NoneType; return a mapping with prediction, target"
    ):
        metric.update(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "key"), [(Loss(), "loss"), (Accuracy(), "prediction"), (MSE(), "prediction")]
)
def test_step_output_without_a_needed_part_is_refused(metric: Metric, key: str) -> None:
    with pytest.raises(
        ParamsError, match=f"metric '{metric.name}': the step output has no '{key}'; return a mapping"
    ):
        metric.update({"target": torch.zeros(2)})


def test_prediction_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(
        ParamsError, match="takes tensors, and the step output has a dict for prediction and a Tensor"
    ):
        Accuracy().update({"prediction": {"boxes": torch.zeros(2)}, "target": torch.zeros(2)})


def test_error_inside_the_prediction_transform_is_not_mistaken_for_a_missing_prediction() -> None:
    class Failing:
        def transform_prediction(self, prediction: Any) -> Any:
            raise KeyError("boxes")

    with pytest.raises(KeyError, match="boxes"):
        Accuracy().update(output(torch.zeros(2), torch.zeros(2), model=Failing()))


def test_metric_of_ones_own_resets_its_declared_states() -> None:
    class LargestTarget(Metric):
        name = "largest_target"
        states = {"largest": "max", "smallest": "min", "steps": "sum"}
        largest: float
        smallest: float
        steps: float

        def update(self, step_output: Mapping[str, Any]) -> None:
            self.largest = max(self.largest, step_output["target"].max().item())
            self.smallest = min(self.smallest, step_output["target"].min().item())
            self.steps += 1

        def compute(self) -> float:
            return self.largest - self.smallest + self.steps

    assert (
        computed(LargestTarget(), output(None, torch.tensor([1, 4])), output(None, torch.tensor([3]))) == 5.0
    )


def test_metrics_of_one_kind_can_have_names_of_their_own() -> None:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        model = Model({"nn_module": "net", "loss": "CrossEntropyLoss", "device": "cpu"})
        top_2 = ("top_k_accuracy", {"k": 2, "name": "top_2"})
        metrics = ["accuracy", ("top_k_accuracy", {"k": 1}), top_2]
        values = model.validate(batches(), metrics)
    assert values["val_top_k_accuracy"] == values["val_accuracy"] <= values["val_top_2"]


def test_every_registered_metric_has_its_name_and_says_which_way_is_better() -> None:
    with argus_core.isolated_registry(builtins=True):
        for name in names("metric"):
            metric = resolve("metric", name).load()()
            assert metric.name == name
            assert metric.better in ("min", "max")
            assert set(metric.states.values()) <= {"sum", "max", "min"}


IGNORED = [
    (torch.eye(4), torch.tensor([0, 1, -100, -100]), {}, 1.0),
    (torch.eye(4), torch.tensor([0, 1, -100, -100]), {"ignore_index": None}, 0.5),
    (torch.eye(4), torch.tensor([0, 0, 2, 3]), {"ignore_index": 0}, 1.0),
    (torch.eye(4), torch.tensor([0, 1, 0, 0], dtype=torch.uint8), {}, 0.5),
    (torch.eye(200), torch.full((200,), 156, dtype=torch.uint8), {}, 1 / 200),
    (torch.eye(4), torch.tensor([0, 1, 255, 255], dtype=torch.uint8), {"ignore_index": 255}, 1.0),
    (
        torch.eye(4)[:, :, None].expand(4, 4, 300),
        torch.full((4, 300), -100).index_fill(1, torch.tensor(0), 1),
        {},
        0.25,
    ),
]


@pytest.mark.parametrize(("prediction", "target", "options", "expected"), IGNORED)
def test_ignored_targets_do_not_count(
    prediction: torch.Tensor, target: torch.Tensor, options: dict[str, Any], expected: float
) -> None:
    for metric in (Accuracy(**options), TopKAccuracy(1, **options)):
        assert computed(metric, output(prediction, target)) == pytest.approx(expected)


@pytest.mark.parametrize("ignore_index", [-100, 0])
def test_ignored_binary_targets_do_not_count(ignore_index: int) -> None:
    target = torch.tensor([1.0, 1.0, ignore_index, ignore_index])
    assert (
        computed(Accuracy(ignore_index=ignore_index), output(torch.tensor([0.9, 0.1, 0.1, 0.9]), target))
        == 0.5
    )


@pytest.mark.parametrize("metric", [Accuracy(), TopKAccuracy(1)])
def test_where_all_targets_are_ignored_a_share_is_nan(metric: Metric) -> None:
    assert math.isnan(computed(metric, output(torch.eye(3), torch.full((3,), -100))))


@pytest.mark.parametrize("metric", [Accuracy, TopKAccuracy])
@pytest.mark.parametrize("ignore_index", [1.5, "0", True, [0, 1]], ids=str)
def test_an_ignored_index_is_an_integer(metric: Any, ignore_index: Any) -> None:
    with pytest.raises(ParamsError, match=f"{metric.name} takes an integer for ignore_index, or None"):
        metric(ignore_index=ignore_index)


def test_every_built_in_metric_of_classes_has_an_ignored_index() -> None:
    with argus_core.isolated_registry(builtins=True):
        metrics = [resolve("metric", name).load()() for name in names("metric")]
        of_classes = [metric for metric in metrics if metric.better == "max"]
        assert {metric.ignore_index for metric in of_classes} == {-100}


def test_a_loss_weighed_on_a_device_counts_nothing_for_ignored_targets() -> None:
    metric = Loss()
    for loss, weight in ((2.0, 3.0), (math.nan, 0.0)):
        step_output = StepOutput(_NoTransform(), (), torch.tensor(loss), torch.tensor(weight), True)
        metric._add_on_device(step_output.loss_tensor, step_output.samples, is_sum=False)
    assert metric.compute() == 2.0


@pytest.mark.parametrize("ignored", [-100, 1, None])
@pytest.mark.parametrize("size", [1, 64, 65])
@pytest.mark.parametrize("outputs", [1, 3])
def test_few_targets_and_many_are_counted_alike(ignored: int | None, size: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(size)
    prediction = torch.rand(size, outputs, generator=generator)
    target = torch.randint(max(outputs, 2), (size,), generator=generator)
    target[::5] = -100
    metric = Accuracy(ignore_index=ignored)
    for _ in range(2):
        metric.update(output(prediction, target))
    guess = prediction.argmax(1) if outputs > 1 else (prediction[:, 0] > 0.5).long()
    kept = torch.ones_like(target, dtype=torch.bool) if ignored is None else target != ignored
    assert metric.state_dict() == {
        "total": 2 * int(((guess == target) & kept).sum()),
        "count": 2 * int(kept.sum()),
        "updates": 2,
    }

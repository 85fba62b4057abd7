"""What a metric does besides its value: names, directions, checks, refusals, devices."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torchmetrics
from cases import CASES, NEEDS, multiclass
from torch import Tensor, nn

import argus_core
from argus_core import ArgusError, BuildError, ConfigError, ParamsError
from argus_core.registry.factory import build_component
from argus_core.registry.file_params import Source, taken_from
from argus_torchmetrics import classes
from argus_torchmetrics.catalogue import find
from argus_torchmetrics.metric import TorchMetric
from argus_torchmetrics.params import suited

OUTPUT = dict(zip(("prediction", "target"), multiclass(), strict=True))
F1 = ("MulticlassF1Score", {"num_classes": 4})


def build(name: str, /, **params: Any) -> TorchMetric:
    metric: TorchMetric = build_component("metric", (name, params), "metrics")
    metric.reset()
    return metric


def updated(name: str, step_output: Mapping[str, Any] = OUTPUT, /, **params: Any) -> TorchMetric:
    metric = build(name, **params)
    metric.update(step_output)
    return metric


def test_list_is_a_tensor_where_torchmetrics_takes_no_list() -> None:
    params = suited(torchmetrics.image.SpatialCorrelationCoefficient, {"high_pass_filter": [[0, 1], [1, 0]]})
    assert torch.equal(params["high_pass_filter"], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert suited(torchmetrics.ROC, {"thresholds": [0.1, 0.9]}) == {"thresholds": [0.1, 0.9]}


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("BinaryAUROC", "thresholds"),
        ("BinaryCalibrationError", "n_bins"),
        ("CHRFScore", "n_char_order"),
        ("CHRFScore", "n_word_order"),
        ("MulticlassRecall", "num_classes"),
        ("PearsonCorrCoef", "num_outputs"),
    ],
)
def test_configuration_chooses_no_work_without_end(name: str, parameter: str) -> None:
    why = f"{parameter} of metric '{name}' is 1000000000; a configuration may choose numbers up to 1,"
    with taken_from(Source("stranger.toml", is_checkpoint=False)), pytest.raises(ConfigError, match=why):
        build(name, **{parameter: 10**9})


def test_one_number_is_a_float() -> None:
    value = updated("MulticlassAccuracy", num_classes=4).compute()
    assert type(value) is float


def test_a_value_for_each_class_has_its_number() -> None:
    metric = updated("MulticlassRecall", num_classes=4, average=None)
    values = metric.compute()
    assert isinstance(values, dict)
    assert list(values) == ["0", "1", "2", "3"]
    assert list(values.values()) == metric.value.tolist()


def test_a_matrix_has_row_and_column() -> None:
    metric = updated("MulticlassConfusionMatrix", num_classes=4)
    values = metric.compute()
    assert isinstance(values, dict)
    assert values["2_1"] == metric.value[2, 1].item()
    assert len(values) == 16


@pytest.mark.parametrize(
    ("name", "params", "names"),
    [
        ("BinaryRecallAtFixedPrecision", {"min_precision": 0.5}, ["recall", "threshold"]),
        ("BinaryPrecisionAtFixedRecall", {"min_recall": 0.5}, ["precision", "threshold"]),
        ("BinarySensitivityAtSpecificity", {"min_specificity": 0.5}, ["sensitivity", "threshold"]),
        ("BinarySpecificityAtSensitivity", {"min_sensitivity": 0.5}, ["specificity", "threshold"]),
        ("BinaryFairness", {"num_groups": 2}, None),
        ("RetrievalRecallAtFixedPrecision", {"min_precision": 0.5}, ["recall", "k"]),
        ("ROUGEScore", {"rouge_keys": "rouge1"}, ["rouge1_fmeasure", "rouge1_precision", "rouge1_recall"]),
        ("SQuAD", {}, ["exact_match", "f1"]),
    ],
)
def test_the_members_of_a_tuple_or_dict_have_names(name: str, params: Any, names: list[str] | None) -> None:
    prediction, target = CASES[name].draw()
    values = updated(name, {"prediction": prediction, "target": target}, **params).compute()
    assert isinstance(values, dict)
    if names is None:
        assert all(key[:2] in ("DP", "EO") for key in values)
    else:
        assert sorted(values) == sorted(names)


@pytest.mark.parametrize("name", ["MulticlassROC", "MulticlassPrecisionRecallCurve"])
def test_a_curve_is_kept_and_not_logged(name: str) -> None:
    metric = updated(name, num_classes=4)
    assert metric.compute() == {}
    assert len(metric.value[0]) == 4


def test_more_numbers_than_a_log_takes_are_refused() -> None:
    of_forty = {"prediction": torch.eye(40), "target": torch.arange(40)}
    metric = updated("MulticlassConfusionMatrix", of_forty, num_classes=40)
    with pytest.raises(
        BuildError,
        match=r"metric 'multiclass_confusion_matrix' \(MulticlassConfusionMatrix\) computed 1,600 numbers; "
        "a log takes 1,000; choose an average",
    ):
        metric.compute()


def test_name_is_the_class_in_snake_case_or_ones_own() -> None:
    assert build(*F1[:1], **F1[1]).name == "multiclass_f1_score"
    assert build("BinaryAUROC", name="auc").name == "auc"


@pytest.mark.parametrize("name", ["", 3])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(
        ParamsError, match=f"name of metric 'BinaryAUROC' is {name!r}; give a string, such as 'f1'"
    ):
        build("BinaryAUROC", name=name)


@pytest.mark.parametrize(
    ("name", "params", "better"),
    [
        ("BinaryAUROC", {}, "max"),
        ("MeanSquaredError", {}, "min"),
        ("BinaryConfusionMatrix", {}, None),
        ("Accuracy", {"task": "binary"}, "max"),
    ],
)
def test_direction_is_torchmetrics_own(name: str, params: Any, better: str | None) -> None:
    assert build(name, **params).better == better


def test_no_updates_is_an_error() -> None:
    with pytest.raises(ArgusError, match="metric 'binary_auroc' has no samples; update it with a step"):
        build("BinaryAUROC").compute()


def test_reset_forgets_updates() -> None:
    metric = updated("MeanSquaredError", {"prediction": torch.zeros(2), "target": torch.ones(2)})
    metric.compute()
    metric.reset()
    metric.update({"prediction": torch.zeros(2), "target": torch.full((2,), 3.0)})
    assert metric.compute() == 9


def test_a_copy_shares_no_state() -> None:
    metric = updated("MulticlassAccuracy", num_classes=4)
    before = metric.compute()
    other = copy.deepcopy(metric)
    other.update({"prediction": torch.eye(4), "target": torch.tensor([1, 2, 3, 0])})
    assert metric.compute() == before != other.compute()


RIGHT = {"prediction": torch.tensor([0.2, 0.7, 0.9]), "target": torch.tensor([0, 1, 0])}
WRONG = {**RIGHT, "target": torch.tensor([0, 1, 2])}


def test_the_first_batch_is_checked() -> None:
    with pytest.raises(
        ParamsError,
        match=r"^metric 'binary_f1_score' \(BinaryF1Score\) cannot take preds float32 of shape \(3,\), "
        r"target int64 of shape \(3,\): Detected the following values in `target`: .*check its",
    ):
        updated("BinaryF1Score", WRONG)


@pytest.mark.parametrize("params", [{}, {"validate_args": None}])
def test_later_batches_are_not_checked(params: dict[str, Any]) -> None:
    metric = updated("BinaryF1Score", RIGHT, **params)
    metric.reset()
    metric.update(WRONG)
    assert metric.metric.validate_args is False


def test_all_batches_are_checked_if_so_wanted() -> None:
    metric = updated("BinaryF1Score", RIGHT, validate_args=True)
    with pytest.raises(ParamsError, match="cannot take"):
        metric.update(WRONG)


def test_no_batch_is_checked_if_so_wanted() -> None:
    updated("BinaryF1Score", WRONG, validate_args=False)


def test_shapes_that_do_not_fit_are_told() -> None:
    with pytest.raises(
        ParamsError, match=r"target float32 of shape \(3,\): Predictions and targets are expected"
    ):
        updated("MeanSquaredError", {"prediction": torch.zeros(2), "target": torch.zeros(3)})


def test_texts_that_do_not_fit_are_told() -> None:
    with pytest.raises(ParamsError, match="preds a list of 1, target a list of 2: .*check its parameters"):
        updated("SQuAD", {"prediction": ["a"], "target": [["a"], ["b"]]})


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("MulticlassF1Score", {"num_clases": 4}, "did you mean 'num_classes'"),
        (
            "MulticlassF1Score",
            {"num_classes": 1},
            "to be an integer larger than 1, but got 1; see argus show metric Mult",
        ),
        ("BinaryAUROC", {"sync_on_compute": True}, "has no parameter 'sync_on_compute'"),
        ("Accuracy", {"task": "ternary"}, "metric 'Accuracy': .*ternary"),
        (
            "PermutationInvariantTraining",
            {"metric_func": "snr"},
            "torchmetrics.functional.audio has no 'snr'",
        ),
    ],
)
def test_wrong_parameters_are_told(name: str, params: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        build(name, **params)


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_package_that_is_not_installed_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params, package = NEEDS[name]
    find(name)
    for module in [sys.modules[each] for each in list(sys.modules) if each.startswith("torchmetrics.")]:
        # As if nothing but torchmetrics were installed.
        for flag in [each for each in vars(module) if "_AVAILABLE" in each or "_TRANSFORMERS" in each]:
            monkeypatch.setattr(module, flag, False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    images = torch.rand(2, 3, 32, 32)
    with pytest.raises(
        BuildError, match=f"(?i)^metric '{name}' needs a package that is not installed: .*{package}"
    ):
        updated(name, {"prediction": images, "target": images}, **params)


class Squares(nn.Module):
    """Features of images: (batch, 3, height, width) uint8 -> (batch, 4)."""

    def forward(self, images: Tensor) -> Tensor:
        parts = images.double().flatten(2).mean(2)
        return torch.cat([parts, parts.square().sum(1, keepdim=True)], dim=1)


def test_metrics_of_two_sets_of_images_get_predictions_and_targets() -> None:
    """The module of a network that is downloaded is one's own here, so that it works without the network."""
    metric = classes.FrechetInceptionDistance(feature=Squares(), input_img_size=(3, 8, 8))
    metric.reset()
    generator = torch.Generator().manual_seed(0)
    made, real = (torch.randint(256, (30, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2))
    for part in range(0, 30, 10):
        metric.update({"prediction": made[part : part + 10] // 2, "target": real[part : part + 10]})
    plain = find("FrechetInceptionDistance")(feature=Squares(), input_img_size=(3, 8, 8))
    plain.update(made // 2, real=False)
    plain.update(real, real=True)
    assert metric.compute() == pytest.approx(plain.compute().item(), rel=1e-4)
    assert metric.better == "min"


def test_inputs_say_where_arguments_come_from() -> None:
    step_output = {
        "prediction": {"mask": torch.zeros(3), "heads": [torch.ones(2), torch.tensor([1.0, 2.0])]},
        "target": (torch.zeros(3), torch.tensor([1.0, 4.0])),
    }
    metric = updated(
        "MeanSquaredError", step_output, inputs={"preds": "prediction.heads.1", "target": "target.1"}
    )
    assert metric.compute() == 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"prds": "prediction"}, "names 'prds'; it takes preds, target; name one of those"),
        ({"preds": "output"}, r"is {'preds': 'output'}; give a path in the step output"),
        ({"preds": 3}, "is {'preds': 3}; give a path in the step output for each argument"),
        ("prediction", "is 'prediction'; give a path"),
    ],
)
def test_inputs_of_another_form_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=f"metric 'mean_squared_error' {message}"):
        build("MeanSquaredError", inputs=inputs)


@pytest.mark.parametrize(
    ("step_output", "message"),
    [
        ({"target": torch.zeros(2)}, "needs prediction of the step output, but it is a dict of target"),
        (
            {"prediction": [torch.zeros(2)]},
            r"needs prediction.boxes of the step output, but prediction is a list of 1",
        ),
        ({"prediction": {"a": 1}}, "but prediction is a dict of a; return it, or set inputs"),
        ({"prediction": torch.zeros(2)}, r"but prediction is float32 of shape \(2,\)"),
    ],
)
def test_what_is_not_in_the_step_output_is_told(step_output: Any, message: str) -> None:
    inputs = {"preds": "prediction.boxes"} if "prediction" in step_output else None
    with pytest.raises(ParamsError, match=f"metric 'mean_squared_error' .*{message}"):
        updated("MeanSquaredError", step_output, inputs=inputs)


def test_state_is_where_the_predictions_are() -> None:
    metric = build("MeanSquaredError")
    for _ in range(2):
        metric.update({key: torch.zeros(3, device="meta") for key in ("prediction", "target")})
    assert metric.metric.device.type == "meta"
    assert metric.metric.sum_squared_error.device.type == "meta"


@pytest.mark.parametrize(("on_cpu", "device"), [(False, "meta"), (True, "cpu")])
def test_state_that_is_put_in_goes_where_it_grows(on_cpu: bool, device: str) -> None:
    stored = updated("BinaryAUROC", {"prediction": torch.rand(4), "target": torch.tensor([0, 1, 1, 0])})
    metric = build("BinaryAUROC", compute_on_cpu=on_cpu)
    metric.metric.to("meta")
    metric.load_state_dict(stored.state_dict())
    assert [each.device.type for each in metric.metric.preds] == [device]
    counts = build("MeanSquaredError")
    counts.metric.to("meta")
    counts.load_state_dict(build("MeanSquaredError").state_dict())
    assert counts.metric.sum_squared_error.device.type == "meta"


def test_what_grows_may_be_kept_on_the_cpu() -> None:
    assert build("BinaryAUROC", compute_on_cpu=True).metric.compute_on_cpu


def test_torchmetrics_never_synchronises_by_itself() -> None:
    assert build("BinaryAUROC").metric._to_sync is False
    assert build("BinaryAUROC").metric.sync_on_compute is False


@pytest.mark.gpu
def test_an_update_never_waits_for_a_gpu() -> None:
    metric = build("MulticlassAccuracy", num_classes=4, average="micro")
    on_gpu = {key: value.cuda() for key, value in OUTPUT.items()}
    metric.update(on_gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metric.compute() == pytest.approx(
        updated("MulticlassAccuracy", num_classes=4, average="micro").compute()
    )


@pytest.fixture
def model() -> argus_core.Model:
    class Linear(nn.Linear):
        def __init__(self) -> None:
            super().__init__(5, 4)

    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "linear", Linear)
        params = {
            "nn_module": "linear",
            "loss": "CrossEntropyLoss",
            "optimizer": ("SGD", {"lr": 0.1}),
            "prediction_transform": ("Softmax", {"dim": 1}),
            "device": "cpu",
        }
        return argus_core.Model(params)


def loader(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(8, 5, generator=generator), torch.randint(4, (8,), generator=generator))
        for _ in range(count)
    ]


def test_fit_computes_and_monitors_them(model: argus_core.Model) -> None:
    per_class = ("MulticlassRecall", {"num_classes": 4, "average": "none", "name": "recall"})
    stopping = argus_core.resolve("callback", "early_stopping").load()("val_recall_2", patience=9)
    values = model.fit(loader(), loader(), num_epochs=2, metrics=[F1, per_class], callbacks=[stopping])
    assert list(values)[-5:] == ["val_multiclass_f1_score", *(f"val_recall_{index}" for index in range(4))]
    assert stopping.monitor.best is not None
    assert stopping.monitor.best >= values["val_recall_2"]


def test_a_checkpoint_in_the_middle_of_an_epoch_keeps_their_state(
    model: argus_core.Model, tmp_path: Any
) -> None:
    metrics = [F1, ("MulticlassAUROC", {"num_classes": 4})]
    start = copy.deepcopy(model)
    whole = model.fit(loader(5), num_epochs=1, metrics=metrics, metrics_on_train=True, seed=1)

    @argus_core.on_iteration_complete
    def stop(state: argus_core.State) -> None:
        state.stopped = state.iteration == 2

    saving = ("checkpoint", {"dir_path": str(tmp_path), "every": "3up", "optimizer_state": True})
    other = copy.deepcopy(start)
    other.fit(loader(5), metrics=metrics, metrics_on_train=True, seed=1, callbacks=[saving, stop])
    (file,) = tmp_path.glob("*.safetensors")
    resumed = start.fit(loader(5), metrics=metrics, metrics_on_train=True, seed=1, resume=file)
    assert resumed == whole

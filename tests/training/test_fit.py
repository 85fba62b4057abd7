"""fit and validate: metrics, seeds, schedulers."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches, make_model
from torch.utils.data import IterableDataset, Subset, TensorDataset

from argus_core import ArgusError, Callback, ConflictError, Metric, ParamsError, UnknownNameError
from argus_core.errors import ArgusWarning
from argus_core.metrics import Accuracy

pytestmark = pytest.mark.usefixtures("net_registry")


def test_fit_returns_the_last_value_of_every_metric() -> None:
    metrics = make_model().fit(batches(), batches(), num_epochs=2, metrics=["accuracy"])
    assert list(metrics) == ["train_loss", "val_loss", "val_accuracy"]


def test_metrics_on_train_computes_them_in_training_too() -> None:
    metrics = make_model().fit(batches(), metrics=["accuracy"], metrics_on_train=True)
    assert list(metrics) == ["train_loss", "train_accuracy"]


@pytest.mark.parametrize(
    ("given", "subject", "action"),
    [
        (
            {"metrics": ["accuracy", "top_k_accuracy"]},
            "metrics has 'accuracy', 'top_k_accuracy'",
            "set metrics_on_train to compute them in training",
        ),
        (
            {"val_callbacks": ["progress"]},
            "val_callbacks has 'progress'",
            "move them to callbacks",
        ),
    ],
)
def test_what_only_a_validation_would_use_is_told_where_there_is_none(
    given: dict[str, Any], subject: str, action: str
) -> None:
    message = (
        f"^{subject}, and the run has no validation, so it has no effect; give fit a val_loader, or {action}$"
    )
    with pytest.warns(ArgusWarning, match=message) as told:
        make_model().fit(batches(), **given)
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize(
    "metrics",
    [
        "accuracy",
        ["accuracy"],
        Accuracy(),
        [Accuracy()],
        ("accuracy", {}),
        ["accuracy", {}],
        [("accuracy", {})],
    ],
)
def test_metrics_are_names_specs_or_instances(metrics: Any) -> None:
    assert "val_accuracy" in make_model().validate(batches(), metrics=metrics)


def test_val_loss_is_weighted_by_samples() -> None:
    model = make_model()
    data = batches((8, 3))
    joined = (torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]))
    assert model.validate(data)["val_loss"] == pytest.approx(model.validate([joined])["val_loss"], abs=1e-6)


def test_two_metrics_of_one_name_conflict() -> None:
    with pytest.raises(ConflictError, match="two metrics are named 'accuracy'"):
        make_model().validate(batches(), metrics=["accuracy", Accuracy()])


def test_an_object_that_is_no_metric_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"metrics has 3; give a name, a spec or an argus_core.Metric"):
        make_model().validate(batches(), metrics=[3])
    with pytest.raises(ParamsError, match=r"metrics has the class Accuracy; give a name"):
        make_model().validate(batches(), metrics=[Accuracy])
    with pytest.raises(ParamsError, match=r"metrics has an object of class object; give a name"):
        make_model().validate(batches(), metrics=[object()])


@pytest.mark.parametrize(
    ("argument", "kind"), [("metrics", "metric"), ("callbacks", "callback"), ("lr_scheduler", "lr_scheduler")]
)
def test_an_unknown_name_of_each_kind_is_one_sentence(argument: str, kind: str) -> None:
    with pytest.raises(UnknownNameError, match=f"no {kind} named 'nothing-like-it'"):
        make_model().fit(batches(), **{argument: "nothing-like-it"})


@pytest.mark.parametrize("num_epochs", [0, -1, 1.5, True, 2**63, pytest.param(10**5000, id="huge")])
def test_num_epochs_is_at_least_1(num_epochs: Any) -> None:
    with pytest.raises(ParamsError, match=r"^num_epochs is .+; give an integer from 1 to 2\*\*31 - 1$"):
        make_model().fit(batches(), num_epochs=num_epochs)


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (
            math.nan,
            1.0,
            "train_loss is nan and val_loss is nan in epoch 1; lower .*'finite_guard'",
        ),
        (1.0, math.nan, "val_loss is nan in epoch 1; look for nan and inf in the validation data, or lower"),
    ],
)
def test_a_loss_that_is_not_finite_is_told_once(
    train: float, val: float, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    def scaled(factor: float) -> list[Any]:
        return [(input * factor, target) for input, target in batches((8, 8))]

    model = make_model()
    model.fit(scaled(train), scaled(val), num_epochs=2)
    assert [re.match(message, record.message) is not None for record in caplog.records] == [True]


def test_a_complete_run_that_is_resumed_says_how_to_train_longer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    make_model().fit(batches(), num_epochs=2, callbacks=[checkpoint])
    for num_epochs, count in ((2, "2 of 2 epochs"), (1, "2 of 2 epochs, and num_epochs is 1")):
        caplog.clear()
        make_model().fit(batches(), num_epochs=num_epochs, resume=tmp_path)
        (told,) = (record.message for record in caplog.records if record.levelname == "WARNING")
        assert told == (
            f"the run of {tmp_path / 'model-001.safetensors'} is complete ({count}); to train longer, resume "
            "with num_epochs=3 or more"
        )
    caplog.clear()
    make_model().fit(batches(), num_epochs=3, resume=tmp_path)
    assert "is complete" not in caplog.text


def test_a_seed_makes_runs_with_random_numbers_equal() -> None:
    def run() -> tuple[float, float]:
        model = make_model()
        noise: list[float] = []

        class Noise(Callback):
            def iteration_start(self, state: Any) -> None:
                noise.append(random.random() + torch.rand(()).item())

        model.fit(batches(), callbacks=[Noise()], seed=3)
        return noise[0], noise[1]

    assert run() == run()


def test_training_learns() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(256, 4)
    data = [(x, x[:, :3].argmax(1)) for x in inputs.split(32)]
    metrics = make_model(optimizer=("AdamW", {"lr": 0.02})).fit(
        data, data, num_epochs=30, metrics=["accuracy"]
    )
    assert metrics["val_accuracy"] > 0.95


@pytest.mark.parametrize("seed", ["a", 1.5, 2**64, True, pytest.param(10**5000, id="huge")])
def test_a_seed_is_an_integer_of_64_bits(seed: Any) -> None:
    with pytest.raises(ParamsError, match="seed is .*; give an integer that fits into 64 bits"):
        make_model().fit(batches(), seed=seed)


def test_a_metric_without_a_name_is_refused() -> None:
    class Nameless(Metric):
        def update(self, step_output: Any) -> None:
            pass

        def compute(self) -> float:
            return 0.0

    with pytest.raises(ParamsError, match="metric Nameless has no name; set name = '...' in its class"):
        make_model().fit(batches(), metrics=[Nameless()])


@pytest.mark.parametrize("name", ["epoch", "lr", "time", "global_step", "updates_skipped"])
def test_a_metric_is_not_named_as_a_field_of_every_line(name: str) -> None:
    with pytest.raises(
        ConflictError, match=f"a metric is named '{name}', which is a field of every epoch's line"
    ):
        make_model().fit(batches(), metrics=[("accuracy", {"name": name})])
    with pytest.raises(ConflictError, match=f"a metric is named '{name}'"):
        make_model().validate(batches(), metrics=[Accuracy(name=name)])


def test_a_metric_is_not_renamed_to_the_loss() -> None:
    with pytest.raises(ConflictError, match="Accuracy is named 'loss', as the loss is; give it another name"):
        make_model().fit(batches(), metrics=[("accuracy", {"name": "loss"})])


@pytest.mark.parametrize(
    ("name", "why"), [("epoch", "which is a field of every epoch's line"), (5, "which is not a string")]
)
def test_a_value_of_a_callback_is_not_named_as_a_field_of_every_line(
    name: Any, why: str, tmp_path: Path
) -> None:
    class Notes(Callback):
        def epoch_complete(self, state: Any) -> None:
            state.metrics[name] = 3.0

    callbacks = [Notes(), ("metrics_jsonl", {"file_path": str(tmp_path / "a.jsonl")})]
    with pytest.raises(ArgusError, match=f"state.metrics holds {name!r}, {why}; put"):
        make_model().fit(batches(), callbacks=callbacks)


DATASET = TensorDataset(torch.zeros(4, 4), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("dataset", [DATASET, Subset(DATASET, [0, 1])])
def test_a_dataset_in_the_place_of_a_loader_is_refused(dataset: Any) -> None:
    give = r"gives samples; give a loader of its batches: torch\.utils\.data\.DataLoader\(dataset, "
    with pytest.raises(
        ParamsError, match=rf"^the train loader is the dataset {type(dataset).__name__}, which {give}"
    ):
        make_model().fit(dataset)
    with pytest.raises(ParamsError, match=rf"^the val loader is .*{give}"):
        make_model().fit(batches(), dataset)
    with pytest.raises(ParamsError, match=rf"^the val loader is .*{give}"):
        make_model().validate(dataset)


@pytest.mark.parametrize(("data", "given"), [({"a": [1]}, "keys"), ("digits", "characters"), (b"x", "bytes")])
def test_a_mapping_or_text_in_the_place_of_a_loader_is_refused(data: Any, given: str) -> None:
    told = rf"loader is a {type(data).__name__}, which gives its {given} as batches; give a loader of batches"
    with pytest.raises(ParamsError, match=f"^the train {told}"):
        make_model().fit(data)
    with pytest.raises(ParamsError, match=f"^the val {told}"):
        make_model().fit(batches(), data)
    with pytest.raises(ParamsError, match=f"^the val {told}"):
        make_model().validate(data)


def test_an_iterable_dataset_may_give_batches_itself() -> None:
    class Batches(IterableDataset):
        def __iter__(self) -> Any:
            return iter(batches())

    assert make_model().fit(Batches(), Batches()).keys() == {"train_loss", "val_loss"}

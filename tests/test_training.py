"""fit and validate: metrics, seeds, schedulers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from networks import Net, batches

import argus_core
from argus_core import Callback, ConflictError, Model, ParamsError, SpecError, UnknownNameError
from argus_core.metrics import Accuracy


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        yield


def make(**params: Any) -> Model:
    torch.manual_seed(0)
    return Model(
        {"nn_module": "net", "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.1}), "device": "cpu"}
        | params
    )


def test_fit_returns_the_last_value_of_every_metric() -> None:
    metrics = make().fit(batches(), batches(), num_epochs=2, metrics=["accuracy"])
    assert list(metrics) == ["train_loss", "val_loss", "val_accuracy"]


def test_metrics_on_train_computes_them_in_training_too() -> None:
    metrics = make().fit(batches(), metrics=["accuracy"], metrics_on_train=True)
    assert list(metrics) == ["train_loss", "train_accuracy"]


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
    assert "val_accuracy" in make().validate(batches(), metrics=metrics)


def test_val_loss_is_weighted_by_samples() -> None:
    model = make()
    data = batches((8, 3))
    joined = (torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]))
    assert model.validate(data)["val_loss"] == pytest.approx(model.validate([joined])["val_loss"], abs=1e-6)


def test_two_metrics_of_one_name_conflict() -> None:
    with pytest.raises(ConflictError, match="two metrics are named 'accuracy'"):
        make().validate(batches(), metrics=["accuracy", Accuracy()])


def test_an_object_that_is_no_metric_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"metrics has 3; give a name, a spec or an argus_core.Metric"):
        make().validate(batches(), metrics=[3])


@pytest.mark.parametrize(
    ("argument", "kind"), [("metrics", "metric"), ("callbacks", "callback"), ("lr_scheduler", "lr_scheduler")]
)
def test_an_unknown_name_of_each_kind_is_one_sentence(argument: str, kind: str) -> None:
    with pytest.raises(UnknownNameError, match=f"no {kind} named 'nothing-like-it'"):
        make().fit(batches(), **{argument: "nothing-like-it"})


@pytest.mark.parametrize("num_epochs", [0, -1, 1.5])
def test_num_epochs_is_at_least_1(num_epochs: Any) -> None:
    with pytest.raises(ParamsError, match="fit takes num_epochs >= 1"):
        make().fit(batches(), num_epochs=num_epochs)


def test_a_seed_makes_runs_with_random_numbers_equal() -> None:
    def run() -> tuple[float, float]:
        model = make()
        noise: list[float] = []

        class Noise(Callback):
            def iteration_start(self, state: Any) -> None:
                noise.append(random.random() + torch.rand(()).item())

        model.fit(batches(), callbacks=[Noise()], seed=3)
        return noise[0], noise[1]

    assert run() == run()


def test_a_scheduler_steps_once_an_epoch() -> None:
    model = make()
    model.fit(batches(), num_epochs=3, lr_scheduler=("StepLR", {"step_size": 1, "gamma": 0.5}))
    assert model.get_lr() == pytest.approx(0.1 * 0.5**3)


def test_a_scheduler_steps_once_an_update() -> None:
    model = make(step=("accumulate", {"steps": 2}))
    model.fit(batches(), lr_scheduler=("StepLR", {"step_size": 1, "gamma": 0.5, "interval": "update"}))
    assert model.get_lr() == pytest.approx(0.1 * 0.5**2)


def test_a_plateau_scheduler_follows_its_metric() -> None:
    model = make(optimizer=("SGD", {"lr": 0.0001}))
    nothing_is_better = {"patience": 0, "threshold": 10.0, "monitor": "val_loss"}
    model.fit(batches(), batches(), num_epochs=3, lr_scheduler=("ReduceLROnPlateau", nothing_is_better))
    assert model.get_lr() == pytest.approx(0.0001 * 0.1**3)


def test_schedulers_may_be_nested_and_several() -> None:
    model = make()
    warm_up = ("ConstantLR", {"factor": 0.5, "total_iters": 1})
    nested = ("SequentialLR", {"schedulers": [warm_up, ("ExponentialLR", {"gamma": 0.1})], "milestones": [1]})
    model.fit(batches(), num_epochs=2, lr_scheduler=[nested])
    assert model.get_lr() == pytest.approx(0.01)
    chained = make()
    gammas = [("ExponentialLR", {"gamma": 0.1}), ("ExponentialLR", {"gamma": 0.5})]
    chained.fit(batches(), lr_scheduler=("ChainedScheduler", {"schedulers": gammas}))
    assert chained.get_lr() == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (("StepLR", {"step_size": 1, "interval": "batch"}), "has interval 'batch'; give 'epoch' or 'update'"),
        (
            ("StepLR", {"step_size": 1, "monitor": "val_loss"}),
            "follows no metric; leave monitor='val_loss' out",
        ),
        ("ReduceLROnPlateau", "needs a metric to follow; give monitor='val_loss'"),
        (("ReduceLROnPlateau", {"monitor": "val_loss", "interval": "update"}), "leave interval out"),
    ],
)
def test_a_wrong_schedule_says_what_is_wrong(spec: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make().fit(batches(), batches(), lr_scheduler=spec)


def test_a_scheduler_instance_is_stepped_each_epoch() -> None:
    model = make()
    model.fit(batches(), lr_scheduler=torch.optim.lr_scheduler.ExponentialLR(model.optimizer, 0.5))
    assert model.get_lr() == pytest.approx(0.05)


def test_a_scheduler_without_an_optimizer_says_so() -> None:
    class Own(Model):
        nn_module = Net

        def train_step(self, batch: Any, state: Any = None) -> Any:
            return {"prediction": batch[0], "target": batch[1], "loss": 0.0}

    with pytest.raises(SpecError, match="lr_scheduler needs the model to have an optimizer"):
        Own({"device": "cpu"}).fit(batches(), lr_scheduler="ConstantLR")


def test_training_learns() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(256, 4)
    data = [(x, x[:, :3].argmax(1)) for x in inputs.split(32)]
    metrics = make(optimizer=("AdamW", {"lr": 0.02})).fit(data, data, num_epochs=30, metrics=["accuracy"])
    assert metrics["val_accuracy"] > 0.95

"""Schedulers by name, once an epoch or once an update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import Net, batches, make_model

from argus_core import Model, SpecError

pytestmark = pytest.mark.usefixtures("net_registry")


def test_a_scheduler_steps_once_an_epoch() -> None:
    model = make_model()
    model.fit(batches(), num_epochs=3, lr_scheduler=("StepLR", {"step_size": 1, "gamma": 0.5}))
    assert model.get_lr() == pytest.approx(0.1 * 0.5**3)


def test_a_scheduler_steps_once_an_update() -> None:
    model = make_model(step=("accumulate", {"steps": 2}))
    model.fit(batches(), lr_scheduler=("StepLR", {"step_size": 1, "gamma": 0.5, "interval": "update"}))
    assert model.get_lr() == pytest.approx(0.1 * 0.5**2)


def test_a_plateau_scheduler_follows_its_metric() -> None:
    model = make_model(optimizer=("SGD", {"lr": 0.0001}))
    nothing_is_better = {"patience": 0, "threshold": 10.0, "monitor": "val_loss"}
    model.fit(batches(), batches(), num_epochs=3, lr_scheduler=("ReduceLROnPlateau", nothing_is_better))
    assert model.get_lr() == pytest.approx(0.0001 * 0.1**3)


def test_schedulers_may_be_nested_and_several() -> None:
    model = make_model()
    warm_up = ("ConstantLR", {"factor": 0.5, "total_iters": 1})
    nested = ("SequentialLR", {"schedulers": [warm_up, ("ExponentialLR", {"gamma": 0.1})], "milestones": [1]})
    model.fit(batches(), num_epochs=2, lr_scheduler=[nested])
    assert model.get_lr() == pytest.approx(0.01)
    chained = make_model()
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
        make_model().fit(batches(), batches(), lr_scheduler=spec)


def test_a_scheduler_instance_is_stepped_each_epoch() -> None:
    model = make_model()
    model.fit(batches(), lr_scheduler=torch.optim.lr_scheduler.ExponentialLR(model.optimizer, 0.5))
    assert model.get_lr() == pytest.approx(0.05)


def test_a_scheduler_without_an_optimizer_says_so() -> None:
    class Own(Model):
        nn_module = Net

        def train_step(self, batch: Any, state: Any = None) -> Any:
            return {"prediction": batch[0], "target": batch[1], "loss": 0.0}

    with pytest.raises(SpecError, match="lr_scheduler needs the model to have an optimizer"):
        Own({"device": "cpu"}).fit(batches(), lr_scheduler="ConstantLR")

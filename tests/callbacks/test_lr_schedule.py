"""Schedulers by name, once an epoch or once an update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Net, batches, make_model, same_weights
from strategies import Veto

import argus_core
from argus_core import BuildError, Model, SpecError

pytestmark = pytest.mark.usefixtures("net_registry")

# Halves the rate each epoch, since nothing is ever better by so much.
STUCK = ("ReduceLROnPlateau", {"patience": 0, "threshold": 10.0, "factor": 0.5, "monitor": "val_loss"})


def test_a_scheduler_steps_once_an_epoch() -> None:
    model = make_model()
    model.fit(batches(), num_epochs=3, lr_scheduler=("StepLR", {"step_size": 1, "gamma": 0.5}))
    assert model.get_lr() == pytest.approx(0.1 * 0.5**3)


def test_a_scheduler_steps_once_an_update() -> None:
    model = make_model(step=("accumulate", {"steps": 2}))
    model.fit(batches(), lr_scheduler=("StepLR", {"step_size": 1, "gamma": 0.5, "interval": "update"}))
    assert model.get_lr() == pytest.approx(0.1 * 0.5**2)


@pytest.mark.parametrize("schedule", [("ExponentialLR", {"gamma": 0.5}), STUCK], ids=lambda spec: spec[0])
def test_an_epoch_of_skipped_updates_does_not_step_a_scheduler(schedule: Any) -> None:
    argus_core.register("step", "veto", Veto)
    model = make_model(step=("veto", {"updates": [0, 1, 2]}), optimizer=("SGD", {"lr": 0.1}))
    model.fit(batches(), batches(), num_epochs=2, lr_scheduler=schedule)  # the second epoch's three are made
    assert model.get_lr() == pytest.approx(0.05)


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
        (("ReduceLROnPlateau", {"monitor": 5}), "has monitor 5; give the name of a metric"),
        (("SequentialLR", {"schedulers": 5, "milestones": [1]}), "has schedulers 5; give a list of specs"),
    ],
)
def test_a_wrong_schedule_says_what_is_wrong(spec: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_model().fit(batches(), batches(), lr_scheduler=spec)


def test_a_scheduler_instance_is_stepped_each_epoch() -> None:
    model = make_model()
    model.fit(batches(), lr_scheduler=torch.optim.lr_scheduler.ExponentialLR(model.optimizer, 0.5))
    assert model.get_lr() == pytest.approx(0.05)


def test_a_scheduler_instance_of_another_optimizer_is_refused() -> None:
    model, other = make_model(), make_model()
    exponential = torch.optim.lr_scheduler.ExponentialLR(other.optimizer, 0.5)
    chained = torch.optim.lr_scheduler.ChainedScheduler([exponential])
    for scheduler in (exponential, chained):
        with pytest.raises(
            SpecError,
            match=r"is a scheduler \(\w+\) of another model's optimizer; build it with model.optimizer",
        ):
            model.fit(batches(), lr_scheduler=scheduler)
    assert other.get_lr() == 0.1


def test_a_scheduler_without_an_optimizer_says_so() -> None:
    class Own(Model):
        nn_module = Net

        def train_step(self, batch: Any, state: Any = None) -> Any:
            return {"prediction": batch[0], "target": batch[1], "loss": 0.0}

    with pytest.raises(SpecError, match="lr_scheduler needs the model to have an optimizer"):
        Own({"device": "cpu"}).fit(batches(), lr_scheduler="ConstantLR")


def test_a_schedule_begins_at_the_rate_that_is_set_and_not_at_an_earlier_runs() -> None:
    model = make_model()
    model.fit(batches(), lr_scheduler=("StepLR", {"step_size": 1}))
    model.set_lr(0.5)
    model.fit(batches(), num_epochs=2, lr_scheduler=("CosineAnnealingWarmRestarts", {"T_0": 2}))
    assert model.get_lr() == pytest.approx(0.5)  # restarted


def test_a_schedule_may_go_on_from_an_epoch_in_the_optimizers_own_state() -> None:
    model = make_model()
    model.fit(batches(), lr_scheduler=("StepLR", {"step_size": 2}))
    model.fit(batches(), lr_scheduler=("StepLR", {"step_size": 2, "last_epoch": 1}))
    assert model.get_lr() == pytest.approx(0.01)


def test_a_plateau_instance_is_refused_since_it_names_no_metric() -> None:
    model = make_model()
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(model.optimizer)
    with pytest.raises(SpecError, match=r"needs a metric to follow; give \('ReduceLROnPlateau', "):
        model.fit(batches(), lr_scheduler=scheduler)


def test_a_factory_that_builds_no_scheduler_is_named() -> None:
    argus_core.register("lr_scheduler", "five", lambda optimizer: 5)
    with pytest.raises(BuildError, match=r"lr_scheduler 'five' built 5, which has no step\(\)"):
        make_model().fit(batches(), lr_scheduler="five")


MILESTONES = ("MultiStepLR", {"milestones": [1, 2], "gamma": 0.5})


@pytest.mark.parametrize(
    "spec",
    [
        ("SequentialLR", {"schedulers": [("ConstantLR", {"total_iters": 1}), MILESTONES], "milestones": [1]}),
        ("ChainedScheduler", {"schedulers": [MILESTONES, ("ExponentialLR", {"gamma": 0.9})]}),
    ],
    ids=lambda spec: spec[0],
)
def test_a_run_with_nested_schedulers_goes_on(spec: Any, tmp_path: Path) -> None:
    whole, stopped, resumed = make_model(), make_model(), make_model()
    whole.fit(batches(), num_epochs=5, lr_scheduler=spec)
    checkpoint = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    stopped.fit(batches(), num_epochs=2, lr_scheduler=spec, callbacks=[checkpoint])
    resumed.fit(batches(), num_epochs=5, lr_scheduler=spec, resume=tmp_path)
    assert resumed.get_lr() == whole.get_lr()
    assert same_weights(resumed, whole)


@pytest.mark.parametrize(
    ("interval", "halvings"), [("2up", 3), ("4up", 1), ("2ep", 1), ("1ep", 2), ("0.0000001min", 6)]
)
def test_interval_may_be_a_duration(interval: str, halvings: int) -> None:
    model = make_model()
    schedule = ("StepLR", {"step_size": 1, "gamma": 0.5, "interval": interval})
    model.fit(batches(), num_epochs=2, lr_scheduler=schedule)
    assert model.get_lr() == pytest.approx(0.1 / 2**halvings)


def test_schedule_with_an_interval_of_updates_lasts_for_the_run() -> None:
    def once(total: int) -> Any:
        return ("OneCycleLR", {"max_lr": 0.1, "total_steps": total, "interval": "2up"})

    make_model().fit(batches(), num_epochs=2, lr_scheduler=once(3))
    make_model().fit(batches(), num_updates=7, lr_scheduler=once(3))
    with pytest.raises(
        SpecError, match=r"has 2 steps left, and the run makes up to 3; give it 3 total_steps"
    ):
        make_model().fit(batches(), num_epochs=2, lr_scheduler=once(2))

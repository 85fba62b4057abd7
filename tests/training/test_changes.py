"""What has changed when a run goes on is told, and holds as it is told, or is refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import crafted
from networks import batches
from strategies import build, register_all, same_weights

import argus_core
from argus_core import Model, StateMismatchError
from argus_core.errors import ArgusWarning

DATA = batches((4, 3, 5, 2))


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        yield


def save(folder: Path, schedule: Any = None, epochs: int = 2, **params: Any) -> Model:
    model = build(**params)
    keep = ("checkpoint", {"dir_path": str(folder), "optimizer_state": True})
    model.fit(DATA, DATA, num_epochs=epochs, callbacks=[keep], lr_scheduler=schedule)
    return model


def go_on(
    folder: Path, schedule: Any = None, epochs: int = 4, **params: Any
) -> tuple[Model, list[float], str]:
    """Go on with the run; return the model, the learning rates after each epoch and what was told."""
    model, rates = build(**params), []
    note = argus_core.on_epoch_start(lambda state: rates.append(model.get_lr()))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(DATA, DATA, num_epochs=epochs, callbacks=[note], lr_scheduler=schedule, resume=folder)
    rates.append(model.get_lr())
    messages = [str(each.message) for each in told if issubclass(each.category, ArgusWarning)]
    assert len(messages) <= 1
    return model, rates, "".join(messages)


def sgd(lr: float, **options: Any) -> Any:
    return ("SGD", {"lr": lr, **options})


@pytest.mark.parametrize(
    ("name", "before", "now", "option"),
    [
        ("StepLR", {"step_size": 1, "gamma": 0.5}, {"step_size": 1, "gamma": 0.1}, "gamma"),
        ("StepLR", {"step_size": 2}, {"step_size": 3}, "step_size"),
        ("ExponentialLR", {"gamma": 0.5}, {"gamma": 1.0}, "gamma"),
        ("MultiStepLR", {"milestones": [1, 9]}, {"milestones": [1, 3]}, "milestones"),
        (
            "ReduceLROnPlateau",
            {"monitor": "val_loss", "patience": 9},
            {"monitor": "val_loss", "patience": 0, "threshold": 10.0, "min_lr": 0.005},
            "patience",
        ),
        ("CosineAnnealingLR", {"T_max": 4}, {"T_max": 8}, "T_max"),
        ("LinearLR", {"total_iters": 4}, {"total_iters": 8}, "total_iters"),
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9}, {"max_lr": 0.3, "total_steps": 9}, "max_lr"),
        (
            "SequentialLR",
            {"schedulers": [("ConstantLR", {}), ("ExponentialLR", {"gamma": 0.5})], "milestones": [1]},
            {"schedulers": [("ConstantLR", {}), ("ExponentialLR", {"gamma": 0.9})], "milestones": [1]},
            "schedulers",
        ),
    ],
)
def test_changed_options_of_a_schedule_have_no_effect_and_a_warning_says_so(
    name: str, before: Any, now: Any, option: str, tmp_path: Path
) -> None:
    save(tmp_path / "run", (name, before))
    _, rates, told = go_on(tmp_path / "run", (name, now))
    _, expected, silence = go_on(tmp_path / "run", (name, before))
    assert rates == expected
    assert silence == ""
    assert f"{option} of lr_scheduler {name!r} was" in told
    assert "which has no effect, as the schedule continues with its saved state; for another" in told


def test_another_function_of_a_schedule_holds_and_is_told(tmp_path: Path) -> None:
    """A checkpoint stores no functions."""

    def halve(epoch: int) -> float:
        return 0.5**epoch

    def third(epoch: int) -> float:
        return 3.0**-epoch

    save(tmp_path, ("LambdaLR", {"lr_lambda": halve}))
    _, rates, told = go_on(tmp_path, ("LambdaLR", {"lr_lambda": third}))
    assert rates == pytest.approx([0.025, 0.1 / 27, 0.1 / 81])
    assert "third', which holds from here on" in told


def test_another_interval_holds_and_is_told(tmp_path: Path) -> None:
    save(tmp_path, ("ExponentialLR", {"gamma": 0.5}))
    _, rates, told = go_on(tmp_path, ("ExponentialLR", {"gamma": 0.5, "interval": "update"}), epochs=3)
    assert rates == pytest.approx([0.025, 0.025 / 2**4])
    assert "interval of lr_scheduler 'ExponentialLR' was 'epoch' and is 'update', which holds" in told


@pytest.mark.parametrize("name", ["CosineAnnealingWarmRestarts", "OneCycleLR", "StepLR"])
def test_a_new_schedule_begins_from_the_present_rate(name: str, tmp_path: Path) -> None:
    params = {
        "CosineAnnealingWarmRestarts": {"T_0": 10},
        "OneCycleLR": {"max_lr": 0.2, "total_steps": 9},
        "StepLR": {"step_size": 1},
    }[name]
    save(tmp_path, ("ExponentialLR", {"gamma": 0.5}))
    _, rates, told = go_on(tmp_path, (name, params), optimizer=sgd(0.1, momentum=0.9))
    other = build(optimizer=sgd(0.025, momentum=0.9))
    note: list[float] = []
    keep = argus_core.on_epoch_start(lambda state: note.append(other.get_lr()))
    other.fit(DATA, num_epochs=2, lr_scheduler=(name, params), callbacks=[keep])
    assert rates == pytest.approx([*note, other.get_lr()])
    assert "lr_scheduler 'ExponentialLR' is no more, so the learning rate no longer changes" in told
    assert f"lr_scheduler {name!r} is new and starts from the present learning rate" in told


def test_without_its_schedule_a_run_keeps_the_rate(tmp_path: Path) -> None:
    save(tmp_path, ("ExponentialLR", {"gamma": 0.5}))
    _, rates, told = go_on(tmp_path)
    assert rates == [0.025] * 3
    assert "lr_scheduler 'ExponentialLR' is no more, so the learning rate no longer changes" in told


@pytest.mark.parametrize(
    "schedule",
    [
        ("StepLR", {"step_size": 1, "gamma": 0.5}),
        ("CosineAnnealingWarmRestarts", {"T_0": 10}),
        ("PolynomialLR", {"total_iters": 9}),
        [("ExponentialLR", {"gamma": 0.9}), ("LinearLR", {"total_iters": 6})],
        (
            "SequentialLR",
            {
                "schedulers": [("LinearLR", {"total_iters": 1}), ("CosineAnnealingWarmRestarts", {"T_0": 9})],
                "milestones": [1],
            },
        ),
    ],
)
def test_with_a_schedule_the_saved_options_of_the_optimizer_hold(schedule: Any, tmp_path: Path) -> None:
    save(tmp_path / "run", schedule, optimizer=sgd(0.1, momentum=0.9))
    same, expected, _ = go_on(tmp_path / "run", schedule, optimizer=sgd(0.1, momentum=0.9))
    model, rates, told = go_on(tmp_path / "run", schedule, optimizer=sgd(0.02, weight_decay=0.1))
    assert rates == expected
    assert model.optimizer.param_groups[0]["weight_decay"] == 0
    assert same_weights(model, same)
    names = ", ".join(repr(name) for name, _ in (schedule if isinstance(schedule, list) else [schedule]))
    assert (
        "params['optimizer'] was ('SGD', {'lr': 0.1, 'momentum': 0.9}) and is ('SGD', {'lr': 0.02, "
        f"'weight_decay': 0.1}}), which has no effect: with lr_scheduler {names}, the saved options hold"
        in told
    )


@pytest.mark.parametrize("schedule", [None, ("StepLR", {"step_size": 1, "gamma": 0.5})])
def test_without_the_schedule_of_before_the_new_options_of_the_optimizer_hold(
    schedule: Any, tmp_path: Path
) -> None:
    save(tmp_path, ("ExponentialLR", {"gamma": 0.5}), optimizer=sgd(0.1))
    model, rates, told = go_on(tmp_path, schedule, optimizer=sgd(0.4, weight_decay=0.1))
    assert rates == pytest.approx([0.4, 0.4, 0.4] if schedule is None else [0.4, 0.2, 0.1])
    assert model.optimizer.param_groups[0]["weight_decay"] == 0.1
    assert "('SGD', {'lr': 0.4, 'weight_decay': 0.1}), which holds from here on" in told


def test_an_option_that_is_no_longer_given_has_its_default_again(tmp_path: Path) -> None:
    save(tmp_path, optimizer=sgd(0.1, momentum=0.9))
    model, _, told = go_on(tmp_path, optimizer=sgd(0.1))
    assert "which holds from here on" in told
    assert model.optimizer.param_groups[0]["momentum"] == 0


@pytest.mark.parametrize(
    ("name", "option", "slot"),
    [
        ("Adam", {"amsgrad": True}, "max_exp_avg_sq"),
        ("AdamW", {"amsgrad": True}, "max_exp_avg_sq"),
        ("RMSprop", {"centered": True}, "grad_avg"),
        ("RMSprop", {"momentum": 0.9}, "momentum_buffer"),
    ],
)
def test_an_option_that_needs_state_which_there_is_not_is_refused(
    name: str, option: dict[str, Any], slot: str, tmp_path: Path
) -> None:
    save(tmp_path, optimizer=(name, {"lr": 0.01}))
    message = rf"trained {name} with {next(iter(option))}=(False|0), and its state lacks the '{slot}' that .*"
    with pytest.raises(StateMismatchError, match=message):
        build(optimizer=(name, {"lr": 0.01, **option})).fit(DATA, num_epochs=4, resume=tmp_path)


def test_an_unchanged_run_is_told_nothing_of(tmp_path: Path) -> None:
    schedule = [("LinearLR", {"total_iters": 3, "interval": "update"}), ("StepLR", {"step_size": 1})]
    whole = save(tmp_path / "whole", schedule, epochs=4)
    save(tmp_path / "run", schedule)
    model, _, told = go_on(tmp_path / "run", schedule)
    assert told == ""
    assert same_weights(model, whole)


def test_a_schedule_that_is_an_instance_or_has_functions_goes_on(tmp_path: Path) -> None:
    def halve(epoch: int) -> float:
        return 0.5**epoch

    spec = ("LambdaLR", {"lr_lambda": halve})
    save(tmp_path, spec)
    _, rates, told = go_on(tmp_path, spec)
    assert rates == pytest.approx([0.025, 0.0125, 0.00625])
    assert told == ""
    model = build()
    instance = torch.optim.lr_scheduler.LambdaLR(model.optimizer, halve)
    model.fit(DATA, DATA, num_epochs=3, lr_scheduler=instance, resume=tmp_path)
    assert model.get_lr() == pytest.approx(0.0125)


class Multiples(Model):
    """Gives biases a multiple of the rate, by a parameter that no group has."""

    def build_optimizer(self, factory: Any, params: Any) -> Any:
        params = dict(params)
        factor = params.pop("factor")
        weights = [each for each in self.nn_module.parameters() if each.ndim > 1]
        biases = [each for each in self.nn_module.parameters() if each.ndim == 1]
        return factory([{"params": weights}, {"params": biases, "lr": factor * params["lr"]}], **params)


@pytest.mark.parametrize("schedule", [None, ("ExponentialLR", {"gamma": 0.5})])
def test_options_of_a_class_of_its_own_change_as_it_builds_them(schedule: Any, tmp_path: Path) -> None:
    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    plain = build().params
    Multiples({**plain, "optimizer": sgd(0.1, factor=10)}).fit(
        DATA, num_epochs=2, callbacks=[keep], lr_scheduler=schedule
    )
    model = Multiples({**plain, "optimizer": sgd(0.1, factor=4)})
    with pytest.warns(ArgusWarning, match="has changed"):
        model.fit(DATA, num_epochs=3, lr_scheduler=schedule, resume=tmp_path)
    assert model.get_lr() == pytest.approx([0.1, 0.4] if schedule is None else [0.0125, 0.125])


@pytest.mark.parametrize("spec", [[], {"$tuple": []}, [[]]])
def test_an_optimizer_without_a_name_in_the_file_is_told(spec: Any, tmp_path: Path) -> None:
    save(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(
            crafted(path.read_bytes(), lambda _, manifest: manifest["params"].update(optimizer=spec))
        )
    assert "params['optimizer'] was" in go_on(tmp_path)[2]

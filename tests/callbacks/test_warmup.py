"""Schedules over the length of the run, compared with formulas by hand at every update."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from networks import batches, make_model, same_weights
from strategies import Veto

import argus_core
from argus_core import Model, ParamsError, SpecError, StateMismatchError
from argus_core.callbacks import Checkpoint, warmup
from argus_core.errors import ArgusWarning

pytestmark = pytest.mark.usefixtures("net_registry")

GROUPS = {"optimizer": ("SGD", {"lr": 0.2, "groups": [{"match": "out.*", "lr": 0.05}]})}


def rates(schedule: Any, model: Model | None = None, **options: Any) -> list[Any]:
    """Return the rate of each update of a run, of a list of groups if there are several."""
    seen: list[Any] = []
    trained = make_model() if model is None else model

    def note(state: Any) -> None:
        seen.append(state.model.get_lr())

    loader = options.pop("loader", batches())
    callbacks = [argus_core.on_iteration_start(note), *options.pop("callbacks", ())]
    trained.fit(loader, lr_scheduler=schedule, callbacks=callbacks, **(options or {"num_epochs": 4}))
    return seen


def curve(height: Callable[[float], float], warmup: int, total: int, low: float = 0.0) -> list[float]:
    """Return the rates of a warm-up to 0.1 and a curve down."""
    rise = [0.1 * (step + 1) / warmup for step in range(warmup)]
    fall = [low + (0.1 - low) * height((step - warmup) / (total - warmup)) for step in range(warmup, total)]
    return rise + fall


def cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


@pytest.mark.parametrize(("name", "height"), [
    ("warmup_cosine", cosine),
    ("warmup_linear", lambda progress: 1 - progress),
    ("warmup_constant", lambda progress: 1.0),
])  # fmt: skip
@pytest.mark.parametrize(("warmup", "steps"), [
    (None, 1), ("0%", 0), ("25%", 3), ("1ep", 3), ("2 ep", 6), ("5up", 5), (4, 4), ("100%", 12),
])  # fmt: skip
def test_rates_of_every_update_are_those_of_the_formula(
    name: str, height: Any, warmup: Any, steps: int
) -> None:
    params = {} if warmup is None else {"warmup": warmup}
    assert rates((name, params)) == pytest.approx(curve(height, steps, 12) if steps < 12 else [
        0.1 * (step + 1) / 12 for step in range(12)
    ])  # fmt: skip


@pytest.mark.parametrize(("bounds", "total"), [
    ({"num_epochs": 4}, 12),
    ({"num_updates": 10}, 10),
    ({"num_epochs": 2, "num_updates": 10}, 6),
    ({"num_epochs": 4, "limit_train": 2}, 8),
    ({"num_epochs": 2, "limit_train": 0.5}, 4),
    ({"num_epochs": 3, "max_time": "10min"}, 9),
    ({}, 12),
])  # fmt: skip
def test_the_curve_ends_with_the_run_whichever_bound_steers_it(bounds: Any, total: int) -> None:
    found = rates(("warmup_cosine", {"warmup": 2, "min_lr": 0.01}), **bounds)
    assert found == pytest.approx(curve(cosine, 2, total, 0.01))


def test_updates_count_and_not_batches() -> None:
    model = make_model(step=("accumulate", {"steps": 2}))  # two updates of three batches
    assert rates(("warmup_linear", {"warmup": "1ep"}), model) == pytest.approx(
        curve(lambda progress: 1 - progress, 2, 8)
    )


def test_skipped_updates_do_not_move_the_curve() -> None:
    argus_core.register("step", "veto", Veto)
    model = make_model(step=("veto", {"updates": [1, 2]}))
    found = rates(("warmup_linear", {"warmup": 4}), model)
    expected = curve(lambda progress: 1 - progress, 4, 12)
    assert found == pytest.approx([expected[0], *[expected[1]] * 3, *expected[2:10]])


def test_groups_keep_the_ratio_of_their_rates() -> None:
    model = make_model(**GROUPS)
    for high, low in rates(("warmup_cosine", {"warmup": 3, "min_lr": 0.02}), model):
        assert high == pytest.approx(4 * low)
    assert model.get_lr() == pytest.approx([0.02, 0.005])
    found = rates(("one_cycle", {"min_lr": 0.02}), make_model(**GROUPS))
    assert all(high == pytest.approx(4 * low) for high, low in found)
    assert max(found) == pytest.approx([0.2, 0.05])


def test_one_cycle_is_torchs_over_the_whole_run() -> None:
    by_hand = {"max_lr": 0.1, "total_steps": 12, "pct_start": 0.25, "interval": "update",
               "cycle_momentum": False, "final_div_factor": 0.1 / 25 / 0.001}  # fmt: skip
    expected = rates(("OneCycleLR", by_hand))
    assert rates(("one_cycle", {"warmup": "25%", "min_lr": 0.001})) == pytest.approx(expected)
    assert min(expected) == expected[-1] == pytest.approx(0.001)
    assert rates(("one_cycle", {"min_lr": 0}))[-1] == 0
    heavy = make_model(optimizer=("SGD", {"lr": 0.1, "momentum": 0.9}))
    rates("one_cycle", heavy)
    assert heavy.optimizer.param_groups[0]["momentum"] == pytest.approx(0.95, abs=1e-2)


@pytest.mark.parametrize(("given", "by_hand"), [
    (("CosineAnnealingLR", {}), ("CosineAnnealingLR", {"T_max": 4})),
    (("CosineAnnealingLR", {"interval": "update"}),
     ("CosineAnnealingLR", {"T_max": 12, "interval": "update"})),
    (("CosineAnnealingLR", {"interval": "2ep"}), ("CosineAnnealingLR", {"T_max": 2, "interval": "2ep"})),
    (("CosineAnnealingLR", {"T_max": "50%"}), ("CosineAnnealingLR", {"T_max": 2})),
    (("OneCycleLR", {"max_lr": 0.3, "interval": "update"}),
     ("OneCycleLR", {"max_lr": 0.3, "total_steps": 12, "interval": "update"})),
    (("OneCycleLR", {"max_lr": 0.3, "epochs": 4, "steps_per_epoch": 4, "interval": "update"}),
     ("OneCycleLR", {"max_lr": 0.3, "total_steps": 16, "interval": "update"})),
    (("MultiStepLR", {"milestones": ["50%", "75%"]}), ("MultiStepLR", {"milestones": [2, 3]})),
    (("MultiStepLR", {"milestones": ["1ep", "7up"], "interval": "update"}),
     ("MultiStepLR", {"milestones": [3, 7], "interval": "update"})),
    (("StepLR", {"step_size": "25%"}), ("StepLR", {"step_size": 1})),
    (("PolynomialLR", {"total_iters": "100%"}), ("PolynomialLR", {"total_iters": 4})),
    (("LinearLR", {"total_iters": "1ep", "interval": "update"}),
     ("LinearLR", {"total_iters": 3, "interval": "update"})),
    (("SequentialLR", {"interval": "update", "milestones": ["25%"], "schedulers": [
        ("LinearLR", {"total_iters": "25%", "start_factor": 0.1}), "CosineAnnealingLR"]}),
     ("SequentialLR", {"interval": "update", "milestones": [3], "schedulers": [
        ("LinearLR", {"total_iters": 3, "start_factor": 0.1}), ("CosineAnnealingLR", {"T_max": 9})]})),
])  # fmt: skip
def test_torchs_own_take_their_lengths_from_the_run(given: Any, by_hand: Any) -> None:
    assert rates(given) == pytest.approx(rates(by_hand))


def endless() -> Any:
    class Endless:
        def __iter__(self) -> Any:
            return iter(batches())

    return Endless()


@pytest.mark.parametrize(("schedule", "options", "message"), [
    ("warmup_cosine", {"max_time": "10min"}, "max_time alone does not say how many; give num_epochs as well"),
    ("CosineAnnealingLR", {"max_time": "10min"}, "'CosineAnnealingLR' has T_max='100%', and the"),
    ("warmup_cosine", {"num_epochs": 2, "loader": endless()}, "the loader has no length; give num_updates"),
    (("warmup_linear", {"warmup": "1ep"}), {"num_updates": 5, "loader": endless()}, "has warmup='1ep', and"),
    (("MultiStepLR", {"milestones": ["10up"]}), {"num_epochs": 2}, "steps once an epoch; give interval"),
    (("CosineAnnealingLR", {"interval": "5min"}), {"num_epochs": 2}, "an interval in minutes does not say"),
])  # fmt: skip
def test_a_schedule_that_needs_a_length_says_what_to_give(schedule: Any, options: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        rates(schedule, **options)


def test_a_run_by_updates_needs_no_length_of_the_loader() -> None:
    found = rates(("warmup_linear", {"warmup": "2up"}), num_updates=5, loader=endless())
    assert found == pytest.approx(curve(lambda progress: 1 - progress, 2, 5))


@pytest.mark.parametrize(("params", "message"), [
    ({"warmup": "13up"}, "warmup is 13 steps, and the whole schedule has 12; give fewer"),
    ({"warmup": -1}, "warmup is -1; give a number of steps, or '5%'"),
    ({"warmup": "5"}, "warmup is '5'; give a number of steps, or '5%'"),
    ({"min_lr": 1.0}, "min_lr is 1.0; give a rate from 0 to that of the optimizer, 0.1"),
    ({"total_steps": 0}, "total_steps is 0; give an integer of at least 1"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(params: Any, message: str) -> None:
    with pytest.raises(argus_core.ArgusError, match=message):
        rates(("warmup_cosine", params))


@pytest.mark.parametrize("total", [3, 4, 7])
def test_one_cycle_needs_two_steps_to_rise(total: int) -> None:
    with pytest.raises(ParamsError, match=f"warmup of 1 of its {total} steps; give at least 2, 0 for none"):
        warmup.one_cycle(make_model().optimizer, total, 1)
    assert warmup.one_cycle(make_model().optimizer, total, 0).get_last_lr()[0] > 0


def test_one_cycle_must_fall() -> None:
    with pytest.raises(argus_core.ArgusError, match="one_cycle has a warmup of 12 of its 12 steps"):
        rates(("one_cycle", {"warmup": "100%"}))


@pytest.mark.parametrize("schedule", [
    ("warmup_cosine", {"warmup": "25%", "min_lr": 0.01}), "one_cycle", "CosineAnnealingLR",
    [("warmup_linear", {"warmup": "1ep"}), ("StepLR", {"step_size": "50%"})],
])  # fmt: skip
def test_a_run_resumes_exactly_from_every_update(schedule: Any, tmp_path: Path) -> None:
    keep = Checkpoint(tmp_path, every="1up", optimizer_state=True, file_format="{step}.safetensors")
    whole = make_model(**GROUPS)
    expected = rates(schedule, whole, num_epochs=3, seed=0, callbacks=[keep])
    for step in range(1, 9):
        resumed = make_model(**GROUPS)
        found = rates(schedule, resumed, num_epochs=3, seed=0, resume=tmp_path / f"{step}.safetensors")
        assert found == expected[step:]
        assert same_weights(resumed, whole)


def test_more_epochs_keep_the_curve_that_the_run_began_with(tmp_path: Path) -> None:
    keep = Checkpoint(tmp_path, optimizer_state=True)
    schedule = ("warmup_linear", {"min_lr": 0.01})
    rates(schedule, num_epochs=2, callbacks=[keep])
    with pytest.warns(ArgusWarning) as warned:
        found = rates(schedule, num_epochs=4, resume=tmp_path)
    assert found == pytest.approx([0.01] * 6)
    assert str(warned[0].message).endswith(
        "has changed: lr_scheduler 'WarmupLinear' follows the curve that the run began with (warmup 0, "
        "total_steps 6) and not one over the present length (warmup 1, total_steps 12), and its rate stays "
        "at 0.01 after step 6; for another curve, start a new run from the weights, by init_from"
    )


def test_more_epochs_at_a_rate_of_zero_are_told_to_train_nothing(tmp_path: Path) -> None:
    rates("warmup_cosine", num_epochs=2, callbacks=[Checkpoint(tmp_path, optimizer_state=True)])
    with pytest.warns(ArgusWarning, match="its rate stays at 0 after step 6, which trains no weights; for"):
        found = rates("warmup_cosine", num_epochs=4, resume=tmp_path)
    assert found == [0.0] * 6


def test_more_epochs_of_a_constant_rate_keep_it(tmp_path: Path) -> None:
    rates("warmup_constant", num_epochs=4, callbacks=[Checkpoint(tmp_path, optimizer_state=True)])
    with pytest.warns(
        ArgusWarning, match=r"\(warmup 1\) and not one over the present length \(warmup 2\); for"
    ):
        found = rates("warmup_constant", num_epochs=12, resume=tmp_path)
    assert found == pytest.approx([0.1] * 24)


@pytest.mark.parametrize("schedule", [
    "CosineAnnealingLR", ("CosineAnnealingLR", {"interval": "update"}),
    ("SequentialLR", {"milestones": ["50%"], "schedulers": ["ConstantLR", "CosineAnnealingLR"]}),
])  # fmt: skip
def test_more_epochs_in_which_a_cosine_over_the_run_would_rise_again_are_refused(
    schedule: Any, tmp_path: Path
) -> None:
    rates(schedule, num_epochs=4, callbacks=[Checkpoint(tmp_path, optimizer_state=True)])
    refused = r"0 steps left, and the run makes up to \d+, in which its rate would rise again; resume"
    with pytest.warns(ArgusWarning), pytest.raises(StateMismatchError, match=refused):
        rates(schedule, num_epochs=6, resume=tmp_path)


def test_a_cosine_of_a_given_length_rises_again_as_in_torch(tmp_path: Path) -> None:
    schedule = ("CosineAnnealingLR", {"T_max": 2})
    rates(schedule, num_epochs=2, callbacks=[Checkpoint(tmp_path, optimizer_state=True)])
    found = rates(schedule, num_epochs=4, resume=tmp_path)
    assert found == pytest.approx([0.0] * 3 + [0.05] * 3)


def test_more_epochs_of_one_cycle_are_refused(tmp_path: Path) -> None:
    rates("one_cycle", num_epochs=2, callbacks=[Checkpoint(tmp_path, optimizer_state=True)])
    refused = "0 steps left, and the run makes up to 6; resume with fewer"
    with (
        pytest.warns(ArgusWarning, match=r"\(warmup 2, total_steps 6\) and not one over the present length"),
        pytest.raises(StateMismatchError, match=refused),
    ):
        rates("one_cycle", num_epochs=4, resume=tmp_path)


def test_a_schedule_that_a_resumed_run_adds_covers_the_rest_of_it(tmp_path: Path) -> None:
    rates(None, num_epochs=2, callbacks=[Checkpoint(tmp_path, optimizer_state=True)])
    with pytest.warns(ArgusWarning, match="is new and starts from the present learning rate"):
        found = rates(("warmup_cosine", {"warmup": 2}), num_epochs=4, resume=tmp_path)
    assert found == pytest.approx(curve(cosine, 2, 6))


def test_a_schedulers_own_interval_is_the_default() -> None:
    model = make_model()
    model.fit(batches(), num_epochs=2, lr_scheduler=("warmup_linear", {"warmup": "1ep", "interval": "epoch"}))
    assert model.get_lr() == pytest.approx(0.0)
    with pytest.raises(ParamsError, match="warmup is 2 steps, and the whole schedule has 1"):
        rates(("warmup_linear", {"warmup": 2, "interval": "epoch"}), num_epochs=1)

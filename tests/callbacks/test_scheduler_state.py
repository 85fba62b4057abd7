"""How long a schedule lasts: one that ends before the run is refused before anything runs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Batch, batches, make_model, same_weights

import argus_core
from argus_core import ArgusError, Model, SpecError, StateMismatchError
from argus_core.callbacks.lr_schedule import build_schedules
from argus_core.callbacks.scheduler_state import steps_left

pytestmark = pytest.mark.usefixtures("net_registry")

DATA = batches()  # three


def one_cycle(total: int, **params: Any) -> Any:
    return "OneCycleLR", {"max_lr": 0.1, "total_steps": total, "cycle_momentum": False, **params}


def sequential(milestones: list[int], *schedulers: Any) -> Any:
    return "SequentialLR", {"schedulers": list(schedulers), "milestones": milestones}


def chained(*schedulers: Any) -> Any:
    return "ChainedScheduler", {"schedulers": list(schedulers)}


SPECS: list[Any] = [
    one_cycle(1),
    one_cycle(7),
    sequential([3], "ConstantLR", one_cycle(5)),
    sequential([3], one_cycle(2), "ConstantLR"),
    sequential([3], one_cycle(1), "ConstantLR"),
    sequential([2, 6], "ConstantLR", one_cycle(3), "ConstantLR"),
    sequential([2, 6], "ConstantLR", one_cycle(2), one_cycle(4)),
    chained("ConstantLR", one_cycle(4)),
    chained(one_cycle(6), one_cycle(4)),
    sequential([3], chained("ConstantLR", one_cycle(1)), "ConstantLR"),
    chained(sequential([3], "ConstantLR", one_cycle(4)), "ConstantLR"),
    ("CosineAnnealingLR", {"T_max": 3}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 1.0}),
    ("ReduceLROnPlateau", {"monitor": "val_loss"}),
]


def built(spec: Any) -> Any:
    (schedule,) = build_schedules([spec], make_model())
    schedule.scheduler.optimizer.step()
    return schedule.scheduler


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("made", [0, 1, 4])
@pytest.mark.filterwarnings("ignore:.*lr_scheduler")
def test_the_steps_left_are_those_that_torch_makes(spec: Any, made: int) -> None:
    scheduler = built(spec)
    step = (lambda: scheduler.step(1.0)) if spec[0] == "ReduceLROnPlateau" else scheduler.step
    for _ in range(made):
        if steps_left(scheduler) > 0:
            step()
    left = steps_left(scheduler)
    for _ in range(20 if left == math.inf else int(left)):
        step()
    if left < math.inf:
        with pytest.raises(ValueError, match="Tried to step"):
            step()


@pytest.mark.parametrize(
    ("spec", "num_epochs", "message"),
    [
        (
            one_cycle(8, interval="update"),
            3,
            "'OneCycleLR' has 8 steps left, and the run makes up to 9; give it 9",
        ),
        (
            one_cycle(2),
            3,
            "'OneCycleLR' has 2 steps left, and the run makes up to 3; give it 3 total_steps, or",
        ),
        (
            ("SequentialLR", {**sequential([2], "ConstantLR", one_cycle(5))[1], "interval": "update"}),
            3,
            "'SequentialLR' has 7 steps left, and the run makes up to 9",
        ),
        (["StepLR", one_cycle(8, interval="update")], 3, "'OneCycleLR' has 8 steps left"),
    ],
)
def test_a_schedule_that_ends_before_the_run_is_refused_before_anything_runs(
    spec: Any, num_epochs: int, message: str, tmp_path: Path
) -> None:
    if isinstance(spec, list):
        spec = [("StepLR", {"step_size": 1}), spec[1]]
    log = ("logging_to_file", {"file_path": str(tmp_path / "log.txt")})
    model, fresh = make_model(), make_model()
    with pytest.raises(SpecError, match=message):
        model.fit(DATA, num_epochs=num_epochs, lr_scheduler=spec, callbacks=[log])
    assert same_weights(model, fresh)
    assert not (tmp_path / "log.txt").exists()


@pytest.mark.parametrize("step", [None, ("accumulate", {"steps": 2})])
def test_a_schedule_of_the_runs_length_runs_to_its_end(step: Any) -> None:
    updates = 9 if step is None else 6  # two windows an epoch
    model = make_model(**({} if step is None else {"step": step}))
    model.fit(DATA, num_epochs=3, lr_scheduler=one_cycle(updates, interval="update"))
    with pytest.raises(SpecError, match=f"has {updates - 1} steps left"):
        model.fit(DATA, num_epochs=3, lr_scheduler=one_cycle(updates - 1, interval="update"))


def test_where_the_length_is_not_known_the_end_of_a_schedule_is_one_sentence() -> None:
    class Endless:
        def __iter__(self) -> Iterator[Batch]:
            return iter(DATA)

    with pytest.raises(
        ArgusError,
        match=r"lr_scheduler 'OneCycleLR' cannot make its next step \(ValueError: Tried to step 5 .*; give",
    ):
        make_model().fit(Endless(), num_epochs=3, lr_scheduler=one_cycle(4, interval="update"))


def keep(folder: Path, **options: Any) -> list[Any]:
    return [("checkpoint", {"dir_path": str(folder), "optimizer_state": True, **options})]


def test_a_run_that_resumes_for_more_epochs_than_its_schedule_has_is_refused(tmp_path: Path) -> None:
    def fit(num_epochs: int, total: int, **options: Any) -> Model:
        model = make_model()
        schedule = one_cycle(total, interval="update")
        model.fit(DATA, num_epochs=num_epochs, lr_scheduler=schedule, callbacks=keep(tmp_path), **options)
        return model

    fit(2, 6)
    for total in (6, 12):
        with (
            pytest.warns(argus_core.errors.ArgusWarning) if total == 12 else contextlib.nullcontext(),
            pytest.raises(
                StateMismatchError,
                match="has 0 steps left, and the run makes up to 6; resume with fewer num_epochs, as .* or "
                "load the weights with load_model and start a new run",
            ),
        ):
            fit(4, total, resume=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("every", ["1up", "2up", "4up", "1ep"])
def test_a_run_resumes_to_the_end_of_its_schedule(every: str, tmp_path: Path) -> None:
    @argus_core.on_iteration_complete
    def crash(state: Any) -> None:
        if state.global_step == 5:
            raise RuntimeError("the power is out")

    schedule = one_cycle(6, interval="update")
    callbacks = keep(tmp_path, every=every, save_after_exception=True)
    whole, resumed = make_model(), make_model()
    whole.fit(DATA, num_epochs=2, lr_scheduler=schedule)
    with pytest.raises(RuntimeError):
        make_model().fit(DATA, num_epochs=2, lr_scheduler=schedule, callbacks=[*callbacks, crash])
    resumed.fit(DATA, num_epochs=2, lr_scheduler=schedule, callbacks=callbacks, resume=tmp_path)
    assert same_weights(resumed, whole)


def test_a_state_beyond_the_end_is_refused_too(tmp_path: Path) -> None:
    scheduler = built(one_cycle(4))
    scheduler.last_epoch = torch.iinfo(torch.int64).max
    assert steps_left(scheduler) < 0

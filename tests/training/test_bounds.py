"""A run ends at the first of its bounds, and continues exactly when it is resumed with a higher one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches, make_model, same_weights
from strategies import register_all

from argus_core import ArgusError, Model, ParamsError, SpecError, State, on_complete, on_iteration_complete
from argus_core.errors import StateMismatchError
from argus_core.storage import read_header

pytestmark = pytest.mark.usefixtures("net_registry")

DATA = batches((4, 3, 5, 2))


def run(folder: Path | None = None, resume: Path | None = None, **options: Any) -> tuple[Model, State]:
    """Train over four batches an epoch; checkpoints hold the run."""
    model = make_model(optimizer=("AdamW", {"lr": 0.01}))
    kept: list[State] = []
    keep = ("checkpoint", {"dir_path": str(folder), "every": "1up", "optimizer_state": True})
    callbacks = [on_complete(kept.append), *([keep] if folder else []), *options.pop("callbacks", [])]
    model.fit(DATA, DATA, callbacks=callbacks, resume=resume, **options)
    return model, kept[0]


@pytest.mark.parametrize(
    ("bounds", "updates", "reason"),
    [
        ({}, 4, None),
        ({"num_epochs": 2}, 8, None),
        ({"num_updates": 6}, 6, "num_updates=6 ended the run after 6 updates, in epoch 2"),
        ({"num_updates": 8}, 8, "num_updates=8 ended the run after 8 updates, in epoch 2"),
        ({"num_epochs": 2, "num_updates": 5}, 5, "num_updates=5 ended the run after 5 updates, in epoch 2"),
        ({"num_epochs": 1, "num_updates": 5}, 4, "num_epochs=1 ended the run after 4 updates, in epoch 1"),
        ({"num_epochs": 1, "max_time": "3h"}, 4, "num_epochs=1 ended the run after 4 updates, in epoch 1"),
        ({"max_time": "0.0000001min"}, 0, "max_time=0.0000001min ended the run after 0 updates, in epoch 1"),
    ],
)
def test_run_ends_at_its_first_bound_and_says_which(
    bounds: dict[str, Any], updates: int, reason: str | None
) -> None:
    _, state = run(**bounds)
    assert (state.global_step, state.stop_reason) == (updates, reason)
    assert updates == 0 or {"train_loss", "val_loss"} <= state.metrics.keys()


@pytest.mark.parametrize("first", range(1, 9))
def test_run_that_ended_at_an_update_continues_exactly(first: int, tmp_path: Path) -> None:
    schedule = ("ReduceLROnPlateau", {"monitor": "val_loss", "patience": 0, "threshold": 10.0})
    whole, whole_state = run(num_updates=11, lr_scheduler=schedule)
    run(tmp_path, num_updates=first, lr_scheduler=schedule)
    resumed, state = run(tmp_path, tmp_path, num_updates=11, lr_scheduler=schedule)
    assert same_weights(whole, resumed)
    assert state.metrics == whole_state.metrics


def test_skipped_updates_do_not_count(tmp_path: Path) -> None:
    register_all()
    model = make_model(step=("veto", {"updates": [1, 2]}))
    steps: list[int] = []
    model.fit(DATA, num_updates=3, callbacks=[on_iteration_complete(lambda s: steps.append(s.global_step))])
    assert steps == [1, 1, 1, 2, 3]


def test_run_that_skips_every_update_fails_rather_than_never_to_end() -> None:
    model = make_model(step=("finite_guard", {"policy": "skip", "max_consecutive": 10_000}))
    nothing = [(torch.full((2, 4), torch.nan), torch.zeros(2, dtype=torch.long))] * 500
    with pytest.raises(ArgusError, match=r"the last 1000 updates were all skipped, so num_updates=3 is not"):
        model.fit(nothing, num_updates=3)


def test_time_of_a_resumed_run_counts_that_of_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, num_updates=2)
    path = tmp_path / "model-000-000002.safetensors"
    assert 0 < read_header(path).manifest["progress"]["counters"]["seconds"] < 60
    _, state = run(tmp_path, path, max_time="0.000001min")
    assert state.stop_reason == "max_time=0.000001min ended the run after 2 updates, in epoch 1"
    assert re.search(
        r"is complete \(0\.\d of 0\.0 minutes\); to train longer, resume with max_time=1min or more",
        caplog.text,
    )


def test_complete_run_says_with_how_many_updates_to_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, num_updates=6)
    _, state = run(resume=tmp_path, num_updates=6)
    assert state.global_step == 6
    assert "is complete (6 of 6 updates); to train longer, resume with num_updates=7 or more" in caplog.text


def test_best_checkpoint_is_of_a_run_that_ends_within_an_epoch(tmp_path: Path) -> None:
    run(num_updates=2, callbacks=[("monitor_checkpoint", {"dir_path": str(tmp_path)})])
    (path,) = tmp_path.iterdir()
    assert read_header(path).manifest["run"]["global_step"] == 2


@pytest.mark.parametrize("value", [0, -1, True, 2.0, float("nan"), "5", 2**31])
@pytest.mark.parametrize("name", ["num_epochs", "num_updates"])
def test_number_that_is_none_is_refused(name: str, value: object) -> None:
    with pytest.raises(ParamsError, match=rf"^{name} is .*; give an integer from 1 to 2\*\*31 - 1$"):
        run(**{name: value})


@pytest.mark.parametrize("value", [0, 60, True, float("nan"), "5ep", "3up", "0h", "-1min", "nanmin", "soon"])
def test_time_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ParamsError, match=r"^max_time is .*; give minutes or hours, such as '90min' or '3h'"):
        run(max_time=value)


def once(total: int, **more: Any) -> Any:
    return ("OneCycleLR", {"max_lr": 0.1, "total_steps": total, **more})


@pytest.mark.parametrize(
    ("bounds", "schedule"),
    [
        ({"num_updates": 6}, once(6, interval="update")),
        ({"num_updates": 11}, once(2)),
        ({"num_updates": 100, "num_epochs": 2}, once(8, interval="update")),
    ],
)
def test_schedule_lasts_for_the_updates_of_the_run(bounds: dict[str, Any], schedule: Any) -> None:
    run(**bounds, lr_scheduler=schedule)


@pytest.mark.parametrize(
    ("bounds", "schedule", "message"),
    [
        (
            {"num_updates": 7},
            once(6, interval="update"),
            r"has 6 steps left, and the run makes up to 7; give it 7 total_steps, or fewer num_updates$",
        ),
        ({"num_updates": 12}, once(2), r"has 2 steps left, and the run makes up to 3; give it 3 total_steps"),
        (
            {"max_time": "3h"},
            once(6),
            r"has 6 steps, and the number of steps that the run makes is not known; give num_epochs or",
        ),
    ],
)
def test_schedule_that_ends_before_the_run_is_refused(
    bounds: dict[str, Any], schedule: Any, message: str
) -> None:
    with pytest.raises(SpecError, match=rf"^lr_scheduler 'OneCycleLR' {message}"):
        run(**bounds, lr_scheduler=schedule)


def test_resumed_schedule_that_ends_before_the_updates_is_refused(tmp_path: Path) -> None:
    schedule = once(6, interval="update")
    run(tmp_path, num_updates=6, lr_scheduler=schedule)
    with pytest.raises(StateMismatchError, match=r"resume with fewer num_updates, as a schedule follows"):
        run(tmp_path, tmp_path, num_updates=7, lr_scheduler=schedule)

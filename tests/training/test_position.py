"""Checkpoints hold a position between two events, and those of earlier versions resume as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches, make_model, same_weights
from torch.nn.utils import parameters_to_vector

import argus_core
from argus_core import Callback, Model, State
from argus_core.callbacks.state import Position
from argus_core.storage import read_header
from argus_core.training.position import is_progress, position_in

pytestmark = pytest.mark.usefixtures("net_registry")

DATA = batches((4, 3, 5, 2))
# Written by a version whose checkpoints could lie in the middle of an event: `fit` below, run with it.
EARLIER = Path(__file__).parents[1] / "golden" / "runs"


class Tally(Callback):
    """Counts the events that it handles, and keeps the counts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.updates = self.epochs = 0

    @property
    def name(self) -> str:
        return self._name

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates, self.epochs = state_dict["updates"], state_dict["epochs"]

    def iteration_complete(self, state: State) -> None:
        self.updates += 1

    def epoch_complete(self, state: State) -> None:
        self.epochs += 1


class Failing(Callback):
    """Fails in the second epoch: at the end of its second update, or at its own end."""

    def __init__(self, event: str | None) -> None:
        self.event = event

    def iteration_complete(self, state: State) -> None:
        if self.event == "update" and state.global_step == 6:
            raise RuntimeError("the power is out")

    def epoch_complete(self, state: State) -> None:
        if self.event == "epoch" and state.epoch == 1:
            raise RuntimeError("the power is out")


def fit(folder: Path, event: str | None = None, resume: Path | None = None) -> tuple[Model, Tally, Tally]:
    """Train with a callback that fails in an event; return the model and tallies before and after it."""
    model, first, last = make_model(), Tally("first"), Tally("last")
    model.fit(
        DATA,
        DATA,
        num_epochs=3,
        callbacks=[
            first,
            Failing(event),
            ("checkpoint", {"dir_path": str(folder), "optimizer_state": True, "save_after_exception": True}),
            ("monitor_checkpoint", {"dir_path": str(folder / "best"), "file_format": "{epoch}.safetensors"}),
            last,
        ],
        lr_scheduler=[
            ("CosineAnnealingLR", {"T_max": 20, "interval": "update"}),
            ("ExponentialLR", {"gamma": 0.5}),
        ],
        seed=3,
        resume=resume,
    )
    return model, first, last


def best(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "best").iterdir())


@pytest.mark.filterwarnings("ignore:the run that")  # other versions wrote it
@pytest.mark.parametrize("event", ["update", "epoch"])
def test_a_half_heard_event_of_an_earlier_version_is_raised_for_the_others(
    event: str, tmp_path: Path
) -> None:
    whole, first, last = fit(tmp_path / "whole")
    resumed, *tallies = fit(tmp_path / "resumed", resume=EARLIER / f"half-heard-{event}.safetensors")
    assert [tally.state_dict() for tally in tallies] == [
        first.state_dict(),
        # No batch and no output are left of an update, so schedules alone catch up.
        {"updates": last.updates - (event == "update"), "epochs": last.epochs},
    ]
    assert resumed.get_lr() == whole.get_lr()
    found, expected = (parameters_to_vector(each.nn_module.parameters()) for each in (resumed, whole))
    assert torch.allclose(found, expected, atol=1e-6)  # the files are from another processor


def test_callbacks_that_come_after_one_which_fails_still_handle_the_update(tmp_path: Path) -> None:
    whole, first, last = fit(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="the power is out"):
        fit(tmp_path / "run", "update")
    resumed, *tallies = fit(tmp_path / "run", resume=tmp_path / "run")
    assert [tally.state_dict() for tally in tallies] == [first.state_dict(), last.state_dict()]
    assert resumed.get_lr() == whole.get_lr()
    assert same_weights(resumed, whole)


def test_the_end_of_an_epoch_that_fails_is_repeated_from_the_state_before_it(tmp_path: Path) -> None:
    whole, first, last = fit(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="the power is out"):
        fit(tmp_path / "run", "epoch")
    (path,) = (tmp_path / "run").glob("*-RuntimeError.safetensors")
    progress = read_header(path).manifest["progress"]
    assert position_in(progress) == Position(updates_done=4, begun=True, trained=True)
    assert progress["callback"]["first"] == {"updates": 8, "epochs": 1}  # though it has handled the event
    resumed, *tallies = fit(tmp_path / "run", resume=path)
    assert [tally.state_dict() for tally in tallies] == [first.state_dict(), last.state_dict()]
    assert resumed.get_lr() == whole.get_lr()
    assert same_weights(resumed, whole)
    assert best(tmp_path / "run") == best(tmp_path / "whole")


def test_a_callback_that_fails_after_a_schedule_leaves_the_rate_of_before(tmp_path: Path) -> None:
    model = make_model()

    @argus_core.on_event("checkpoint_saved")
    def fail(state: State) -> None:
        raise RuntimeError("the power is out")

    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    with pytest.raises(RuntimeError, match="the power is out"):
        model.fit(DATA, callbacks=[keep, fail], lr_scheduler=("ExponentialLR", {"gamma": 0.5}))
    assert model.get_lr() == 0.1


def test_the_end_of_an_epoch_is_repeated_without_its_batches(tmp_path: Path) -> None:
    """Also of a loader that cannot skip any, and whatever the next epochs read."""
    steps: list[tuple[int, int]] = []
    note = argus_core.on_iteration_complete(lambda state: steps.append((state.epoch, state.iteration)))

    @argus_core.on_epoch_complete
    def fail(state: State) -> None:
        raise RuntimeError("the power is out")

    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True, "save_after_exception": True})
    with pytest.raises(RuntimeError, match="the power is out"):
        make_model().fit(iter(DATA), callbacks=[fail, keep])
    make_model().fit(iter(DATA[:2]), num_epochs=2, callbacks=[note, keep], resume=tmp_path)
    assert steps == [(1, 0), (1, 1)]
    assert (tmp_path / "model-000.safetensors").exists()


def test_a_further_failure_after_the_first_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Second(Callback):
        def iteration_complete(self, state: State) -> None:
            raise OSError("disk full")

    @argus_core.on_iteration_complete
    def fail(state: State) -> None:
        raise RuntimeError("the power is out")

    with pytest.raises(RuntimeError, match="the power is out"):
        make_model().fit(DATA, callbacks=[fail, Second()])
    assert "a callback failed in iteration_complete" in caplog.text
    assert "disk full" in caplog.text


def test_no_checkpoint_of_the_usual_name_is_written_once_a_callback_has_failed(tmp_path: Path) -> None:
    @argus_core.on_iteration_complete
    def fail(state: State) -> None:
        raise RuntimeError("the power is out")

    keep = ("checkpoint", {"dir_path": str(tmp_path), "every": "1up", "save_after_exception": True})
    with pytest.raises(RuntimeError, match="the power is out"):
        make_model().fit(DATA, callbacks=[keep, fail])
    assert [path.name for path in tmp_path.iterdir()] == ["model-000-000001-RuntimeError.safetensors"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_checkpoint_holds_what_other_callbacks_have_counted(order: tuple[int, int], tmp_path: Path) -> None:
    """Whatever the list says: those that write it are called last, so a killed run loses no event."""
    callbacks: list[Any] = [
        ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True}),
        ("monitor_checkpoint", {"dir_path": str(tmp_path / "best"), "monitor": "train_loss"}),
    ]
    make_model().fit(DATA, callbacks=[callbacks[index] for index in order])
    progress = read_header(tmp_path / "model-000.safetensors").manifest["progress"]
    assert progress["callback"]["monitor_checkpoint"]["best_epoch"] == 0
    assert position_in(progress).done


@pytest.mark.parametrize("value", [1, "yes", None])
def test_a_position_that_argus_core_never_writes_is_refused(value: Any, tmp_path: Path) -> None:
    make_model().fit(DATA, callbacks=[("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})])
    progress = dict(read_header(tmp_path / "model-000.safetensors").manifest["progress"])
    assert is_progress(progress)
    progress["counters"] = {**progress["counters"], "epoch_trained": value}
    assert not is_progress(progress)

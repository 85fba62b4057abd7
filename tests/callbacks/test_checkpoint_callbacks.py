"""Checkpoints written in a run: when, under which names, which are kept, and what they hold."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from planned_runs import planned_engine, planned_run, small_model

import argus_core
from argus_core import ArgusError, BuildError, Callback, Model, ParamsError, State
from argus_core.callbacks import Checkpoint, MonitorCheckpoint

NAN = math.nan


@pytest.fixture
def model() -> Iterator[Model]:
    with small_model() as model:
        yield model


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("1ep", ["model-000", "model-001", "model-002", "model-003", "model-004"]),
        ("2ep", ["model-001", "model-003"]),
        ("3up", ["model-000-000003", "model-001-000006", "model-002-000009"]),
        (" 4 up ", ["model-000-000004", "model-001-000008"]),
        ("100up", []),
        ("0.0000000001min", [f"model-{step // 4:03d}-{step + 1:06d}" for step in range(10)]),
        ("10min", []),
    ],
)
def test_saves_at_its_cadence(every: str, expected: list[str], model: Model, tmp_path: Path) -> None:
    epochs, updates = (5, 2) if every.endswith("ep") else (3, 4)
    callback = Checkpoint(tmp_path, every=every)
    engine = planned_engine(model, [1.0] * 5, [callback, StopAfter(10)])
    engine.run(range(updates), epochs)
    assert files(tmp_path) == [f"{name}.safetensors" for name in expected]
    assert callback.saved == [tmp_path / name for name in files(tmp_path)]


class StopAfter(Callback):
    def __init__(self, updates: int) -> None:
        self.updates = updates

    def iteration_complete(self, state: State) -> None:
        state.stopped = state.global_step == self.updates


def test_minutes_are_counted_from_the_last_save(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(Callback):
        minutes = 0.0

        def iteration_complete(self, state: State) -> None:
            self.minutes += 4

    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.minutes * 60)
    planned_run(model, [1.0], Checkpoint(tmp_path, every="10min"), clock, updates=8)
    assert files(tmp_path) == ["model-000-000003.safetensors", "model-000-000006.safetensors"]


def test_skipped_updates_save_nothing_again(model: Model, tmp_path: Path) -> None:
    saves: list[int] = []

    class Note(Callback):
        def checkpoint_saved(self, state: State) -> None:
            saves.append(state.iteration)

    class Output(dict[str, Any]):
        stepped = True

    def step(batch: int, state: State) -> Output:
        output = Output(prediction=None, target=None, loss=0.0)
        output.stepped = batch not in (2, 3)
        return output

    callbacks = [Checkpoint(tmp_path, every="2up"), Note()]
    argus_core.Engine(step, model, callbacks=callbacks).run(range(6))
    assert saves == [1, 5]


@pytest.mark.parametrize(
    "every", ["", "2", "ep", "2epochs", "-1ep", "0ep", "1.5ep", "0min", "1.5up", "2ep 3", 2, None, "infmin"]
)
def test_cadence_that_means_nothing_is_refused(every: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ParamsError,
        match=r"checkpoint has every=.*; give epochs, updates, minutes or hours, such as '2ep', '500up'",
    ):
        Checkpoint(tmp_path, every=every)


@pytest.mark.parametrize("max_saves", [0, -1, 1.0, "3", True])
def test_max_saves_that_is_no_count_is_refused(max_saves: Any, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="max_saves of checkpoint is .+; give an integer of at least 1"):
        Checkpoint(tmp_path, max_saves=max_saves)


@pytest.mark.parametrize(
    "file_format", ["model-{epoch:q}.pt", "model-{.pt", "model-{}.pt", 3, "{epoch.year}"]
)
def test_file_format_that_cannot_be_filled_in_is_refused(file_format: Any, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"checkpoint has file_format=.* which is not a valid format"):
        Checkpoint(tmp_path, file_format=file_format)


def test_file_format_may_tell_metrics(model: Model, tmp_path: Path) -> None:
    planned_run(
        model, [0.25], Checkpoint(tmp_path, file_format="{epoch}-{step}-{train_loss:.2f}.safetensors")
    )
    assert files(tmp_path) == ["0-2-0.25.safetensors"]


def test_file_format_with_an_unknown_metric_names_those_that_there_are(model: Model, tmp_path: Path) -> None:
    with pytest.raises(
        ArgusError,
        match=r"there is no 'train_los'; did you mean 'train_loss'\? \(there are: train_loss, epoch, step\)",
    ):
        planned_run(model, [0.25], Checkpoint(tmp_path, file_format="{train_los}.safetensors"))


@pytest.mark.parametrize("dir_path", ["", None, 3])
def test_folder_that_is_no_path_is_refused(dir_path: Any) -> None:
    with pytest.raises(ParamsError, match="checkpoint takes a path for dir_path, such as 'runs/a', not"):
        Checkpoint(dir_path)


def test_folders_are_made_at_the_start(model: Model, tmp_path: Path) -> None:
    planned_run(model, [1.0], Checkpoint(tmp_path / "runs" / "a", every="100up"))
    assert (tmp_path / "runs" / "a").is_dir()


def test_folder_that_is_a_file_is_refused_at_the_start(model: Model, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(
        ArgusError, match=r"checkpoint cannot write '.*runs': .*; make room there or choose another"
    ):
        planned_run(model, [1.0], Checkpoint(tmp_path / "runs"))


def test_keeps_the_newest_files_of_its_own_and_no_others_are_touched(model: Model, tmp_path: Path) -> None:
    for name in ("model-000.safetensors.bak", "other.safetensors"):
        (tmp_path / name).write_text("")
    planned_run(model, [1.0] * 4, Checkpoint(tmp_path, max_saves=2))
    assert files(tmp_path) == [
        "model-000.safetensors.bak", "model-002.safetensors", "model-003.safetensors", "other.safetensors",
    ]  # fmt: skip


def test_files_of_an_earlier_run_are_not_deleted(model: Model, tmp_path: Path) -> None:
    callback = Checkpoint(tmp_path, max_saves=1, file_format="{train_loss:.0f}-{epoch}.safetensors")
    planned_run(model, [1.0, 1.0], callback)
    planned_run(model, [2.0, 2.0], callback)
    assert files(tmp_path) == ["1-1.safetensors", "2-1.safetensors"]


def test_one_name_for_all_saves_keeps_the_newest(model: Model, tmp_path: Path) -> None:
    planned_run(model, [1.0] * 3, Checkpoint(tmp_path, max_saves=1, file_format="last.safetensors"))
    assert files(tmp_path) == ["last.safetensors"]


def test_name_that_comes_again_counts_as_new(model: Model, tmp_path: Path) -> None:
    file_format = "{train_loss:.0f}.safetensors"
    planned_run(model, [1.0, 2.0, 1.0, 3.0], Checkpoint(tmp_path, max_saves=2, file_format=file_format))
    assert files(tmp_path) == ["1.safetensors", "3.safetensors"]


def test_file_that_cannot_be_deleted_is_only_reported(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Obstruct(Callback):
        def checkpoint_saved(self, state: State) -> None:
            path = state.checkpoint_path
            assert path is not None
            if state.epoch == 0:
                path.unlink()
                path.mkdir()

    planned_run(model, [1.0, 1.0], Checkpoint(tmp_path, max_saves=1), Obstruct())
    assert files(tmp_path) == ["model-000.safetensors", "model-001.safetensors"]
    assert "could not delete" in caplog.text


def test_checkpoint_saved_is_raised_when_the_file_is_there(model: Model, tmp_path: Path) -> None:
    seen = []

    class Note(Callback):
        def checkpoint_saved(self, state: State) -> None:
            assert state.checkpoint_path is not None
            assert state.checkpoint_path.exists()
            seen.append(state.checkpoint_path.name)

    planned_run(model, [1.0, 1.0], Note(), Checkpoint(tmp_path))
    assert seen == ["model-000.safetensors", "model-001.safetensors"]


def test_saves_after_the_other_callbacks_wherever_it_is_listed(model: Model, tmp_path: Path) -> None:
    class Change(Callback):
        def epoch_complete(self, state: State) -> None:
            state.metrics["changed"] = 7.0

    planned_run(model, [1.0], Checkpoint(tmp_path, file_format="{changed:.0f}.safetensors"), Change())
    assert files(tmp_path) == ["7.safetensors"]


@pytest.mark.parametrize("optimizer_state", [True, False])
def test_file_loads_as_the_model_of_that_moment(optimizer_state: bool, tmp_path: Path) -> None:
    with small_model(optimizer=("SGD", {"lr": 0.1, "momentum": 0.9})) as model:
        weights: list[dict[str, torch.Tensor]] = []

        class Note(Callback):
            def epoch_complete(self, state: State) -> None:
                weights.append({name: value.clone() for name, value in model.nn_module.state_dict().items()})

        callback = Checkpoint(tmp_path, optimizer_state=optimizer_state)
        model.fit(batches(), num_epochs=2, callbacks=[callback, Note()])
        for path, state in zip(callback.saved, weights, strict=True):
            loaded = argus_core.load_model(path)
            torch.testing.assert_close(dict(loaded.nn_module.state_dict()), state, rtol=0, atol=0)
            assert bool(loaded.optimizer.state) is optimizer_state


def test_file_tells_epoch_updates_and_metrics(model: Model, tmp_path: Path) -> None:
    given = []
    save = model.save
    model.save = lambda *args, **kwargs: (given.append(kwargs["run"]), save(*args, **kwargs))  # type: ignore[method-assign]
    planned_run(model, [0.5], Checkpoint(tmp_path))
    (run,) = given
    assert run.pop("id")
    assert run == {"epoch": 0, "global_step": 2, "times_resumed": 0, "metrics": {"train_loss": 0.5}}


class Raise(Callback):
    def __init__(self, error: BaseException, event_step: int) -> None:
        self.error = error
        self.event_step = event_step

    def iteration_start(self, state: State) -> None:
        if state.global_step == self.event_step:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_exception_is_followed_by_a_save_if_wanted(
    error: BaseException, model: Model, tmp_path: Path
) -> None:
    callback = Checkpoint(tmp_path, max_saves=1, save_after_exception=True)
    with pytest.raises(type(error)):
        planned_run(model, [1.0] * 3, callback, Raise(error, 3))
    assert files(tmp_path) == [
        "model-000.safetensors",
        f"model-001-000003-{type(error).__name__}.safetensors",
    ]


def test_a_subclass_says_what_is_saved_and_what_the_file_of_an_exception_is_called(
    model: Model, tmp_path: Path
) -> None:
    class Names(Checkpoint):
        def save_model(self, state: State, path: Path) -> None:
            path.write_text(str(state.global_step))

        def exception_name(self, state: State) -> str:
            return "broken.txt"

    callback = Names(tmp_path, file_format="{epoch}.txt", save_after_exception=True)
    with pytest.raises(RuntimeError, match="boom"):
        planned_run(model, [1.0] * 3, callback, Raise(RuntimeError("boom"), 3))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0.txt": "2", "broken.txt": "3"}


def test_exception_saves_nothing_unless_wanted(model: Model, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"):
        planned_run(model, [1.0] * 3, Checkpoint(tmp_path), Raise(RuntimeError("boom"), 3))
    assert files(tmp_path) == ["model-000.safetensors"]


def test_exception_before_the_first_update_saves_nothing(model: Model, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"):
        planned_run(
            model, [1.0], Checkpoint(tmp_path, save_after_exception=True), Raise(RuntimeError("boom"), 0)
        )
    assert files(tmp_path) == []


def test_failure_to_save_after_an_exception_does_not_hide_it(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Fail(Raise):
        def iteration_start(self, state: State) -> None:
            if state.global_step == 1:
                tmp_path.joinpath("a").rmdir()
                tmp_path.joinpath("a").write_text("")  # a file in the folder's place
            super().iteration_start(state)

    callback = Checkpoint(tmp_path / "a", save_after_exception=True)
    with pytest.raises(RuntimeError, match="boom"):
        planned_run(model, [1.0], callback, Fail(RuntimeError("boom"), 1))
    assert "could not save" in caplog.text


@pytest.mark.parametrize("callback_class", [Checkpoint, MonitorCheckpoint])
def test_restored_callback_goes_on_where_it_was(
    callback_class: type[Checkpoint], model: Model, tmp_path: Path
) -> None:
    kwargs = {"monitor": "train_loss"} if callback_class is MonitorCheckpoint else {}
    first = callback_class(tmp_path, max_saves=2, **kwargs)  # type: ignore[arg-type]
    run_id = planned_run(model, [3.0, 2.0], first).engine.run_id
    second = callback_class(tmp_path, max_saves=2, **kwargs)  # type: ignore[arg-type]
    second.load_state_dict(first.state_dict())
    engine = planned_engine(model, [3.0, 2.0, 1.0], [second])
    engine.run_id = run_id
    engine.run(range(2), 3, 2)
    assert [name[:9] for name in files(tmp_path)] == ["model-001", "model-002"]


def test_monitor_checkpoint_that_is_restored_remembers_the_best(model: Model, tmp_path: Path) -> None:
    callback = MonitorCheckpoint(tmp_path, monitor="train_loss")
    callback.load_state_dict({"saved": [], "last_step": 0, "best": 1.0})
    planned_run(model, [1.5, 0.5], callback)
    assert files(tmp_path) == ["model-001-0.500000.safetensors"]


def test_monitor_checkpoint_that_is_used_again_begins_anew(model: Model, tmp_path: Path) -> None:
    callback = MonitorCheckpoint(tmp_path, monitor="train_loss")
    planned_run(model, [1.0], callback)
    planned_run(model, [2.0], callback)
    assert files(tmp_path) == ["model-000-1.000000.safetensors", "model-000-2.000000.safetensors"]


@pytest.mark.parametrize(
    ("better", "losses", "saved"),
    [
        ("auto", [3.0, 2.0, 2.0, 4.0, 1.0], [0, 1, 4]),
        ("min", [3.0, 2.0, 2.0, 4.0, 1.0], [0, 1, 4]),
        ("max", [3.0, 2.0, 3.0, 4.0, 1.0], [0, 3]),
        ("min", [NAN, 2.0, NAN, -math.inf, 1.0], [1, 4]),
        ("max", [NAN, 2.0, NAN, math.inf, 3.0], [1, 4]),
        ("min", [NAN, NAN], []),
    ],
)
def test_monitor_checkpoint_saves_what_is_better_than_ever(
    better: str, losses: list[float], saved: list[int], model: Model, tmp_path: Path
) -> None:
    planned_run(model, losses, MonitorCheckpoint(tmp_path, monitor="train_loss", better=better))
    assert files(tmp_path) == [f"model-{epoch:03d}-{losses[epoch]:.6f}.safetensors" for epoch in saved]


def test_monitor_checkpoint_keeps_the_best_files(model: Model, tmp_path: Path) -> None:
    losses = [5.0, 4.0, 6.0, 3.0, 3.5, NAN]
    planned_run(model, losses, MonitorCheckpoint(tmp_path, monitor="train_loss", max_saves=2))
    assert files(tmp_path) == ["model-001-4.000000.safetensors", "model-003-3.000000.safetensors"]


def test_monitor_checkpoint_looks_only_at_its_cadence(model: Model, tmp_path: Path) -> None:
    planned_run(model, [4.0, 3.0, 1.0, 2.0], MonitorCheckpoint(tmp_path, monitor="train_loss", every="2ep"))
    assert files(tmp_path) == ["model-001-3.000000.safetensors", "model-003-2.000000.safetensors"]


@pytest.mark.parametrize("every", ["10up", "5min"])
def test_monitor_checkpoint_refuses_a_cadence_within_epochs(every: str, tmp_path: Path) -> None:
    with pytest.raises(
        ParamsError,
        match="monitor_checkpoint has every=.*; metrics are computed once an epoch, so give '1ep'",
    ):
        MonitorCheckpoint(tmp_path, every=every)


def test_monitor_checkpoint_says_at_the_first_epoch_that_nobody_computes_its_metric(
    model: Model, tmp_path: Path
) -> None:
    callback = MonitorCheckpoint(tmp_path, monitor="val_loss", every="3ep")
    with pytest.raises(BuildError, match="monitor of monitor_checkpoint is 'val_loss', and the run has no"):
        planned_run(model, [1.0] * 3, callback)
    assert files(tmp_path) == []


def test_callback_is_chosen_by_name_in_a_real_fit(model: Model, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "argus_core.runs.run")
    spec = ("monitor_checkpoint", {"dir_path": str(tmp_path), "monitor": "val_accuracy", "max_saves": 1})
    model.fit(batches(), batches(seed=1), 3, metrics=["accuracy"], callbacks=[spec])
    (path,) = tmp_path.iterdir()
    best = argus_core.load_model(path).validate(batches(seed=1), ["accuracy"])["val_accuracy"]
    assert path.name.endswith(f"-{best:.6f}.safetensors")
    assert f"saved {path}" in caplog.text

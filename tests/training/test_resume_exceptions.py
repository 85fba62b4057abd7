"""A run that an exception ended goes on as if there had been none, wherever it was raised."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from strategies import PARAMS, build, register_all, same_weights
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import argus_core
from argus_core import Callback, Model, State, hookimpl, on_iteration_complete
from argus_core.errors import ArgusWarning
from argus_core.metrics import MeanMetric
from argus_core.storage import read_header

EPOCHS = 3
DATA = batches((4, 3, 5, 2))
KEPT = {"optimizer_state": True, "save_after_exception": True}


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        argus_core.register("nn_module", "noisy", noisy)
        yield


def noisy() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))


class Failure(Exception):
    pass


class Fuse:
    """Fails once, where it is asked in the second epoch for the given time."""

    def __init__(self, place: str = "", time: int = 0) -> None:
        self.place = place
        self.left = time

    def burn(self, place: str, state: State | None = None) -> None:
        if place != self.place or (state is not None and state.epoch != 1):
            return
        self.left -= 1
        if self.left < 0:
            self.place = ""
            raise Failure(place)


class Samples(Dataset[Any]):
    def __init__(self, fuse: Fuse, samples: int = 26) -> None:
        self.inputs, self.targets = batches((samples,))[0]
        self.fuse = fuse

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.fuse.burn("sample")
        return self.inputs[index] + 0.1 * torch.rand(4), self.targets[index]


class Mean(MeanMetric):
    """Fails when it is computed."""

    name = "failing"

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse

    def update(self, step_output: Any) -> None:
        self.total += step_output["loss"]
        self.count += 1

    def compute(self) -> float:
        self.fuse.burn("compute")
        return super().compute()


class Counting(Callback):
    """Counts the events that it hears of, and keeps the counts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.heard: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._name

    def state_dict(self) -> dict[str, Any]:
        return dict(self.heard)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.heard = Counter(state_dict)

    def epoch_start(self, state: State) -> None:
        self.heard["epoch_start"] += 1

    def iteration_start(self, state: State) -> None:
        self.heard["iteration_start"] += 1

    def iteration_complete(self, state: State) -> None:
        self.heard["iteration_complete"] += 1

    def epoch_complete(self, state: State) -> None:
        self.heard["epoch_complete"] += 1


class Failing(Callback):
    """Fails at one event."""

    def __init__(self, fuse: Fuse) -> None:
        self.burn = fuse.burn

    def epoch_start(self, state: State) -> None:
        self.burn("epoch_start", state)

    def iteration_start(self, state: State) -> None:
        self.burn("iteration_start", state)

    def iteration_complete(self, state: State) -> None:
        self.burn("iteration_complete", state)

    def validation_start(self, state: State) -> None:
        self.burn("validation_start", state)

    def validation_complete(self, state: State) -> None:
        self.burn("validation_complete", state)

    def epoch_complete(self, state: State) -> None:
        self.burn("epoch_complete", state)

    def checkpoint_saved(self, state: State) -> None:
        self.burn("checkpoint_saved")

    def complete(self, state: State) -> None:
        self.burn("complete")


class FailingLate(Callback):
    """Fails behind the schedules, reports and checkpoints."""

    runs_last = True

    def __init__(self, fuse: Fuse) -> None:
        self.burn = fuse.burn

    @hookimpl(trylast=True)
    def iteration_complete(self, state: State) -> None:
        self.burn("late iteration_complete", state)

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        self.burn("late epoch_complete", state)


class DrawingModel(Model):
    """Draws random numbers in validation, too."""

    def val_step(self, batch: Any, state: Any = None) -> Any:
        torch.rand(())
        return super().val_step(batch, state)


def train(folder: Path, fuse: Fuse, resume: bool = False) -> dict[str, Any]:
    """Train with everything that has state; return the end of it."""
    torch.manual_seed(99 if resume else 0)
    first, last = Counting("first"), Counting("last")
    model = DrawingModel(
        {
            **PARAMS,
            "nn_module": "noisy",
            "optimizer": ("AdamW", {"lr": 0.01}),
            "step": [("accumulate", {"steps": 2}), ("ema", {"decay": 0.9})],
        }
    )
    on_validation = argus_core.on_iteration_complete(lambda state: fuse.burn("in validation", state))
    model.fit(
        DataLoader(Samples(fuse), 4, shuffle=True),
        DataLoader(Samples(Fuse(), 9), 4),
        num_epochs=EPOCHS,
        metrics=["accuracy", Mean(fuse)],
        metrics_on_train=True,
        callbacks=[
            first,
            Failing(fuse),
            ("early_stopping", {"monitor": "val_loss", "patience": 5}),
            ("metrics_jsonl", {"file_path": str(folder / "metrics.jsonl")}),
            ("monitor_checkpoint", {"dir_path": str(folder / "best"), "monitor": "val_loss", "max_saves": 1}),
            (
                "checkpoint",
                {"dir_path": str(folder / "every"), "optimizer_state": True, "save_after_exception": True},
            ),
            FailingLate(fuse),
            last,
        ],
        val_callbacks=[on_validation],
        lr_scheduler=[
            ("CosineAnnealingLR", {"T_max": 20, "interval": "update"}),
            ("MultiStepLR", {"milestones": [1, 2], "gamma": 0.5}),
            ("ReduceLROnPlateau", {"monitor": "val_loss", "patience": 0, "threshold": 10.0}),
        ],
        seed=None if resume else 5,
        resume=folder / "every" if resume else None,
    )
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {
        "nn": model.nn_module.state_dict(),
        "optimizer": model.optimizer.state_dict(),
        "step": model.step_state(),
        "random": torch.get_rng_state(),
        "history": [{**json.loads(line), "time": None} for line in lines],
        "best": sorted(path.name for path in (folder / "best").iterdir()),
        "first": first.heard,
        "last": last.heard,
    }


def assert_equal(one: Any, other: Any, path: str = "") -> None:
    """Check two nestings of dicts, lists and tensors for equality to the bit."""
    assert type(one) is type(other), path
    if isinstance(one, Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_equal(left, right, f"{path}/{index}")
    else:
        assert one == other, path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the end of a run without exceptions."""
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "noisy", noisy)
        return train(tmp_path_factory.mktemp("whole"), Fuse())


PLACES = [
    ("epoch_start", 0),
    ("sample", 26),  # the first of the second epoch
    ("sample", 40),
    ("iteration_start", 0),
    ("iteration_start", 2),
    ("iteration_complete", 0),
    ("iteration_complete", 3),  # of the epoch's last update
    ("late iteration_complete", 1),
    ("compute", 2),  # of the second epoch's training
    ("compute", 3),  # of its validation
    ("validation_start", 0),
    ("in validation", 1),
    ("validation_complete", 0),
    ("epoch_complete", 0),
    ("checkpoint_saved", 0),  # of the best one of the first epoch
    ("checkpoint_saved", 1),
    ("checkpoint_saved", 2),
    ("late epoch_complete", 0),
    ("complete", 0),
]


@pytest.mark.parametrize(("place", "time"), PLACES)
def test_a_run_goes_on_exactly_after_an_exception(
    place: str, time: int, whole: dict[str, Any], tmp_path: Path
) -> None:
    fuse = Fuse(place, time)
    with pytest.raises(Failure):
        train(tmp_path, fuse)
    assert list((tmp_path / "every").glob("*-Failure.safetensors"))
    resumed = train(tmp_path, fuse, resume=True)
    expected = dict(whole)
    if place in ("epoch_start", "iteration_start"):  # which every callback handles again
        expected["first"] = whole["first"] + Counter([place])
    assert_equal(resumed, expected)


def test_a_metric_that_fails_in_an_update_lacks_that_update_and_nothing_else_does(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    class Bad(MeanMetric):
        name = "bad"

        def update(self, step_output: Any) -> None:
            fuse.burn("update")
            self.total, self.count = 1, 1

    def fit(model: Model, resume: bool = False) -> Any:
        schedule = ("StepLR", {"step_size": 3, "interval": "update"})
        keep = (
            "checkpoint",
            {"dir_path": str(tmp_path), "optimizer_state": True, "save_after_exception": True},
        )
        options: dict[str, Any] = {"metrics": [Bad()], "metrics_on_train": True, "lr_scheduler": schedule}
        return model.fit(
            batches((4, 3, 5, 2)),
            num_epochs=3,
            callbacks=[keep],
            resume=tmp_path if resume else None,
            **options,
        )

    fuse, expected, failing, resumed = Fuse(), build(), build(), build()
    fit(expected)
    for path in tmp_path.iterdir():  # of another run than the one that fails
        path.unlink()
    fuse = Fuse("update", 5)
    with pytest.raises(Failure):
        fit(failing)
    for path in tmp_path.glob("model-000.*"):
        path.unlink()
    fit(resumed, resume=True)
    assert same_weights(resumed, expected)
    assert resumed.get_lr() == expected.get_lr()


@pytest.mark.parametrize("event", ["update_skipped", "iteration_complete"])
def test_a_schedule_does_not_step_for_an_update_that_was_skipped_before_the_exception(
    event: str, tmp_path: Path
) -> None:
    def fit(model: Model, *more: Any, resume: Path | None = None) -> list[float]:
        rates: list[float] = []
        note = argus_core.on_iteration_start(lambda state: rates.append(state.model.get_lr()))
        keep = ("checkpoint", {"dir_path": str(tmp_path), **KEPT})
        schedule = ("ExponentialLR", {"gamma": 0.5, "interval": "update"})
        model.fit(DATA, num_epochs=2, callbacks=[note, keep, *more], lr_scheduler=schedule, resume=resume)
        return rates

    @argus_core.on_event(event)
    def fail(state: State) -> None:
        if state.updates_skipped:
            raise Failure

    veto = ("veto", {"updates": [2]})
    expected = fit(build(veto))
    assert expected[2] == expected[3] == expected[1] / 2
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(Failure):
        fit(build(veto), fail)
    with pytest.warns(ArgusWarning, match="has changed: params.'step'. was"):  # as the veto is over
        assert fit(build(), resume=tmp_path) == expected[3:]


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_run_that_a_callback_stopped_midway_makes_the_rest_of_its_epoch(
    after: int, whole: dict[str, Any], tmp_path: Path
) -> None:
    updates = 4 + after  # four in an epoch

    class Stopping(Fuse):
        def burn(self, place: str, state: State | None = None) -> None:
            if place == "iteration_complete" and state is not None and state.global_step == updates:
                state.stopped = True

    stopped = train(tmp_path, Stopping())
    assert [line["global_step"] for line in stopped["history"]] == [4, updates]  # the half epoch is reported
    assert_equal(train(tmp_path, Fuse(), resume=True), whole)


def test_the_checkpoint_of_a_stopped_run_knows_that_its_epoch_is_not_over(tmp_path: Path) -> None:
    stop = on_iteration_complete(lambda state: setattr(state, "stopped", state.global_step == 2))
    build().fit(
        batches((4, 3, 5, 2)),
        num_epochs=2,
        callbacks=[stop, ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})],
    )
    counters = read_header(tmp_path / "model-000.safetensors").manifest["progress"]["counters"]
    assert (counters["updates_in_epoch"], counters["epoch_done"]) == (2, False)


def test_an_exception_before_the_run_has_gone_on_writes_nothing(tmp_path: Path) -> None:
    keep = ("checkpoint", {"dir_path": str(tmp_path), **KEPT})
    build().fit(batches(), callbacks=[keep])
    before = sorted(tmp_path.iterdir())

    @argus_core.on_event("resumed")
    def fail(state: State) -> None:
        raise Failure

    with pytest.raises(Failure):
        build().fit(batches(), num_epochs=2, callbacks=[keep, fail], resume=tmp_path)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("order", [("checkpoint", "best"), ("best", "checkpoint")])
def test_a_checkpoint_that_comes_before_another_callback_lets_it_hear_of_the_epoch(
    order: tuple[str, str], tmp_path: Path
) -> None:
    """Only what a process has left in the file counts, as if it had been killed then."""

    def callbacks(folder: Path) -> list[Any]:
        specs = {
            "checkpoint": ("checkpoint", {"dir_path": str(folder), "optimizer_state": True}),
            "best": ("monitor_checkpoint", {"dir_path": str(folder / "best"), "monitor": "train_loss"}),
        }
        return [specs[name] for name in order]

    @argus_core.on_event("checkpoint_saved")
    def fail(state: State) -> None:
        if state.checkpoint_path is not None and state.checkpoint_path.parent.name == "killed":
            raise Failure

    data = batches()
    build().fit(data, num_epochs=2, callbacks=callbacks(tmp_path / "whole"))
    with pytest.raises(Failure):
        build().fit(data, num_epochs=2, callbacks=[*callbacks(tmp_path / "killed"), fail])
    build().fit(data, num_epochs=2, callbacks=callbacks(tmp_path / "killed"), resume=tmp_path / "killed")
    found = [
        sorted(path.name for path in (tmp_path / each / "best").iterdir()) for each in ("whole", "killed")
    ]
    assert found[0] == found[1]

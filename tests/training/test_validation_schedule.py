"""Validations at another cadence than each epoch leave training as it was, and monitors follow them all."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import PARAMS, batches, same_weights
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import argus_core
from argus_core import Callback, Model, ParamsError, State, on_event
from argus_core.callbacks import EarlyStopping, MonitorCheckpoint
from argus_core.storage import read_header

DATA = TensorDataset(*batches((26,))[0])
UPDATES = 7  # in an epoch
KEEP: dict[str, Any] = {"every": "1up", "optimizer_state": True}
PLATEAU = ("ReduceLROnPlateau", {"monitor": "val_loss", "patience": 0, "threshold": 10.0})


class Noisy(nn.Sequential):
    """Draws random numbers in training and in validation."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = super().forward(input)
        return output + 0.1 * torch.rand(3)


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "noisy", Noisy)
        yield


def fit(*callbacks: Any, **options: Any) -> Model:
    torch.manual_seed(0)
    step = ("ema", {"decay": 0.9})
    model = Model({**PARAMS, "nn_module": "noisy", "optimizer": ("AdamW", {"lr": 0.01}), "step": step})
    train = DataLoader(DATA, 4, shuffle=True)
    model.fit(
        train, DataLoader(DATA, 13), metrics=["accuracy"], metrics_on_train=True, seed=0,
        callbacks=list(callbacks), **options,
    )  # fmt: skip
    return model


class Validated(Callback):
    """Notes the update of each validation."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def validation_complete(self, state: State) -> None:
        self.steps.append(state.global_step)


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        ("1ep", [7, 14, 21]),
        ("2ep", [14, 21]),
        ("3up", [3, 6, 9, 12, 15, 18, 21]),
        ("7up", [7, 14, 21]),
        ("10up", [10, 20, 21]),
        ("99up", [21]),
        ("5ep", [21]),
        ("3h", [21]),
    ],
)
def test_validation_comes_at_its_cadence_and_at_the_end(every: str, steps: list[int]) -> None:
    validated = Validated()
    fit(validated, num_epochs=3, validate_every=every)
    assert validated.steps == steps


class TooShort(IterableDataset[Any]):
    """Says that it has fewer samples than it has."""

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Iterator[Any]:
        return iter([DATA[index] for index in range(24)])


def test_validation_keeps_its_cadence_beyond_a_wrong_length_and_a_stop_there_is_resumed_exactly(
    tmp_path: Path,
) -> None:
    def fit(updates: int, *callbacks: Any, **options: Any) -> tuple[Model, list[int]]:
        torch.manual_seed(0)
        model, validated = Model({**PARAMS, "nn_module": "noisy"}), Validated()
        options = {"num_updates": updates, "validate_every": "2up", "seed": 0, **options}
        model.fit(
            DataLoader(TooShort(), 4), DataLoader(DATA, 13), callbacks=[validated, *callbacks], **options
        )
        return model, validated.steps

    whole, steps = fit(5)
    assert steps == [4, 5]  # update 2 would have ended the epoch
    fit(3, ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True}))
    resumed, steps = fit(5, resume=tmp_path)
    assert same_weights(whole, resumed)
    assert steps == [4, 5]


def test_validation_by_time_comes_after_an_update() -> None:
    validated = Validated()
    fit(validated, num_epochs=1, validate_every="0.0000001min")
    assert validated.steps == list(range(1, 8))


@pytest.mark.parametrize("every", ["2ep", "2up", "0.0000001min"])
def test_training_does_not_depend_on_when_the_run_validates(every: str, tmp_path: Path) -> None:
    def lines(name: str, every: str) -> tuple[Model, list[float]]:
        path = tmp_path / name
        model = fit(("metrics_jsonl", {"file_path": str(path)}), num_epochs=3, validate_every=every)
        read = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return model, [line["train_accuracy"] for line in read if "phase" not in line]

    (one, ones), (other, others) = lines("one", every), lines("other", "9ep")
    assert same_weights(one, other)
    assert ones == others


def test_run_with_validations_midway_is_resumed_exactly_from_every_update(tmp_path: Path) -> None:
    options: dict[str, Any] = {"validate_every": "3up", "lr_scheduler": PLATEAU}
    stop = ("early_stopping", {"patience": 100})
    whole = fit(stop, ("checkpoint", {"dir_path": str(tmp_path), **KEEP}), num_epochs=2, **options)
    saved = sorted(tmp_path.iterdir())
    assert len(saved) == 2 * UPDATES
    for path in saved:
        assert same_weights(whole, fit(stop, num_epochs=2, resume=path, **options))


@pytest.mark.parametrize(("every", "bound"), [("3up", 3), ("3up", 5), ("3up", 7), ("2ep", 7), ("2ep", 9)])
def test_run_that_ended_at_an_update_continues_as_if_it_had_not_validated_there(
    bound: int, every: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"validate_every": every, "lr_scheduler": PLATEAU}
    stop = ("early_stopping", {"patience": 100})
    keep = ("checkpoint", {"dir_path": str(tmp_path / "kept"), "optimizer_state": True})
    log = ("metrics_jsonl", {"file_path": str(tmp_path / "log")})
    whole = fit(stop, ("metrics_jsonl", {"file_path": str(tmp_path / "whole")}), num_updates=16, **options)
    fit(stop, log, keep, num_updates=bound, **options)
    resumed = fit(stop, log, keep, num_updates=16, resume=tmp_path / "kept", **options)
    assert same_weights(whole, resumed)

    def lines(name: str) -> list[dict[str, Any]]:
        read = [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]
        return [{key: value for key, value in line.items() if key != "time"} for line in read]

    assert lines("log") == lines("whole")


def test_validation_that_a_signal_ends_is_repeated(tmp_path: Path, usual_signals: None) -> None:
    keep = ("checkpoint", {"dir_path": str(tmp_path), "every": "9ep", "optimizer_state": True})

    @on_event("validation_start")
    def interrupt(state: State) -> None:
        if state.global_step == 6:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit):
        fit(keep, interrupt, num_epochs=2, validate_every="3up", lr_scheduler=PLATEAU)
    validated = Validated()
    resumed = fit(keep, validated, num_epochs=2, validate_every="3up", lr_scheduler=PLATEAU, resume=tmp_path)
    assert validated.steps == [6, 9, 12, 14]
    assert same_weights(resumed, fit(num_epochs=2, validate_every="3up", lr_scheduler=PLATEAU))


@pytest.mark.parametrize(("every", "steps"), [("3up", [3, 6, 9, 12, 14]), ("2ep", [14]), ("1ep", [7, 14])])
def test_monitors_follow_every_validation_and_none_twice(
    every: str, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: dict[str, list[int]] = {}
    for cls in (EarlyStopping, MonitorCheckpoint):

        def judge(self: Any, state: State) -> None:
            judged.setdefault(self.name, []).append(state.global_step)

        monkeypatch.setattr(cls, "_judge", judge)
    best = ("monitor_checkpoint", {"dir_path": str(tmp_path), "monitor": "val_accuracy"})
    fit("early_stopping", best, num_epochs=2, validate_every=every)
    assert judged == {"early_stopping": steps, "monitor_checkpoint": steps}


def test_early_stopping_ends_a_run_within_an_epoch(tmp_path: Path) -> None:
    stop = ("early_stopping", {"monitor": "val_accuracy", "better": "min", "patience": 1})
    validated = Validated()
    fit(stop, validated, num_epochs=9, validate_every="1up")
    assert validated.steps[-1] < 9 * UPDATES
    assert len(set(validated.steps)) == len(validated.steps)


def test_best_checkpoint_is_of_a_validation_midway(tmp_path: Path) -> None:
    values = iter((0.5, 0.1, 0.3, 0.4, 0.2))

    @on_event("validation_complete")
    def plan(state: State) -> None:
        state.metrics["val_loss"] = next(values)

    best = ("monitor_checkpoint", {"dir_path": str(tmp_path), "max_saves": 1})
    fit(plan, best, num_epochs=2, validate_every="3up")
    (path,) = tmp_path.iterdir()
    assert read_header(path).manifest["run"]["global_step"] == 6


def test_logs_have_a_line_for_each_validation_and_no_value_twice(tmp_path: Path) -> None:
    jsonl, csv, text = (tmp_path / name for name in ("log.jsonl", "log.csv", "log.txt"))
    fit(
        ("metrics_jsonl", {"file_path": str(jsonl)}),
        ("logging_to_csv", {"file_path": str(csv)}),
        ("logging_to_file", {"file_path": str(text)}),
        num_epochs=2,
        validate_every="4up",
    )
    lines = [json.loads(line) for line in jsonl.read_text("utf-8").splitlines()]
    assert [(line.get("phase"), line["epoch"], line["global_step"]) for line in lines] == [
        ("val", 0, 4), (None, 0, 7), ("val", 1, 8), ("val", 1, 12), (None, 1, 14), ("val", 1, 14),
    ]  # fmt: skip
    for line in lines:
        assert ("val_loss" in line, "train_loss" in line) == (("phase" in line), ("phase" not in line))
    rows = [row.split(",") for row in csv.read_text("utf-8").splitlines()]
    phase = rows[0].index("phase")
    assert [row[phase] for row in rows[1:]] == ["val", "", "val", "val", "", "val"]
    assert "epoch 2/2  update 12  val_loss" in text.read_text("utf-8")


@pytest.mark.parametrize("value", [None, 0, -1, True, float("nan"), "", "0ep", "1.5up", "-3h", "often"])
def test_cadence_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ParamsError, match=r"^validate_every is .*; give epochs, updates, minutes or hours"):
        fit(validate_every=value)

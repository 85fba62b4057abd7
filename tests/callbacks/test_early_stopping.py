"""Early stopping: when a run ends, by the planned losses of its epochs."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from planned_runs import planned_engine, planned_run, small_model

from argus_core import BuildError, Callback, Model, ParamsError, State
from argus_core.callbacks import EarlyStopping

NAN = math.nan


@pytest.fixture
def model() -> Iterator[Model]:
    with small_model() as model:
        yield model


@pytest.mark.parametrize(
    ("patience", "better", "losses", "last_epoch"),
    [
        (1, "auto", [3.0, 2.0, 1.0], 2),
        (1, "auto", [3.0, 2.0, 2.0, 1.0], 2),
        (1, "min", [3.0, 4.0, 1.0], 1),
        (2, "min", [3.0, 4.0, 2.0, 5.0, 5.0, 1.0], 4),
        (1, "max", [3.0, 4.0, 1.0, 5.0], 2),
        (2, "min", [NAN, NAN, 1.0], 1),
        (2, "min", [3.0, NAN, NAN, 1.0], 2),
        (2, "min", [3.0, NAN, 2.0, NAN, 1.0], 4),
        (1, "max", [3.0, math.inf, 4.0], 1),
    ],
)
def test_run_stops_after_epochs_without_improvement(
    patience: int, better: str, losses: list[float], last_epoch: int, model: Model
) -> None:
    state = planned_run(model, losses, EarlyStopping("train_loss", patience=patience, better=better))
    assert state.epoch == last_epoch
    assert state.stopped is (last_epoch < len(losses) - 1)


def test_it_says_why(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "argus_core.runs.run")
    planned_run(model, [0.5, 1.0], EarlyStopping("train_loss"))
    why = "early_stopping ended the run after epoch 2: train_loss has not improved for 1 epoch (best 0.5)"
    assert why in caplog.text


def test_it_says_that_the_metric_was_never_finite(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "argus_core.runs.run")
    planned_run(model, [NAN], EarlyStopping("train_loss"))
    assert "train_loss has not improved for 1 epoch (it was never finite)" in caplog.text


def test_resumed_after_its_end_the_run_says_what_continues_it(
    model: Model, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = [(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))]
    keep = ("checkpoint", {"dir_path": tmp_path, "optimizer_state": True})
    stop = ("early_stopping", {"monitor": "train_loss", "better": "max"})
    model.fit(data, num_epochs=5, callbacks=[keep, stop])
    model.fit(data, num_epochs=9, callbacks=[keep, stop, "progress"], resume=tmp_path)
    assert re.fullmatch(
        r"early_stopping ended the run after epoch 2: train_loss has not improved for 1 epoch \(best \S+\); "
        r"to continue, resume with a larger patience or without early_stopping\n",
        capsys.readouterr().out,
    )
    model.fit(data, num_epochs=5, callbacks=[keep, (stop[0], {**stop[1], "patience": 2})], resume=tmp_path)
    assert (tmp_path / "model-002.safetensors").exists()


def test_it_sees_metrics_of_callbacks_that_are_listed_later(model: Model) -> None:
    class Measure(Callback):
        def epoch_complete(self, state: State) -> None:
            state.metrics["dice"] = [0.5, 0.6, 0.55, 0.7][state.epoch]

    state = planned_run(model, [1.0] * 4, EarlyStopping("dice", better="max"), Measure())
    assert state.epoch == 2


@pytest.mark.parametrize("patience", [0, -1, 1.5, "3", None])
def test_patience_that_is_no_count_is_refused(patience: Any) -> None:
    with pytest.raises(ParamsError, match=r"patience of early_stopping is .+; give an integer of at least 1"):
        EarlyStopping(patience=patience)


def test_used_again_it_begins_anew(model: Model) -> None:
    callback = EarlyStopping("train_loss")
    planned_run(model, [1.0, 2.0], callback)
    assert planned_run(model, [4.0, 3.0], callback).stopped is False


def test_restored_it_goes_on_where_it_was(model: Model) -> None:
    first = EarlyStopping("train_loss", patience=2)
    planned_run(model, [1.0, 2.0], first)
    state = first.state_dict()
    assert 0 < state.pop("best_seconds") < 60
    assert state == {"monitor": "train_loss", "best": 1.0, "best_epoch": 0, "waited": 1, "best_step": 2}
    second = EarlyStopping("train_loss", patience=2)
    second.load_state_dict(first.state_dict())
    state = planned_engine(model, [1.0, 2.0, 1.5, 0.5], [second]).run(range(2), 4, 2)
    assert state.epoch == 2
    assert second.state_dict()["waited"] == 2


def test_metric_that_nobody_computes_is_an_error(model: Model) -> None:
    with pytest.raises(BuildError, match="monitor of early_stopping is 'val_loss', and the run has no"):
        planned_run(model, [1.0], EarlyStopping())


@pytest.mark.parametrize(
    ("patience", "epochs"), [("2ep", 4), ("3up", 4), ("4up", 4), ("5up", 5), ("0.0000001min", 3), ("3h", 6)]
)
def test_patience_may_be_a_duration(patience: str, epochs: int, model: Model) -> None:
    state = planned_run(model, [3.0, 2.0, 4.0, 4.0, 4.0, 4.0], EarlyStopping("train_loss", patience))
    assert state.epoch + 1 == epochs
    is_stopped = f"has not improved for {patience} (best 2)" in str(state.stop_reason)
    assert is_stopped == (patience != "3h")


@pytest.mark.parametrize("patience", ["2ep", "4up"])
def test_patience_of_a_resumed_run_counts_from_the_best_before(patience: str, model: Model) -> None:
    stop = EarlyStopping("train_loss", patience)
    planned_run(model, [2.0, 4.0], stop)
    resumed = EarlyStopping("train_loss", patience)
    resumed.load_state_dict(stop.state_dict())
    engine = planned_engine(model, [2.0, 4.0, 4.0, 4.0], [resumed])
    engine.state.global_step = 4
    assert engine.run(range(2), 4, 2).epoch == 2


@pytest.mark.parametrize("patience", [0, True, 1.5, "", "0ep", "nanmin", None])
def test_patience_that_is_none_is_refused(patience: object) -> None:
    with pytest.raises(
        ParamsError,
        match=r"^patience of early_stopping is .*; give an integer of at least 1 \(epochs\), or",
    ):
        EarlyStopping("train_loss", patience)  # type: ignore[arg-type]

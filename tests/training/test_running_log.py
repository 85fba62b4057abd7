"""Values of training so far are logged at a cadence, and readers of epochs' lines tell them apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from networks import batches, make_model, same_weights

from argus_core import ParamsError, State, on_event

pytestmark = pytest.mark.usefixtures("net_registry")

DATA = batches((4, 3, 5, 2))


def test_logs_and_progress_get_running_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl, table, text = (tmp_path / name for name in ("log.jsonl", "log.csv", "log.txt"))
    model, plain = make_model(), make_model()
    callbacks = [
        "progress",
        ("metrics_jsonl", {"file_path": str(jsonl)}),
        ("logging_to_csv", {"file_path": str(table)}),
        ("logging_to_file", {"file_path": str(text)}),
    ]
    options: dict[str, Any] = {"metrics": ["accuracy"], "metrics_on_train": True, "num_epochs": 2}
    metrics = model.fit(DATA, DATA, callbacks=callbacks, log_every="2up", **options)
    assert metrics == plain.fit(DATA, DATA, **options)
    assert same_weights(model, plain)
    lines = [json.loads(line) for line in jsonl.read_text("utf-8").splitlines()]
    assert [(line.get("phase"), line["epoch"], line["global_step"]) for line in lines] == [
        ("train", 0, 2), ("train", 0, 4), (None, 0, 4), ("train", 1, 6), ("train", 1, 8), (None, 1, 8),
    ]  # fmt: skip
    assert lines[0].keys() == {
        "phase", "epoch", "global_step", "time", "lr",
        "updates_per_second", "samples_per_second", "train_loss", "train_accuracy",
    }  # fmt: skip
    assert lines[1]["train_loss"] == lines[2]["train_loss"]  # the whole epoch by then
    rate = lines[0]["samples_per_second"] / lines[0]["updates_per_second"]
    assert rate == pytest.approx(3.5)
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["train", "train", "", "train", "train", ""]
    assert "epoch 1/2  update 2  train_loss" in text.read_text("utf-8")
    assert "samples/s" in capsys.readouterr().out


def test_samples_of_a_whole_window_are_counted() -> None:
    seen: list[tuple[int, bool]] = []

    @on_event("measured_midway")
    def note(state: State) -> None:
        assert state.midway is not None
        rates = state.midway.rates
        ratio = rates["samples_per_second"] / rates["updates_per_second"]
        seen.append((round(ratio), "train_loss" in state.midway.metrics))

    make_model(step=("accumulate", {"steps": 2})).fit(DATA, callbacks=[note], log_every="1up")
    assert seen == [(7, True), (7, True)]


def test_a_resumed_run_rewrites_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    log = ("metrics_jsonl", {"file_path": str(tmp_path / "log")})
    keep = ("checkpoint", {"dir_path": str(tmp_path / "kept"), "every": "3up", "optimizer_state": True})
    make_model().fit(DATA, DATA, 1, callbacks=[log, keep], log_every="1up", validate_every="2up")
    make_model().fit(
        DATA, DATA, 1, callbacks=[log], log_every="1up", validate_every="2up", resume=tmp_path / "kept"
    )
    lines = [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]
    assert [(line.get("phase"), line["global_step"]) for line in lines] == [
        ("train", 1), ("train", 2), ("val", 2), ("train", 3), ("train", 4), (None, 4)
    ]  # fmt: skip


@pytest.mark.parametrize("value", [0, True, float("nan"), "", "0up", "-1min"])
def test_cadence_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ParamsError, match=r"^log_every is .*; give epochs, updates, minutes or hours"):
        make_model().fit(DATA, log_every=value)

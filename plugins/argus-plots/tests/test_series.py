"""The curves that are read from a log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from argus_plots.series import Curve, Series, read_lines, series_of

PHASES = ["train", "val"]


def log(path: Path, *lines: dict[str, Any], end: str = "") -> Path:
    file = path / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + end, "utf-8")
    return file


def read_series(path: Path, phases: list[str]) -> Series:
    return series_of(read_lines(path), phases)


def line(step: int, **values: Any) -> dict[str, Any]:
    return {
        "epoch": step // 10 - 1,
        "global_step": step,
        "updates_skipped": 0,
        "time": "",
        "lr": 0.1,
        **values,
    }


def test_phases_of_a_metric_are_its_curves(tmp_path: Path) -> None:
    file = log(tmp_path, line(10, train_loss=2.0, val_loss=3.0), line(20, train_loss=1.0, val_loss=2.5, x=7))
    series = read_series(file, PHASES)
    assert series.epochs == [10, 20]
    assert series.metrics == {
        "loss": {"train": Curve([10, 20], [2.0, 1.0]), "val": Curve([10, 20], [3.0, 2.5])},
        "x": {"": Curve([20], [7.0])},
    }


def test_set_has_a_curve_of_its_own(tmp_path: Path) -> None:
    series = read_series(log(tmp_path, line(10, val_clean_loss=1, val_loss=2)), ["val_clean", "val"])
    assert list(series.metrics["loss"]) == ["val_clean", "val"]


def test_validation_within_an_epoch_is_a_point_and_running_means_are_none(tmp_path: Path) -> None:
    within = {"phase": "val", "epoch": 0, "global_step": 5, "time": "", "lr": 0.1, "val_loss": 4.0}
    running = {**within, "phase": "train", "train_loss": 9.0, "updates_per_second": 3.0}
    series = read_series(log(tmp_path, within, running, line(10, val_loss=3.0)), PHASES)
    assert series.metrics == {"loss": {"val": Curve([5, 10], [4.0, 3.0])}}


def test_two_lines_about_one_update_are_one_point(tmp_path: Path) -> None:
    within = {"phase": "val", "epoch": 0, "global_step": 10, "time": "", "lr": 0.1, "val_loss": 4.0}
    series = read_series(log(tmp_path, within, line(10, val_loss=4.0)), PHASES)
    assert series.metrics["loss"]["val"] == Curve([10], [4.0])


def test_values_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    series = read_series(log(tmp_path, line(10, train_loss="nan"), line(20, train_loss="inf")), PHASES)
    assert all(map(math.isnan, series.metrics["loss"]["train"].values))


def test_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    file = log(tmp_path, line(10, train_loss=1.0), end='{"epoch": 1, "glob')
    assert read_series(file, PHASES).epochs == [10]


@pytest.mark.parametrize(
    "other",
    [
        "[]", "5", "null", "{}", '{"epoch": 0}', "[" * 100_000, '{"global_step": %s}' % ("1" * 5000),
        '{"global_step": "x"}', '{"global_step": -1}', '{"global_step": 1e400}',
        '{"global_step": 100000000000000000000000}', '{"global_step": true}', "\udcff",
    ],
)  # fmt: skip
def test_line_that_is_not_about_an_epoch_is_left_out(other: str, tmp_path: Path) -> None:
    file = log(tmp_path, line(10, train_loss=1.0))
    text = file.read_text("utf-8") + other + "\n" + json.dumps(line(20, train_loss=0.5)) + "\n"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_series(file, PHASES).epochs == [10, 20]


@pytest.mark.parametrize("value", ["x", {"a": 1}, [1.0], 10**400, None, "1e400"])
def test_value_that_is_not_a_number_is_a_gap(value: Any, tmp_path: Path) -> None:
    series = read_series(log(tmp_path, line(10, val_loss=value, lr=[value, 0.1])), PHASES)
    assert math.isnan(series.metrics["loss"]["val"].values[0])
    assert math.isnan(series.rates[0].values[0])


def test_rates_of_very_many_groups_are_drawn_in_part(tmp_path: Path) -> None:
    series = read_series(log(tmp_path, line(10, lr=[0.1] * 150), line(20, lr=[0.1] * 100_000)), PHASES)
    assert len(series.rates) <= 100


class Counted(list[str]):
    """A list that counts how often it is gone through."""

    count = 0

    def __iter__(self) -> Iterator[str]:
        self.count += 1
        return super().__iter__()


def test_phases_are_looked_for_once_for_each_name() -> None:
    phases = Counted(f"val_{number}" for number in range(100))
    values = {f"val_{number}_loss": 1.0 for number in range(100)}
    series = series_of((line(10 * step, **values) for step in range(50)), phases)
    assert len(series.metrics["loss"]) == phases.count == 100


def test_rates_of_groups_are_curves(tmp_path: Path) -> None:
    series = read_series(
        log(tmp_path, line(10, lr=[0.1, 0.01]), line(20, lr=[0.2, 0.02]), line(30, lr=None)), PHASES
    )
    assert series.rates == [Curve([10, 20], [0.1, 0.2]), Curve([10, 20], [0.01, 0.02])]

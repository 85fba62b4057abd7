"""What runs write down: logs, CSV and JSON Lines files."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from planned_runs import planned_engine, planned_run, small_model

from argus_core import (
    ArgusError,
    Callback,
    Model,
    ParamsError,
    State,
    on_epoch_complete,
    on_iteration_complete,
)
from argus_core.callbacks import Checkpoint, LoggingToCSV, LoggingToFile, MetricsJSONL
from argus_core.hooks import hookimpl

WRITERS = [LoggingToFile, LoggingToCSV, MetricsJSONL]

logger = logging.getLogger("argus_core.runs.run")


@pytest.fixture
def model() -> Iterator[Model]:
    with small_model() as model:
        yield model


def rows(path: Path, separator: str = ",") -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=separator))


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


# All that write files.


@pytest.mark.parametrize("writer", WRITERS)
def test_parent_folders_are_made(writer: Any, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a" / "file"
    planned_run(model, [1.0], writer(str(path)))
    assert path.stat().st_size > 0


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("value", ["", None, 3])
def test_path_that_is_none_is_refused(writer: Any, value: Any) -> None:
    with pytest.raises(
        ParamsError, match=f"{writer.name} takes a path for file_path, such as 'runs/a', not {value!r}"
    ):
        writer(value)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("value", ["s3://bucket/a", "gs://a", "hdfs://a", "file:///a", Path("s3://a")])
def test_address_is_not_taken_for_a_folder_of_that_name(writer: Any, value: Any) -> None:
    with pytest.raises(ParamsError, match="which is an address; give a path on this machine, or ./.* for a"):
        writer(value)
    with pytest.raises(ParamsError, match="which is an address"):
        Checkpoint(dir_path=value)


@pytest.mark.parametrize("writer", WRITERS)
def test_folder_with_a_colon_in_its_name_is_a_folder(
    writer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    monkeypatch.chdir(tmp_path)
    planned_run(model, [1.0], writer("./s3:/file"), writer("12:30/file"))
    assert (tmp_path / "s3:" / "file").stat().st_size > 0
    assert (tmp_path / "12:30" / "file").stat().st_size > 0


@pytest.mark.parametrize("writer", WRITERS)
def test_path_that_cannot_be_written_is_refused_before_the_first_update(
    writer: Any, model: Model, tmp_path: Path
) -> None:
    seen = []
    with pytest.raises(
        ArgusError, match=rf"{writer.name} cannot write '{tmp_path}': .*; make room there or choose"
    ):
        planned_run(model, [1.0], writer(tmp_path), on_iteration_complete(seen.append))
    assert seen == []


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "text",
    [
        '[model]\nname = "model"\n',
        "time,width,label\n1,2,0\n",
        "2026-11-29,0.5\n",
        '{"a": 1}\n',
        "notes of 2026-11-29\n",
        "PK\x03\x04\n",
    ],
)
def test_a_file_of_the_user_is_not_emptied(writer: Any, text: str, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(ArgusError, match=rf"{writer.name} would replace '{path}', which is not a log that"):
        planned_run(model, [1.0], writer(path))
    assert path.read_text() == text


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("append", [True, False])
def test_a_pipe_is_refused(writer: Any, append: bool, model: Model, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArgusError, match="which is a pipe; choose a file"):
        planned_run(model, [1.0], writer(tmp_path / "pipe", append=append))


@pytest.mark.parametrize(
    "options", [{"separator": ";"}, {"separator": "|", "write_header": False}, {"write_header": False}]
)
def test_a_csv_file_of_an_earlier_run_is_replaced(options: Any, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "file"
    planned_run(model, [1.0, 2.0], LoggingToCSV(path))
    for losses in ([1.0, 2.0], [3.0]):
        planned_run(model, losses, LoggingToCSV(path, **options))
    assert len(path.read_text().splitlines()) == 1 + options.get("write_header", True)


def test_a_csv_file_of_a_class_with_other_columns_is_replaced(model: Model, tmp_path: Path) -> None:
    class Short(LoggingToCSV):
        first_line = "epoch,train_loss"

        def row(self, record: Any) -> dict[str, Any]:
            return {"epoch": record.epoch, **record.metrics}

    for losses in ([1.0, 2.0], [3.0]):
        planned_run(model, losses, Short(tmp_path / "file"))
    assert len((tmp_path / "file").read_text().splitlines()) == 2


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("append", [True, False])
def test_second_run_replaces_or_continues_the_file(
    writer: Any, append: bool, model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    planned_run(model, [1.0], writer(path))
    first = path.read_text()
    planned_run(model, [1.0], writer(path, append=append))
    assert path.read_text().startswith(first) is append


@pytest.mark.parametrize("writer", WRITERS)
def test_resumed_run_continues_the_file(writer: Any, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "file"
    planned_run(model, [1.0], writer(path))
    first = path.read_text()
    planned_engine(model, [1.0, 1.0], [writer(path)]).run(range(2), 2, 1)
    assert path.read_text().startswith(first)


@pytest.mark.parametrize("writer", WRITERS)
def test_metrics_of_callbacks_that_are_listed_later_are_written(
    writer: Any, model: Model, tmp_path: Path
) -> None:
    @on_epoch_complete
    def measure(state: State) -> None:
        state.metrics["dice"] = torch.tensor(0.25)  # type: ignore[assignment]

    planned_run(model, [1.0], writer(tmp_path / "file"), measure)
    text = (tmp_path / "file").read_text()
    assert "dice" in text
    assert "0.25" in text


@pytest.mark.parametrize("writer", WRITERS)
def test_metric_that_is_no_number_is_refused(writer: Any, model: Model, tmp_path: Path) -> None:
    @on_epoch_complete
    def measure(state: State) -> None:
        state.metrics["note"] = "good"  # type: ignore[assignment]

    with pytest.raises(
        ArgusError, match="metric 'note' is 'good', which is not a number; put numbers into state.metrics"
    ):
        planned_run(model, [1.0], writer(tmp_path / "file"), measure)


@pytest.mark.parametrize("name", ["logging_to_file", "logging_to_csv", "metrics_jsonl"])
def test_writer_is_chosen_by_name_in_a_real_fit(name: str, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "file"
    model.fit(batches(), batches(), 2, ["accuracy"], callbacks=[(name, {"file_path": str(path)})])
    text = path.read_text()
    assert all(metric in text for metric in ("train_loss", "val_loss", "val_accuracy"))


@pytest.mark.parametrize("writer", WRITERS)
def test_model_without_an_optimizer_has_no_learning_rate(writer: Any, tmp_path: Path) -> None:
    with small_model(optimizer=None) as model:
        model.validate(batches(), callbacks=[writer(tmp_path / "file")])
    assert "val_loss" in (tmp_path / "file").read_text()


class Kill(Callback):
    """Ends the run after the other callbacks have handled an epoch."""

    runs_last = 2

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        raise SystemExit


TABLES = [(LoggingToCSV, "rows", 1), (MetricsJSONL, "lines", 0)]


def resumed(model: Model, writer: Any, path: Path, key: str, kept: int, *more: Any) -> None:
    """Resume after ``kept`` epochs, and make one more."""
    callback = writer(path)
    callback.load_state_dict({**callback.state_dict(), key: kept})
    planned_engine(model, [9.0] * (kept + 1), [callback, *more]).run(range(1), kept + 1, kept)


@pytest.mark.parametrize(("writer", "key", "header"), TABLES)
def test_line_that_a_killed_run_has_replaced_is_back_where_its_checkpoint_is(
    writer: Any, key: str, header: int, model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "table"
    planned_run(model, [1.0, 2.0, 3.0, 4.0], writer(path))
    before = path.read_text()
    with pytest.raises(SystemExit):
        resumed(model, writer, path, key, 2, Kill())
    assert len(path.read_text().splitlines()) == 3 + header
    resumed(model, writer, path, key, 4)  # from the checkpoint of the fourth epoch, which is still there
    assert path.read_text().startswith(before)
    assert len(path.read_text().splitlines()) == 5 + header
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(("writer", "key", "header"), TABLES)
@pytest.mark.parametrize("other", ["notes", "elsewhere/table"])
def test_resumed_run_removes_no_lines_of_another_table(
    other: str, writer: Any, key: str, header: int, model: Model, tmp_path: Path
) -> None:
    first, second = writer(tmp_path / "table"), tmp_path / other
    planned_run(model, [1.0, 2.0, 3.0], first)
    state = {**first.state_dict(), key: 1}
    time.sleep(0.002)  # of two runs the first lines have other times
    planned_run(model, [1.0, 2.0, 3.0, 4.0], writer(second))
    before = second.read_text()
    callback = writer(second)
    callback.load_state_dict(state)
    planned_engine(model, [5.0] * 2, [callback]).run(range(1), 2, 1)
    assert second.read_text().startswith(before)
    assert len(second.read_text().splitlines()) == 5 + header


@pytest.mark.parametrize(("writer", "key", "header"), TABLES)
def test_lines_ahead_survive_a_second_run_that_goes_back(
    writer: Any, key: str, header: int, model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "table"
    planned_run(model, [1.0, 2.0, 3.0, 4.0], writer(path))
    before = path.read_text()
    for kept in (2, 1):
        with pytest.raises(SystemExit):
            resumed(model, writer, path, key, kept, Kill())
    resumed(model, writer, path, key, 4)
    assert path.read_text().startswith(before)


@pytest.mark.parametrize(("writer", "key", "header"), TABLES)
def test_lines_ahead_of_an_earlier_run_are_not_put_into_another(
    writer: Any, key: str, header: int, model: Model, tmp_path: Path
) -> None:
    path, ahead = tmp_path / "table", tmp_path / ".table.ahead"
    planned_run(model, [1.0, 2.0, 3.0, 4.0], writer(path))
    ahead.write_text(path.read_text().replace("T", "T0"))
    before = path.read_text()
    resumed(model, writer, path, key, 6)
    assert path.read_text().startswith(before)


@pytest.mark.parametrize(("writer", "key", "header"), TABLES)
def test_lines_ahead_are_forgotten_with_the_next_checkpoint(
    writer: Any, key: str, header: int, model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "table"
    planned_run(model, [1.0, 2.0, 3.0, 4.0], writer(path))
    seen: list[list[str]] = []

    class Look(Callback):
        runs_last = 2

        @hookimpl(trylast=True)
        def epoch_complete(self, state: State) -> None:
            seen.append(sorted(file.name for file in tmp_path.iterdir()))
            state.engine.raise_event("checkpoint_saved")
            seen.append(sorted(file.name for file in tmp_path.iterdir()))

    resumed(model, writer, path, key, 2, Look())
    assert seen == [[".table.ahead", "table"], ["table"]]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
@pytest.mark.parametrize(("writer", "key", "header"), TABLES)
def test_link_and_pipe_by_the_name_of_the_lines_ahead_are_not_followed(
    writer: Any, key: str, header: int, model: Model, tmp_path: Path
) -> None:
    path, ahead, kept = tmp_path / "table", tmp_path / ".table.ahead", tmp_path / "kept"
    kept.write_text("mine")
    planned_run(model, [1.0, 2.0], writer(path))
    ahead.symlink_to(kept)
    resumed(model, writer, path, key, 4)
    assert ahead.is_symlink()
    ahead.unlink()
    os.mkfifo(ahead)
    resumed(model, writer, path, key, 6)
    assert kept.read_text() == "mine"
    assert path.is_file()


# The log.


class Say(Callback):
    """Logs a message of each level in the middle of a run."""

    def iteration_complete(self, state: State) -> None:
        state.logger.debug("a detail")
        state.logger.info("a note")
        state.logger.warning("a warning")


def test_log_has_a_line_for_each_epoch_between_start_and_end(model: Model, tmp_path: Path) -> None:
    planned_run(model, [0.5, 0.25], LoggingToFile(tmp_path / "log.txt"))
    lines = [line.split(" INFO ")[1] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert [line.rsplit("  ", 1)[0] for line in lines] == [
        "train starts, epochs: 2",
        "epoch 1/2  train_loss 0.5000  lr 0.1",
        "epoch 2/2  train_loss 0.2500  lr 0.1",
        "train complete, updates: 4",
    ]


def test_log_has_the_messages_of_the_run_from_info_up(model: Model, tmp_path: Path) -> None:
    planned_run(model, [0.5], LoggingToFile(tmp_path / "log.txt"), Say(), updates=1)
    text = (tmp_path / "log.txt").read_text()
    assert "INFO a note" in text
    assert "WARNING a warning" in text
    assert "a detail" not in text


def test_log_has_the_traceback_of_what_ended_the_run(model: Model, tmp_path: Path) -> None:
    @on_iteration_complete
    def fail(state: State) -> None:
        raise RuntimeError("boom 100%")

    with pytest.raises(RuntimeError, match="boom"):
        planned_run(model, [0.5], LoggingToFile(tmp_path / "log.txt"), fail)
    text = (tmp_path / "log.txt").read_text()
    assert "ERROR train ended by an exception" in text
    last = [line for line in text.splitlines() if not line.startswith("    raised ")][
        -1
    ]  # Python 3.11's note
    assert last == "    RuntimeError: boom 100%"
    assert logger.handlers == []


def test_messages_before_the_log_opens_reach_it_too_wherever_it_is_listed(
    model: Model, tmp_path: Path
) -> None:
    class Greet(Callback):
        def start(self, state: State) -> None:
            state.logger.info("hello")

        def complete(self, state: State) -> None:
            state.logger.info("goodbye")

    planned_run(model, [0.5], Greet(), LoggingToFile(tmp_path / "log.txt"), Greet())
    text = (tmp_path / "log.txt").read_text()
    assert text.count("hello") == text.count("goodbye") == 2


class Collect(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.mark.parametrize("logs", [0, 1, 2])
def test_other_handlers_get_what_they_got_without_the_log(logs: int, model: Model, tmp_path: Path) -> None:
    terminal = Collect()
    logging.getLogger().addHandler(terminal)
    try:
        planned_run(
            model, [0.5], *(LoggingToFile(tmp_path / f"{log}") for log in range(logs)), Say(), updates=1
        )
    finally:
        logging.getLogger().removeHandler(terminal)
    assert terminal.messages == ["a warning"]
    assert [path.read_text().count("a note") for path in tmp_path.iterdir()] == [1] * logs


def test_other_handlers_that_want_info_still_get_it(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    planned_run(model, [0.5], LoggingToFile(tmp_path / "log.txt"), Say(), updates=1)
    assert [record.message for record in caplog.records] == ["a note", "a warning"]


def test_logger_is_left_as_it_was(model: Model, tmp_path: Path) -> None:
    before = (logger.level, logger.propagate, list(logger.handlers))
    planned_run(model, [0.5], LoggingToFile(tmp_path / "a"), LoggingToFile(tmp_path / "b"))
    assert (logger.level, logger.propagate, logger.handlers) == before


def test_root_logger_is_logged_as_well(model: Model, tmp_path: Path) -> None:
    model.logger = logging.getLogger()
    level = model.logger.level
    planned_run(model, [0.5], LoggingToFile(tmp_path / "log.txt"), Say(), updates=1)
    assert "a note" in (tmp_path / "log.txt").read_text()
    assert model.logger.level == level > logging.INFO


def test_runs_that_write_one_log_at_a_time_write_whole_lines(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"

    @on_epoch_complete
    def run_another(state: State) -> None:
        if state.epoch == 0:
            with small_model(nn_module=("net", {"classes": 5})) as other:
                planned_run(other, [7.0], LoggingToFile(path, append=True))

    planned_run(model, [1.0, 2.0], LoggingToFile(path), run_another)
    lines = [line.split(" INFO ")[1].split("  ")[:2] for line in path.read_text().splitlines()]
    assert ["epoch 1/1", "train_loss 7.0000"] in lines
    assert [lines[0], *lines[-3:]] == [
        ["train starts, epochs: 2"],
        ["epoch 1/2", "train_loss 1.0000"],
        ["epoch 2/2", "train_loss 2.0000"],
        ["train complete, updates: 4"],
    ]
    assert len(lines) == 7


def test_one_log_serves_one_run_after_the_other(model: Model, tmp_path: Path) -> None:
    callback = LoggingToFile(tmp_path / "log.txt", append=True)
    planned_run(model, [0.5], callback)
    planned_run(model, [0.25], callback)
    assert (tmp_path / "log.txt").read_text().count("train complete") == 2


def test_failure_at_the_end_is_logged_once_and_the_file_stays_closed(model: Model, tmp_path: Path) -> None:
    class Fail(Callback):
        def complete(self, state: State) -> None:
            raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        planned_run(model, [0.5], Fail(), LoggingToFile(tmp_path / "log.txt"))
    assert (tmp_path / "log.txt").read_text().count("late") == 2  # the line of source, and the exception


# CSV.


def test_csv_has_a_row_for_each_epoch(model: Model, tmp_path: Path) -> None:
    planned_run(model, [0.5, 0.25], LoggingToCSV(tmp_path / "metrics.csv"))
    first, second = rows(tmp_path / "metrics.csv")
    assert list(first) == ["time", "epoch", "lr", "train_loss"]
    assert (first["epoch"], first["lr"], first["train_loss"]) == ("0", "0.1", "0.5")
    assert (second["epoch"], second["lr"], second["train_loss"]) == ("1", "0.1", "0.25")
    assert datetime.fromisoformat(first["time"]) <= datetime.fromisoformat(second["time"])


def test_csv_has_all_digits(model: Model, tmp_path: Path) -> None:
    planned_run(model, [0.1 + 0.2], LoggingToCSV(tmp_path / "metrics.csv"))
    assert float(rows(tmp_path / "metrics.csv")[0]["train_loss"]) == 0.1 + 0.2


class LateMetric(Callback):
    def epoch_complete(self, state: State) -> None:
        if state.epoch >= 1:
            state.metrics["dice, mean"] = 0.5


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_csv_gets_a_column_for_a_metric_that_appears_later(
    separator: str, model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.csv"
    planned_run(model, [3.0, 2.0, 1.0], LoggingToCSV(path, separator=separator), LateMetric())
    found = rows(path, separator)
    assert [row["dice, mean"] for row in found] == ["", "0.5", "0.5"]
    assert [row["train_loss"] for row in found] == ["3.0", "2.0", "1.0"]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_csv_that_is_continued_keeps_its_columns(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    planned_run(model, [3.0, 2.0], LoggingToCSV(path), LateMetric())
    planned_run(model, [1.0], LoggingToCSV(path, append=True))
    assert [row["train_loss"] for row in rows(path)] == ["3.0", "2.0", "1.0"]
    assert [row["dice, mean"] for row in rows(path)] == ["", "0.5", ""]


def test_csv_that_cannot_get_a_column_stays_whole(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    path = tmp_path / "metrics.csv"
    path.write_text("time,epoch,lr,train_loss\n")
    with pytest.raises(
        ArgusError, match=r"logging_to_csv cannot write .*: No space left on device; make room there"
    ):
        planned_run(model, [3.0, 2.0], LoggingToCSV(path, append=True), LateMetric())
    assert [row["train_loss"] for row in rows(path)] == ["3.0"]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_csv_refuses_to_continue_another_kind_of_file(model: Model, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArgusError, match="logging_to_csv cannot append to .*, which is not a CSV file"):
        planned_run(model, [1.0], LoggingToCSV(tmp_path / "metrics.csv", append=True))


def test_csv_without_a_header_has_rows_only_and_keeps_them_when_appending(
    model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.csv"
    planned_run(model, [3.0, 2.0, 1.0], LoggingToCSV(path, write_header=False), LateMetric())
    planned_run(model, [4.0], LoggingToCSV(path, write_header=False, append=True))
    with path.open(newline="") as file:
        found = list(csv.reader(file))
    assert [row[1] for row in found] == ["0", "1", "2", "0"]
    assert [len(row) for row in found] == [4, 5, 5, 4]  # the late metric comes last, where it is new


def test_csv_without_a_header_forgets_the_rows_of_after_a_checkpoint(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    callback = LoggingToCSV(path, write_header=False)
    planned_run(model, [3.0, 2.0, 1.0], callback)
    kept = {**callback.state_dict(), "rows": 1}
    again = LoggingToCSV(path, write_header=False, append=True)
    again.load_state_dict(kept)
    planned_run(model, [5.0], again)
    assert [line.split(",")[3] for line in path.read_text().splitlines()] == ["3.0", "5.0"]


@pytest.mark.parametrize("separator", ["", "ab", '"', "\n", None])
def test_csv_separator_that_separates_nothing_is_refused(separator: Any, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="separator of logging_to_csv is .+; give one character"):
        LoggingToCSV(tmp_path / "metrics.csv", separator=separator)


# JSON Lines.


def test_jsonl_has_an_object_for_each_epoch(model: Model, tmp_path: Path) -> None:
    planned_run(model, [0.5, 0.25], MetricsJSONL(tmp_path / "metrics.jsonl"))
    first, second = objects(tmp_path / "metrics.jsonl")
    assert first | {"time": ""} == {
        "epoch": 0,
        "global_step": 2,
        "updates_skipped": 0,
        "time": "",
        "lr": 0.1,
        "train_loss": 0.5,
    }
    assert second | {"time": ""} == {
        "epoch": 1,
        "global_step": 4,
        "updates_skipped": 0,
        "time": "",
        "lr": 0.1,
        "train_loss": 0.25,
    }
    assert datetime.fromisoformat(first["time"]).tzinfo is not None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_jsonl_stays_json_when_a_value_is_not_finite(value: float, model: Model, tmp_path: Path) -> None:
    planned_run(model, [value], MetricsJSONL(tmp_path / "metrics.jsonl"))
    (found,) = objects(tmp_path / "metrics.jsonl")
    assert found["train_loss"] == str(value)
    assert float(found["train_loss"]) == pytest.approx(value, nan_ok=True)


def test_jsonl_line_is_in_the_file_when_the_epoch_is_done(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    counts: list[int] = []

    class Read(Callback):
        def epoch_start(self, state: State) -> None:
            counts.append(len(objects(path)))

    planned_run(model, [1.0, 1.0, 1.0], MetricsJSONL(path), Read())
    assert counts == [0, 1, 2]


def test_learning_rate_is_that_of_the_epoch_not_of_the_next(model: Model, tmp_path: Path) -> None:
    schedule = ("StepLR", {"step_size": 1, "gamma": 0.5})
    callbacks = [MetricsJSONL(tmp_path / "metrics.jsonl")]
    model.fit(batches(), num_epochs=3, callbacks=callbacks, lr_scheduler=schedule)
    assert [line["lr"] for line in objects(tmp_path / "metrics.jsonl")] == [0.1, 0.05, 0.025]


def test_each_parameter_group_has_its_learning_rate(tmp_path: Path) -> None:
    class TwoRates(Model):
        def build_optimizer(self, factory: Any, params: Any) -> Any:
            hidden, out = (list(part.parameters()) for part in self.nn_module.children())
            return factory([{"params": hidden, "lr": 0.1}, {"params": out, "lr": 0.2}])

    with small_model() as small:
        model = TwoRates({key: small.params[key] for key in ("nn_module", "loss", "optimizer", "device")})
    writers = [
        MetricsJSONL(tmp_path / "a.jsonl"),
        LoggingToCSV(tmp_path / "a.csv"),
        LoggingToFile(tmp_path / "a.txt"),
    ]
    model.fit(batches(), callbacks=writers)
    assert objects(tmp_path / "a.jsonl")[0]["lr"] == [0.1, 0.2]
    assert rows(tmp_path / "a.csv")[0]["lr"] == "0.1 0.2"
    assert "lr 0.1 0.2  " in (tmp_path / "a.txt").read_text()


def test_writers_in_validation_continue_their_file_from_epoch_to_epoch(model: Model, tmp_path: Path) -> None:
    writer = ("metrics_jsonl", {"file_path": str(tmp_path / "val.jsonl")})
    model.fit(batches(), batches(), 3, val_callbacks=[writer])
    assert [line["epoch"] for line in objects(tmp_path / "val.jsonl")] == [0, 1, 2]


def test_jsonl_begins_a_line_after_one_that_was_cut_off(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0}')
    planned_run(model, [1.0], MetricsJSONL(path, append=True))
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [0, 0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_log_on_a_full_disk_is_told_once_and_ends_no_run(
    model: Model, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = planned_run(model, [1.0, 1.0], LoggingToFile("/dev/full"))
    assert ended.epoch == 1
    told = "/dev/full cannot be written: No space left on device; the run continues without it"
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == [told]
    assert capsys.readouterr().err == ""

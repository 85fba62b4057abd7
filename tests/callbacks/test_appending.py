"""Files that a run goes on with may hold anything; they are never read whole, nor are their holes."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from planned_runs import planned_engine, small_model

from argus_core import Model
from argus_core.callbacks import LoggingToCSV, LoggingToFile, MetricsJSONL
from argus_core.errors import ArgusError

READERS = [LoggingToCSV, MetricsJSONL]
MANY = 100_000


@pytest.fixture
def model() -> Iterator[Model]:
    with small_model() as model:
        yield model


def resume(model: Model, callback: Any) -> None:
    """Go on with a run that has made one epoch."""
    planned_engine(model, [1.0, 1.0], [callback]).run(range(1), 2, 1)


@pytest.mark.parametrize("reader", READERS)
def test_file_full_of_holes_is_refused_at_once(reader: Any, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ArgusError, match=r"its size is 1,099,511,627,776 bytes, of which 0 are on the disk"):
        resume(model, reader(path))
    assert path.stat().st_size == 2**40


def test_log_full_of_holes_is_gone_on_with(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with path.open("wb") as file:
        file.truncate(2**40)
    resume(model, LoggingToFile(path))
    assert path.stat().st_size > 2**40


@pytest.mark.parametrize(("reader", "line"), [(LoggingToCSV, "1,2\n"), (MetricsJSONL, "{}\n")])
@pytest.mark.parametrize("kept", [None, 3])
def test_lines_are_counted_in_no_memory(
    reader: Any, line: str, kept: int | None, model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text(line * MANY)
    callback = reader(path)
    if kept is not None:
        key = next(iter(callback.state_dict().keys() & {"rows", "lines"}))
        callback.load_state_dict({**callback.state_dict(), key: kept})
    tracemalloc.start()
    resume(model, callback)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    lines = path.read_text().splitlines()
    has_header = reader is LoggingToCSV
    assert len(lines) == (MANY if kept is None else kept + has_header) + 1
    assert peak < 2**20, peak


def test_line_without_end_is_refused_where_it_is_to_be_a_row(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("," * 3 * 2**20)
    with pytest.raises(ArgusError, match="logging_to_csv cannot append to .*: a line has 1,048,576 char"):
        resume(model, LoggingToCSV(path))


@pytest.mark.parametrize("content", [b"\xff\xfe", b'"' + b"x" * 200_000])
def test_what_is_not_csv_is_refused_and_kept(content: bytes, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(ArgusError, match="logging_to_csv cannot append to .*, which is not a CSV file"):
        resume(model, LoggingToCSV(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "[" * 100_000 + "\n" + text,
        lambda text: '{"epoch": 1e999}\n' + text,
        lambda text: '{"epoch": 1, "epoch": 2}\n' + text,
        lambda text: "x" * 3 * 2**20 + "\n" + text,
        lambda text: "\0\n" + text,
        lambda text: text.rstrip("\n"),
    ],
)
def test_lines_of_any_content_stay(spoil: Callable[[str], str], model: Model, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(spoil('{"epoch": 0}\n'))
    before = path.read_text().rstrip("\n") + "\n"
    callback = MetricsJSONL(path)
    resume(model, callback)
    assert path.read_text().startswith(before)
    assert json.loads(path.read_text().splitlines()[-1])["epoch"] == 1
    assert callback.state_dict()["lines"] == len(path.read_text().splitlines())


def test_new_column_is_added_to_rows_that_are_read_one_by_one(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("time,epoch\na,0\nb,1,extra\n")
    resume(model, LoggingToCSV(path))
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["time", "epoch", "lr", "train_loss"]
    assert rows[:2] == [["a", "0", "", ""], ["b", "1", "extra", ""]]
    assert rows[2][1] == "1"

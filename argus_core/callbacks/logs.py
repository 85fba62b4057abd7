"""Logs of a run: a text log, a CSV file or a JSON Lines file."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from argus_core.callbacks.appending import count_lines, lines_of
from argus_core.callbacks.epoch_report import (
    EpochRecord,
    EpochReport,
    LearningRate,
    format_midway,
    format_record,
    rates,
)
from argus_core.callbacks.log_file import LogFile, attach
from argus_core.callbacks.log_format import LineFormatter
from argus_core.callbacks.midway import MidwayRecord
from argus_core.callbacks.state import State
from argus_core.errors import ArgusError, ParamsError
from argus_core.files.confinement import opener, replacing
from argus_core.files.output_files import make_folder, place_to_write, writing
from argus_core.files.working_folder import shown
from argus_core.hooks import hookimpl
from argus_core.registry.file_params import WRITES
from argus_core.storage.stored import COUNT, Rule
from argus_core.text import escape_json, one_line, strict_json

__all__ = ["LoggingToCSV", "LoggingToFile", "MetricsJSONL"]

_LINE = "%(asctime)s %(levelname)s %(message)s"


class LoggingToFile(EpochReport):
    """Writes a log: a line for each epoch, all messages of ``state.logger``, and the run's exception, if any.

    Args:
        file_path: the log; parent folders are made.
        append: whether to keep what the file holds. A resumed run always does.
    """

    name = "logging_to_file"
    reads_predictions = False
    computes = ()
    exact_types = True
    file_params: ClassVar = {"file_path": WRITES}
    run_paths: ClassVar = {"file_path": "log.txt"}

    def __init__(self, file_path: str | Path, append: bool = False) -> None:
        self.file_path = place_to_write(self.name, "file_path", file_path)
        self.append = append
        self._handler: logging.Handler = logging.NullHandler()
        self._process = os.getpid()
        self._undo = ExitStack()

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        """Open the file for messages of level INFO and above."""
        self._undo.close()  # of a run whose end was never seen
        self._process = os.getpid()
        _begin(self.name, self.file_path, self.append or _is_resumed(state))
        with writing(self.name, self.file_path):  # another log, or process, may write there as well
            file = open(self.file_path, "a", encoding="utf-8", opener=opener)  # noqa: SIM115
        self._handler = LogFile(file, self.file_path, state.logger)
        self._handler.setFormatter(LineFormatter(_LINE))
        self._undo.callback(setattr, self, "_handler", logging.NullHandler())
        self._undo.callback(self._handler.close)
        attach(self._handler, state.logger, self._undo)
        self._say(state, logging.INFO, f"{state.phase} starts, {_bounds(state)}")

    def report(self, record: EpochRecord, state: State) -> None:
        """Write the epoch's line."""
        self._say(state, logging.INFO, format_record(record))

    def report_midway(self, record: MidwayRecord, state: State) -> None:
        """Write a line about the middle of an epoch."""
        self._say(state, logging.INFO, format_midway(record, state.engine.num_epochs))

    @hookimpl(trylast=True)
    def complete(self, state: State) -> None:
        """Write the last line and close the file."""
        self._say(state, logging.INFO, f"{state.phase} complete, updates: {state.global_step}")
        self._undo.close()

    @hookimpl(trylast=True)
    def catch_exception(self, state: State) -> None:
        """Write the traceback and close the file."""
        self._say(state, logging.ERROR, f"{state.phase} ended by an exception", state.exception)
        self._undo.close()

    def _say(self, state: State, level: int, message: str, error: BaseException | None = None) -> None:
        """Write to this file alone: with two such callbacks each message would appear twice."""
        if os.getpid() != self._process:  # a fork, which is not the run
            return
        exc_info = (type(error), error, error.__traceback__) if error is not None else None
        self._handler.handle(
            logging.LogRecord(state.logger.name, level, __file__, 0, message, None, exc_info)
        )


class LoggingToCSV(EpochReport):
    """Writes a CSV file with a row for each epoch: time, epoch (counting from 0), lr and all metrics.

    Args:
        file_path: the file; parent folders are made.
        separator: between columns.
        append: whether to keep what the file holds. A resumed run always does.
        write_header: whether the first line names the columns. Without it a metric that is new comes last.
    """

    name = "logging_to_csv"
    state_rules: ClassVar[Mapping[str, Rule]] = {**EpochReport.state_rules, "rows": COUNT}
    reads_predictions = False
    computes = ()
    exact_types = True
    file_params: ClassVar = {"file_path": WRITES}
    run_paths: ClassVar = {"file_path": "metrics.csv"}

    def __init__(
        self, file_path: str | Path, separator: str = ",", append: bool = False, write_header: bool = True
    ) -> None:
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
            raise ParamsError(
                f"separator of {self.name} is {separator!r}; give one character, such as ',' or ';'"
            )
        self.file_path = place_to_write(self.name, "file_path", file_path)
        self.separator = separator
        self.append = append
        self.write_header = write_header
        self._columns: list[str] = []
        self._rows = 0
        self._kept: int | None = None
        self._is_ahead = False  # the file, of the checkpoint that the run resumes from

    def start(self, state: State) -> None:
        """Start the file, or read its columns."""
        _begin(self.name, self.file_path, self.append or _is_resumed(state))
        with self._reading() as rows:
            self._columns = next(rows, []) if self.write_header else []
            self._rows = sum(1 for _ in rows)
        self._is_ahead = self._kept is not None and self._kept < self._rows
        if self._kept is not None:
            self._rows = min(self._kept, self._rows)
        self._kept = None

    def state_dict(self) -> dict[str, Any]:
        """Return the number of rows; a run that resumes from here removes later ones."""
        return {**super().state_dict(), "rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; later rows are removed once there is a new one."""
        super().load_state_dict(state_dict)
        self._kept = state_dict["rows"]

    def report(self, record: EpochRecord, state: State) -> None:
        """Write the epoch's row; a new metric gets a column, which is empty in earlier rows."""
        self._write(self.row(record))

    def report_midway(self, record: MidwayRecord, state: State) -> None:
        """Write a row about the middle of an epoch, which has a phase and a global_step besides."""
        row = {"time": record.time, "epoch": record.epoch, "lr": _csv_lr(record.lr), "phase": record.phase}
        metrics = {one_line(name): value for name, value in record.metrics.items()}
        self._write({**row, "global_step": record.global_step, **record.rates, **metrics})

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._is_ahead:
            self._is_ahead = False
            with self._replacing() as (rows, writer):
                writer.writerows(islice(rows, self._rows + bool(self.write_header)))
        with writing(self.name, self.file_path):
            if not set(row) <= set(self._columns):
                self._add_columns([column for column in row if column not in self._columns])
            with open(self.file_path, "a", encoding="utf-8", newline="", opener=opener) as file:
                self._writer(file).writerow([row.get(column, "") for column in self._columns])
        self._rows += 1

    def row(self, record: EpochRecord) -> dict[str, Any]:
        """Return the values of an epoch by column; override it to write others."""
        metrics = {one_line(name): value for name, value in record.metrics.items()}
        return {"time": record.time, "epoch": record.epoch, "lr": _csv_lr(record.lr), **metrics}

    @contextmanager
    def _reading(self) -> Iterator[Iterator[list[str]]]:
        """Yield the rows of the file."""
        try:
            with (
                writing(self.name, self.file_path),
                open(self.file_path, encoding="utf-8", newline="", opener=opener) as file,
            ):
                yield csv.reader(lines_of(self.name, self.file_path, file), delimiter=self.separator)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ArgusError(
                f"{self.name} cannot append to {shown(self.file_path)!r}, which is not a CSV file ({error}); "
                "choose another path"
            ) from error

    def _add_columns(self, columns: list[str]) -> None:
        has_header = bool(self._columns)
        self._columns = self._columns + columns
        if not self.write_header:
            return
        with self._replacing() as (rows, writer):
            if has_header:
                next(rows, None)
            writer.writerow(self._columns)
            writer.writerows(row + [""] * (len(self._columns) - len(row)) for row in rows)

    @contextmanager
    def _replacing(self) -> Iterator[tuple[Iterator[list[str]], Any]]:
        """Replace the file by the rows written in the block, atomically."""
        with replacing(self.file_path, newline="") as file, self._reading() as rows:
            yield rows, self._writer(file)

    def _writer(self, file: Any) -> Any:
        return csv.writer(file, delimiter=self.separator, lineterminator="\n")


class MetricsJSONL(EpochReport):
    """Writes a JSON object on a line for each epoch, and for values of the middle of one.

    A line about an epoch has epoch (from 0), global_step, updates_skipped (of this epoch), time, lr and all
    metrics. A line about its middle has a phase as well: ``"val"`` of a validation, or ``"train"``.

    Values that are not finite are the strings ``"nan"``, ``"inf"`` and ``"-inf"``, since JSON has no numbers
    for them; Python's ``float`` reads them back.

    Args:
        file_path: the file; parent folders are made.
        append: whether to keep what the file holds. A resumed run always does.
    """

    name = "metrics_jsonl"
    state_rules: ClassVar[Mapping[str, Rule]] = {**EpochReport.state_rules, "lines": COUNT}
    reads_predictions = False
    computes = ()
    exact_types = True
    file_params: ClassVar = {"file_path": WRITES}
    run_paths: ClassVar = {"file_path": "metrics.jsonl"}

    def __init__(self, file_path: str | Path, append: bool = False) -> None:
        self.file_path = place_to_write(self.name, "file_path", file_path)
        self.append = append
        self._lines = 0
        self._kept: int | None = None
        self._end: int | None = None  # of the lines to keep once there is a new one

    def start(self, state: State) -> None:
        """Begin the file."""
        _begin(self.name, self.file_path, self.append or _is_resumed(state))
        with writing(self.name, self.file_path), open(self.file_path, "r+b", opener=opener) as file:
            self._lines, end, is_cut_off = count_lines(self.name, self.file_path, file, self._kept)
            if is_cut_off:  # somebody has edited it, or a write was cut off
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
                end = file.tell()
        self._end = None if self._kept is None else end
        self._kept = None

    def state_dict(self) -> dict[str, Any]:
        """Return the number of lines; a run that resumes from here removes later ones."""
        return {**super().state_dict(), "lines": self._lines}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; later lines are removed once there is a new one."""
        super().load_state_dict(state_dict)
        self._kept = state_dict["lines"]

    def report(self, record: EpochRecord, state: State) -> None:
        """Write the epoch's line."""
        values = {
            "epoch": record.epoch,
            "global_step": record.global_step,
            "updates_skipped": record.updates_skipped,
            "time": record.time,
            "lr": record.lr,
        }
        self._write({**values, **record.metrics})

    def report_midway(self, record: MidwayRecord, state: State) -> None:
        """Write a line about the middle of an epoch."""
        values = {"phase": record.phase, "epoch": record.epoch, "global_step": record.global_step}
        self._write({**values, "time": record.time, "lr": record.lr, **record.rates, **record.metrics})

    def _write(self, values: Mapping[str, Any]) -> None:
        line = json.dumps(strict_json(values), allow_nan=False)
        with (
            writing(self.name, self.file_path),
            open(self.file_path, "a", encoding="utf-8", opener=opener) as file,
        ):
            if self._end is not None:
                file.truncate(self._end)
                self._end = None
            file.write(escape_json(line) + "\n")
        self._lines += 1


def _csv_lr(lr: LearningRate) -> str:
    return " ".join(map(str, rates(lr)))


def _bounds(state: State) -> str:
    engine = state.engine
    bounds = {"epochs": engine.num_epochs, "updates": engine.num_updates}
    return ", ".join(f"{name}: {most}" for name, most in bounds.items() if most) or "no number of epochs"


def _is_resumed(state: State) -> bool:
    return state.global_step > 0 or state.epoch > 0


def _begin(callback: str, path: Path, append: bool) -> None:
    """Make the folder and the file, so that a path that cannot be written fails before training."""
    make_folder(callback, path.parent)
    with writing(callback, path), open(path, "a" if append else "w", encoding="utf-8", opener=opener):
        pass

"""Logs of a run: a text log or a JSON Lines file."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from argus_core.callbacks.appending import count_lines
from argus_core.callbacks.epoch_report import (
    EpochRecord,
    EpochReport,
    format_midway,
    format_record,
)
from argus_core.callbacks.going_back import TABLE, TableAhead
from argus_core.callbacks.log_beginning import begin_file
from argus_core.callbacks.log_file import LogFile, attach
from argus_core.callbacks.log_format import LineFormatter
from argus_core.callbacks.midway import MidwayRecord
from argus_core.callbacks.state import State
from argus_core.files.confinement import opener
from argus_core.files.output_files import place_to_write, writing
from argus_core.hooks import hookimpl
from argus_core.registry.file_params import WRITES
from argus_core.storage.stored import COUNT, Rule
from argus_core.text import escape_json, strict_json

__all__ = ["LoggingToFile", "MetricsJSONL"]

_LINE = "%(asctime)s %(levelname)s %(message)s"
_LOG = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ "
_OBJECT = r'\{"(epoch|phase)": '


class LoggingToFile(EpochReport):
    """Writes a log: a line for each epoch, all messages of ``state.logger``, and the run's exception, if any.

    Args:
        file_path: the log; parent folders are made.
        append: whether to keep what the file holds. A resumed run always does.

    Raises:
        ArgusError: at the start of a new run: the file is there, and is not such a log.
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
        begin_file(self.name, self.file_path, state, self.append, _LOG)
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


class MetricsJSONL(EpochReport):
    """Writes a JSON object on a line for each epoch, and for values of the middle of one.

    A line about an epoch has epoch (from 0), global_step, updates_skipped (of this epoch), time, lr and all
    metrics. A line about its middle has a phase as well: ``"val"`` of a validation, or ``"train"``.

    Values that are not finite are the strings ``"nan"``, ``"inf"`` and ``"-inf"``, since JSON has no numbers
    for them; Python's ``float`` reads them back.

    Args:
        file_path: the file; parent folders are made.
        append: whether to keep what the file holds. A resumed run always does.

    Raises:
        ArgusError: at the start of a new run: the file is there, and is not such a log.
    """

    name = "metrics_jsonl"
    state_rules: ClassVar[Mapping[str, Rule]] = {**EpochReport.state_rules, "lines": COUNT, "table": TABLE}
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
        self._table: str | None = None  # that the run wrote before it was resumed
        self._end: int | None = None  # of the lines to keep once there is a new one
        self._ahead = TableAhead(self.file_path)

    def start(self, state: State) -> None:
        """Begin the file."""
        begin_file(self.name, self.file_path, state, self.append, _OBJECT)
        with writing(self.name, self.file_path):
            if self._table is not None and not self._ahead.is_of(self._table):
                self._kept = None  # the run wrote another file
            end = self._count_lines()
            if self._kept is not None and self._kept > self._lines and self._ahead.put_back():
                end = self._count_lines()
            is_ahead = self._kept is not None and end < self.file_path.stat().st_size
        self._end = end if is_ahead else None
        self._kept = self._table = None

    def _count_lines(self) -> int:
        """Count the lines to keep, and return their end in bytes."""
        with open(self.file_path, "r+b", opener=opener) as file:
            self._lines, end, is_cut_off = count_lines(self.name, self.file_path, file, self._kept)
            if is_cut_off:  # a user has edited it, or a write was cut off
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
                end = file.tell()
        return end

    def checkpoint_saved(self, state: State) -> None:
        """Forget the later lines that the run has replaced, which no checkpoint is of any more."""
        self._ahead.drop()

    def complete(self, state: State) -> None:
        """Do the same at the end of the run."""
        self._ahead.drop()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of lines; a run that resumes from here removes later ones."""
        return {**super().state_dict(), "lines": self._lines, "table": self._ahead.identity()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; later lines are removed once there is a new one."""
        super().load_state_dict(state_dict)
        self._kept, self._table = state_dict["lines"], state_dict.get("table")

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
        if self._end is not None:
            with writing(self.name, self.file_path):
                self._ahead.keep()
        with (
            writing(self.name, self.file_path),
            open(self.file_path, "a", encoding="utf-8", opener=opener) as file,
        ):
            if self._end is not None:
                file.truncate(self._end)
                self._end = None
            file.write(escape_json(line) + "\n")
        self._lines += 1


def _bounds(state: State) -> str:
    engine = state.engine
    bounds = {"epochs": engine.num_epochs, "updates": engine.num_updates}
    return ", ".join(f"{name}: {most}" for name, most in bounds.items() if most) or "no number of epochs"
